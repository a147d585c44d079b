package queue

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// Lane names the workers that a key is for.
type Lane int

// Place says where a key waits.
type Place struct {
	Lane Lane
	// Turn is the key's place among those of its lane that are due: the earliest is
	// next. The zero Turn is the time at which the key became due.
	Turn time.Time
}

// Queue hands out keys when they are due. All methods may be called concurrently.
// The zero Queue is not usable; see New.
type Queue[K comparable] struct {
	now func() time.Time

	mu    sync.Mutex // guards all below; nothing is called while it is held
	items map[K]*item[K]
	lanes []*lane[K]
}

// lane is what waits for the same workers.
type lane[K comparable] struct {
	waiting line[K]       // by the time at which they are due
	due     line[K]       // by turn
	wake    chan struct{} // closed and replaced when there may be something to take, earlier than was known
}

type item[K comparable] struct {
	key     K
	place   Place
	at      time.Time
	in      *line[K] // nil while a worker has it
	index   int      // in that
	again   bool     // added while a worker had it
	againAt time.Time
}

// New makes an empty queue of so many lanes that tells the time by now.
func New[K comparable](lanes int, now func() time.Time) *Queue[K] {
	q := &Queue[K]{now: now, items: map[K]*item[K]{}}
	for range lanes {
		l := &lane[K]{wake: make(chan struct{})}
		l.waiting.before = func(a, b *item[K]) bool { return a.at.Before(b.at) }
		l.due.before = func(a, b *item[K]) bool { return a.turn().Before(b.turn()) }
		q.lanes = append(q.lanes, l)
	}
	return q
}

// turn is the place among those that are due.
func (it *item[K]) turn() time.Time {
	if it.place.Turn.IsZero() {
		return it.at
	}
	return it.place.Turn
}

// Add makes key due at the given time. A key that waits already gets the earlier
// of the two times and keeps its place, one that is new has the first lane; one that
// a worker has is handed out again after Done.
func (q *Queue[K]) Add(key K, at time.Time) { q.put(key, at, nil) }

// Reschedule is Add, but the given time and place replace a waiting key's own.
func (q *Queue[K]) Reschedule(key K, at time.Time, place Place) { q.put(key, at, &place) }

func (q *Queue[K]) put(key K, at time.Time, place *Place) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it, ok := q.items[key]
	switch {
	case !ok:
		it = &item[K]{key: key}
		q.items[key] = it
	case it.in == nil:
		if place != nil {
			it.place = *place
		}
		if !it.again || at.Before(it.againAt) {
			it.again, it.againAt = true, at
		}
		return
	case place == nil && !at.Before(it.at):
		return
	default:
		heap.Remove(it.in, it.index)
	}
	it.at = at
	if place != nil {
		it.place = *place
	}
	q.pushLocked(it)
}

// pushLocked has an item wait in its lane, and wakes the lane's workers where it is
// what they have to look at next.
func (q *Queue[K]) pushLocked(it *item[K]) {
	l := q.lanes[it.place.Lane]
	it.in = &l.waiting
	heap.Push(it.in, it)
	// Otherwise they look in time anyway. (What is due need not come next: a clock that
	// was set forward makes others due before it, and nobody has noticed.)
	if it.index == 0 || !it.at.After(q.now()) {
		close(l.wake)
		l.wake = make(chan struct{})
	}
}

// Remove forgets a waiting key. A worker that has it finishes undisturbed.
func (q *Queue[K]) Remove(key K) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it, ok := q.items[key]
	if !ok {
		return
	}
	if it.in == nil {
		it.again = false
		return
	}
	heap.Remove(it.in, it.index)
	delete(q.items, key)
}

// Take waits until a key of the lane is due and hands out the one whose turn it is;
// the caller must call Done with it. It returns ctx's error when ctx ends first.
func (q *Queue[K]) Take(ctx context.Context, from Lane) (K, error) {
	var zero K
	for {
		q.mu.Lock()
		l := q.lanes[from]
		if it := q.nextLocked(l); it != nil {
			q.mu.Unlock()
			return it.key, nil
		}
		wake := l.wake
		var next <-chan time.Time
		var timer *time.Timer
		if len(l.waiting.items) > 0 {
			timer = time.NewTimer(l.waiting.items[0].at.Sub(q.now()))
			next = timer.C
		}
		q.mu.Unlock()
		var err error
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-wake:
		case <-next:
		}
		if timer != nil {
			timer.Stop()
		}
		if err != nil {
			return zero, err
		}
	}
}

// nextLocked takes out what is next in a lane, nil where nothing is due.
func (q *Queue[K]) nextLocked(l *lane[K]) *item[K] {
	now := q.now()
	for len(l.waiting.items) > 0 && !l.waiting.items[0].at.After(now) {
		it := heap.Pop(&l.waiting).(*item[K])
		it.in = &l.due
		heap.Push(it.in, it)
	}
	if len(l.due.items) == 0 {
		return nil
	}
	it := heap.Pop(&l.due).(*item[K])
	it.in = nil
	return it
}

// Done gives a taken key back. With a zero retry time it is forgotten, unless it
// was added meanwhile.
func (q *Queue[K]) Done(key K, retry time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it, ok := q.items[key]
	if !ok || it.in != nil {
		return
	}
	if it.again && (retry.IsZero() || it.againAt.Before(retry)) {
		retry = it.againAt
	}
	it.again = false
	if retry.IsZero() {
		delete(q.items, key)
		return
	}
	it.at = retry
	q.pushLocked(it)
}

// Len returns how many keys wait or are being worked on.
func (q *Queue[K]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

// line is a heap of items.
type line[K comparable] struct {
	items  []*item[K]
	before func(a, b *item[K]) bool
}

func (h *line[K]) Len() int           { return len(h.items) }
func (h *line[K]) Less(i, j int) bool { return h.before(h.items[i], h.items[j]) }
func (h *line[K]) Swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	h.items[i].index, h.items[j].index = i, j
}
func (h *line[K]) Push(x any) {
	it := x.(*item[K])
	it.index = len(h.items)
	h.items = append(h.items, it)
}
func (h *line[K]) Pop() any {
	last := len(h.items) - 1
	it := h.items[last]
	h.items[last] = nil
	h.items = h.items[:last]
	return it
}
