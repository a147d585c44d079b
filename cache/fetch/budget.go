package fetch

import "time"

const (
	// quiet is how long nobody must have asked for anything until background fetching
	// goes on: longer than a guest that boots thinks between two reads.
	quiet = 150 * time.Millisecond
	// recent is until when somebody may well come back, so that little is begun.
	recent = 2 * time.Second
	// trickle is how often a background flight starts where there is never quiet, so
	// that a file that is always read gets whole all the same.
	trickle = 500 * time.Millisecond
	// overdue is after how long in the queue readahead goes before demand, one at a time.
	overdue = time.Second
	// SmallFlight is the size of a background flight that a reader may come to wait beside.
	SmallFlight = 256 << 10
)

// Ticket is a flight's place in the queue of a Budget.
type Ticket struct {
	File  uint64 // fairness is between files
	Class Class
	Size  int64
	Value any // the owner's

	// Most is how many bytes the flight may bring; set when it is its turn.
	Most int64

	since   time.Time
	seq     uint64
	state   ticketState
	charged int64
	aged    bool // has the place kept for those that waited long
}

type ticketState uint8

const (
	idle ticketState = iota
	queued
	flying
)

// Budget says which flight is next. It keeps the number of flights and their bytes
// within bounds, keeps places free for demand, and deals them out fairly: among the
// most urgent flights the next is of the file that has the fewest in the air, and no
// file takes the last places. It belongs to its owner's lock.
type Budget struct {
	requests, reserve int
	bytes             int64

	files    map[uint64]*fileQueue
	flying   int
	flyingOf [classes]int
	charged  int64
	queuedOf [classes]int
	seq      uint64

	lastAsked   time.Time // somebody wanted something, or got it
	lastTrickle time.Time
	agedFlying  bool
}

// fileQueue is what one file has in the queue and in the air.
type fileQueue struct {
	flying int
	queues [classes][]*Ticket
}

// NewBudget allows so many flights at once, with so many bytes.
func NewBudget(requests int, bytes int64) *Budget {
	b := &Budget{requests: max(requests, 1), bytes: max(bytes, FlightSize), files: map[uint64]*fileQueue{}}
	if b.requests > 1 {
		b.reserve = max(1, b.requests/8)
	}
	return b
}

// Submit puts t in the queue.
func (b *Budget) Submit(t *Ticket, now time.Time) {
	f := b.files[t.File]
	if f == nil {
		f = &fileQueue{}
		b.files[t.File] = f
	}
	b.seq++
	t.seq, t.since, t.state = b.seq, now, queued
	f.queues[t.Class] = append(f.queues[t.Class], t)
	b.queuedOf[t.Class]++
	b.asked(t.Class, now)
}

func (b *Budget) asked(c Class, now time.Time) {
	if c < Background {
		b.lastAsked = now
	}
}

// Raise makes t more urgent; one in the air counts from now on for what it is.
func (b *Budget) Raise(t *Ticket, class Class, now time.Time) {
	if class >= t.Class {
		return
	}
	switch t.state {
	case queued:
		b.unqueue(t)
		t.Class = class
		b.Submit(t, now)
	case flying:
		b.flyingOf[t.Class]--
		b.flyingOf[class]++
		t.Class = class
		b.asked(class, now)
	}
}

// Resize changes the size of a flight that waits.
func (b *Budget) Resize(t *Ticket, size int64) {
	if t.state == queued {
		t.Size = size
	}
}

// Cancel takes t out of the queue; false: it has left it before, and Done has to come.
func (b *Budget) Cancel(t *Ticket) bool {
	if t.state != queued {
		return false
	}
	b.unqueue(t)
	t.state = idle
	b.tidy(t.File)
	return true
}

func (b *Budget) unqueue(t *Ticket) {
	q := b.files[t.File].queues[t.Class]
	for i := range q {
		if q[i] == t {
			b.files[t.File].queues[t.Class] = append(q[:i], q[i+1:]...)
			break
		}
	}
	b.queuedOf[t.Class]--
}

func (b *Budget) tidy(file uint64) {
	f := b.files[file]
	if f.flying > 0 {
		return
	}
	for _, q := range f.queues {
		if len(q) > 0 {
			return
		}
	}
	delete(b.files, file)
}

