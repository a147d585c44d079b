package cache

import (
	"context"
	"sync"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/layout"
	"depotfs/cache/queue"
)

// The lanes of the queue: short work has workers of its own, so that it never waits
// for long work to end.
const (
	laneRequests queue.Lane = iota // no bytes: renames, attributes, directories, symlinks
	laneFiles                      // files that go in one request
	laneParts                      // files that go in parts, for hours perhaps
	lanes
)

// requestWorkers is how many short requests are under way at once; they wait for the
// store's answer and use no bandwidth.
const requestWorkers = 8

// handicaps say how much later than it is a file counts as waiting, by class: what
// others wait for goes first, and what keeps coming holds nothing back for longer.
var handicaps = map[string]time.Duration{"template": 0, "snapshot": time.Minute, "volume": 5 * time.Minute}

const (
	otherHandicap = 10 * time.Minute
	// largeHandicap is for what is too large to be a properties file and the like,
	// which say of the others what they are.
	largeHandicap = 2 * time.Minute
	smallFile     = 1 << 20
)

// place says where in the queue an inode waits.
func (c *Cache) place(it *catalog.QueueItem, rec *catalog.Inode, cl layout.Class) queue.Place {
	turn := time.Unix(0, it.Since)
	if !isRegular(rec) || !holdsOnlyCopy(rec.State) {
		return queue.Place{Lane: laneRequests, Turn: turn}
	}
	handicap, ok := handicaps[cl.Name]
	if !ok {
		handicap = otherHandicap
	}
	if rec.Size >= smallFile {
		handicap += largeHandicap
	}
	lane := laneFiles
	if rec.Size >= c.transfers.Load().PartSize {
		lane = laneParts
	}
	return queue.Place{Lane: lane, Turn: turn.Add(handicap)}
}

// job is one inode that a worker attends to, and what it occupies meanwhile.
type job struct {
	c    *Cache
	ino  Ino
	lane queue.Lane
	turn time.Time

	way    orderWay // how its file goes
	rested sync.Once
	early  bool // has one of Cache.early
}

// rest gives the worker's slot to another one: what is left of the job is to wait.
func (j *job) rest() { j.rested.Do(j.c.laneSlots[j.lane].Put) }

// setOut notes that the job's file is on its way from now on: others of its directory
// may follow.
func (j *job) setOut() { j.c.advance(j.ino, j.way) }

// ahead says whether the job may set out before it is its file's turn to arrive.
func (j *job) ahead() bool {
	if !j.early {
		j.early = j.c.early.TryTake()
	}
	return j.early
}

// end gives back what the job occupies.
func (j *job) end() {
	j.c.order.stops(j.ino)
	j.rest()
	if j.early {
		j.c.early.Put()
	}
}

// workLane hands out the work of one lane to as many goroutines as it has slots.
func (c *Cache) workLane(ctx context.Context, lane queue.Lane) error {
	for {
		if err := c.laneSlots[lane].Take(ctx, time.Time{}); err != nil {
			return err
		}
		j := &job{c: c, lane: lane}
		var err error
		if j.ino, err = c.work.Take(ctx, lane); err != nil {
			j.rest()
			return err
		}
		if !c.spawn(func(ctx context.Context) { c.do(ctx, j) }) {
			j.rest()
			return ctx.Err()
		}
	}
}

// do is one job.
func (c *Cache) do(ctx context.Context, j *job) {
	defer j.end()
	d := c.depot.Load()
	if d == nil {
		c.work.Done(j.ino, time.Time{}) // loadQueue finds it again
		return
	}
	retry := c.workOn(ctx, d, j)
	if ctx.Err() != nil {
		return
	}
	c.order.stops(j.ino)
	c.work.Done(j.ino, retry)
	if retry.IsZero() && c.overflow.Load() && c.work.Len() < maxQueued/4 {
		c.loadQueue()
	}
}
