package cache

import (
	"context"
	"slices"
	"strings"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/layout"
)

// mayGo says whether a dirty file that nobody has open for writing may be uploaded
// now: settled, and nothing of its directory that was finished earlier in the way.
func (c *Cache) mayGo(j *job, rec *catalog.Inode, cl layout.Class, path string) error {
	now := c.now()
	_, urgent := c.urgent.Load(rec.Ino)
	c.reorder(rec)
	if due := time.Unix(0, max(rec.FinishedAt, 0)).Add(c.settleFor(rec, cl)); !urgent && now.Before(due) {
		return laterError{due, "waits until nobody has changed it for " + c.settleFor(rec, cl).String()}
	}
	return c.mayOvertake(j, rec, path)
}

// mayOvertake holds a file back behind those of its directory that were finished
// before it. One that cannot be uploaded holds others back for OrderTimeout only;
// a properties file waits for the images it names without limit. Behind few files that
// are on their way, another one may set out: its bytes travel beside theirs, and it
// waits with its last one (awaitEarlier).
func (c *Cache) mayOvertake(j *job, rec *catalog.Inode, path string) error {
	name := rec.Links[0].Name
	if isProperties(name) {
		for _, named := range c.namedBy(rec, path) {
			img, err := c.find(rec.Links[0].Parent, named)
			if err != nil || img.Ino == rec.Ino || !c.lacks(img) {
				continue
			}
			if c.parkBehind(rec.Ino, img.Ino) {
				return errParked
			}
			return laterError{c.now().Add(2 * time.Second), "waits for " + named + ", which it names"}
		}
	}
	way := orderLong
	if rec.Size < c.transfers.Load().PartSize {
		way = orderBrief
	}
	for {
		prev, blocked := c.inTheWay(j, rec.Ino, name, way)
		if !blocked {
			j.way = way
			return nil
		}
		if c.parkBehind(rec.Ino, prev) {
			return errParked
		}
	}
}

const (
	// aheadFiles is how many files of a directory are on their way at once. The first
	// becomes visible one round trip after its last byte was sent, the next one a round
	// trip later: time enough for three to send their other bytes.
	aheadFiles = 4
	// aheadAll bounds those that may wait with their last bytes, over all directories:
	// each has a connection.
	aheadAll = 32
)

// inTheWay returns the file that must be further on its way before this one may set out.
func (c *Cache) inTheWay(j *job, ino Ino, name string, way orderWay) (Ino, bool) {
	earlier := c.order.before(ino, aheadFiles, func(p Ino) bool { return c.passable(p, name) })
	if len(earlier) == 0 {
		return 0, false
	}
	if len(earlier) == aheadFiles {
		return earlier[aheadFiles-1], true
	}
	for _, p := range earlier {
		switch theirs, _, ok := c.order.look(p); {
		case !ok, theirs == orderThere, theirs == orderBrief:
		case theirs == orderLong && way == orderLong: // parts wait for nothing, and cost nothing while they wait
		default:
			return p, true
		}
	}
	if isProperties(name) || !j.ahead() {
		return earlier[0], true
	}
	return 0, false
}

// parkBehind has a file wait until another one is further on its way than it is now;
// it reports false when it is already.
func (c *Cache) parkBehind(ino, first Ino) bool {
	way, _, ok := c.order.look(first)
	if !ok || !c.order.park(ino, first, way) {
		return false
	}
	c.hurry(ino, first)
	return true
}

// holdTime is how long a request waits with its last byte for those before it. S3 gives
// up a connection on which nothing comes for 20 s.
const holdTime = 10 * time.Second

// awaitEarlier returns when all files of the directory that were finished before a file
// are visible, or may be passed, and the file is still the same. When one of them is not
// on its way any more, or takes too long, the answer is errParked.
func (c *Cache) awaitEarlier(ctx context.Context, s *sending) error {
	ino, name := s.rec.Ino, s.rec.Links[0].Name
	limit := time.NewTimer(holdTime)
	defer limit.Stop()
	for {
		earlier := c.order.before(ino, 1, func(p Ino) bool { return c.passable(p, name) })
		if len(earlier) == 0 {
			return nil
		}
		way, moved, ok := c.order.look(earlier[0])
		if !ok || way == orderThere {
			continue
		}
		late := way == orderWaits
		if !late {
			s.job.rest()
			select {
			case <-moved:
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-limit.C:
				late = true
			}
		}
		if late && c.parkBehind(ino, earlier[0]) {
			return errParked
		}
	}
}

// hurry passes a flush on to who is in the way of its file; one that is to be
// compared with the depot is the next, flush or not.
func (c *Cache) hurry(ino, first Ino) {
	c.compares.prefer(first)
	if _, ok := c.urgent.Load(ino); !ok {
		return
	}
	if _, had := c.urgent.LoadOrStore(first, struct{}{}); !had {
		c.work.Add(first, c.now())
	}
}

// passable says whether name need not wait for the file p, finished earlier: it
// has failed for too long, or it is a properties file that itself waits for name.
func (c *Cache) passable(p Ino, name string) bool {
	if img, ok := c.order.waitsFor(p); ok && img != p && c.failsTooLong(img) {
		return true
	}
	if c.failsTooLong(p) {
		return true
	}
	rec, err := c.record(p)
	if err != nil || len(rec.Links) == 0 {
		return true
	}
	if !isProperties(rec.Links[0].Name) {
		return false
	}
	return slices.Contains(c.namedBy(rec, c.pathText(rec)), name)
}

func (c *Cache) failsTooLong(p Ino) bool {
	since, ok := c.failing.Load(p)
	return ok && c.now().Sub(since.(time.Time)) >= c.cfg.Limits.OrderTimeout
}

func isProperties(name string) bool { return strings.HasSuffix(name, ".properties") }

// namedBy reads which files a properties file names.
func (c *Cache) namedBy(rec *catalog.Inode, path string) []string {
	if !resident(rec.State) {
		return nil
	}
	b, err := c.share.ReadFile(path, maxProperties)
	if err != nil {
		return nil // too large or unreadable: no properties file of CloudStack's
	}
	return layout.ParseNamedFiles(b)
}

// maxProperties bounds what is read of a properties file; real ones have 1 KiB.
const maxProperties = 1 << 20