// Next takes the ticket whose turn it is out of the queue. Where it is nil and again
// is positive, time alone may bring the next one, after so long.
func (b *Budget) Next(now time.Time) (t *Ticket, again time.Duration) {
	if b.flying >= b.requests {
		return nil, 0
	}
	if t := b.late(now); t != nil {
		return b.start(t, now), 0
	}
	for class := range Class(classes) {
		if b.queuedOf[class] == 0 {
			continue
		}
		if class == Background {
			if wait := b.hold(now); wait > 0 {
				again = wait
				continue
			}
		}
		if b.flying >= b.most(class) || class == Background && b.flyingOf[Background] >= b.mostBackground(now) {
			continue
		}
		t := b.pick(class)
		if t == nil {
			continue
		}
		if !b.fits(t, now) {
			return nil, again // who waits for bytes is not overtaken by smaller ones
		}
		return b.start(t, now), 0
	}
	return nil, again
}

// most is how many may be in the air for one of a class to start.
func (b *Budget) most(c Class) int {
	if c >= Readahead {
		return b.requests - b.reserve
	}
	return b.requests
}

// mostBackground: a reader that comes shares the line with few while it may come any moment.
func (b *Budget) mostBackground(now time.Time) int {
	if now.Sub(b.lastAsked) < recent {
		return max(1, b.requests/16)
	}
	return max(1, b.requests/2)
}

// size is what a flight of t brings at most.
func (b *Budget) size(t *Ticket, now time.Time) int64 {
	if t.Class == Background && now.Sub(b.lastAsked) < recent {
		return min(t.Size, SmallFlight)
	}
	return t.Size
}

func (b *Budget) fits(t *Ticket, now time.Time) bool {
	limit := b.bytes
	if t.Class >= Readahead {
		limit -= b.bytes / 8
	}
	return b.flying == 0 || b.charged+b.size(t, now) <= limit
}

// hold is how long background has to wait for quiet; 0: not at all.
func (b *Budget) hold(now time.Time) time.Duration {
	busy := b.queuedOf[Demand] + b.queuedOf[Header] + b.queuedOf[Readahead] + b.flyingOf[Demand] + b.flyingOf[Header] + b.flyingOf[Readahead]
	if busy == 0 {
		return max(0, quiet-now.Sub(b.lastAsked))
	}
	return quiet
}

// Hold says how long a background flight in the air should let others go first.
func (b *Budget) Hold(now time.Time) time.Duration { return b.hold(now) }

// late finds who has waited so long that it goes before demand.
func (b *Budget) late(now time.Time) *Ticket {
	if b.queuedOf[Readahead] > 0 && !b.agedFlying {
		if t := b.pick(Readahead); t != nil && now.Sub(t.since) >= overdue && b.fits(t, now) {
			t.aged, b.agedFlying = true, true
			return t
		}
	}
	if b.queuedOf[Background] > 0 && b.flyingOf[Background] == 0 && b.hold(now) > 0 {
		if t := b.pick(Background); t != nil && now.Sub(t.since) >= trickle && now.Sub(b.lastTrickle) >= trickle && b.fits(t, now) {
			b.lastTrickle = now
			return t
		}
	}
	return nil
}

// pick chooses among the files that have flights of a class waiting.
func (b *Budget) pick(class Class) *Ticket {
	var best *Ticket
	var least int
	for _, f := range b.files {
		q := f.queues[class]
		// The last places are for files that have none yet.
		if len(q) == 0 || f.flying > 0 && f.flying >= b.requests-b.reserve {
			continue
		}
		if best == nil || f.flying < least || f.flying == least && q[0].seq < best.seq {
			best, least = q[0], f.flying
		}
	}
	return best
}

func (b *Budget) start(t *Ticket, now time.Time) *Ticket {
	b.unqueue(t)
	t.state = flying
	t.Most = b.size(t, now)
	t.charged = t.Most
	b.files[t.File].flying++
	b.flying++
	b.flyingOf[t.Class]++
	b.charged += t.charged
	return t
}

// Done ends a flight that Next had started.
func (b *Budget) Done(t *Ticket, now time.Time) {
	if t.state != flying {
		return
	}
	t.state = idle
	if t.aged {
		t.aged, b.agedFlying = false, false
	}
	b.files[t.File].flying--
	b.flying--
	b.flyingOf[t.Class]--
	b.charged -= t.charged
	b.asked(t.Class, now)
	b.tidy(t.File)
}

// Drain takes all that wait out of the queue.
func (b *Budget) Drain() []*Ticket {
	var all []*Ticket
	for _, f := range b.files {
		for _, q := range f.queues {
			all = append(all, q...)
		}
	}
	for _, t := range all {
		b.Cancel(t)
	}
	return all
}

// Flying is how many flights are in the air, and with how many bytes.
func (b *Budget) Flying() (flights int, bytes int64) { return b.flying, b.charged }

// Queued is how many wait.
func (b *Budget) Queued() int {
	n := 0
	for _, q := range b.queuedOf {
		n += q
	}
	return n
}
