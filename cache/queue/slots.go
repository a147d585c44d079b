package queue

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// Slots bounds how many do something at once. Who waits is let in by turn, the
// earliest first; see Place. The number of slots may change at any time. All methods
// may be called concurrently.
type Slots struct {
	mu      sync.Mutex // guards below
	size    int
	used    int
	waiting turns
}

// ticket is one who waits.
type ticket struct {
	turn  time.Time
	in    chan struct{} // closed when it has a slot
	index int           // in Slots.waiting; -1 when it has a slot
}

// NewSlots makes n slots.
func NewSlots(n int) *Slots { return &Slots{size: n} }

// Take waits for a slot; with nil the caller must Put it back. It returns ctx's error
// when ctx ends first.
func (s *Slots) Take(ctx context.Context, turn time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.used < s.size && len(s.waiting) == 0 {
		s.used++
		s.mu.Unlock()
		return nil
	}
	t := &ticket{turn: turn, in: make(chan struct{})}
	heap.Push(&s.waiting, t)
	s.admitLocked()
	s.mu.Unlock()
	select {
	case <-t.in:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.index < 0 { // it came at the same moment
		s.used--
		s.admitLocked()
	} else {
		heap.Remove(&s.waiting, t.index)
	}
	return ctx.Err()
}

// TryTake takes a slot that is free, ahead of nobody who waits.
func (s *Slots) TryTake() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used >= s.size || len(s.waiting) > 0 {
		return false
	}
	s.used++
	return true
}

// Put gives a slot back.
func (s *Slots) Put() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used--
	s.admitLocked()
}

// Resize changes the number of slots. Who has one keeps it.
func (s *Slots) Resize(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.size = n
	s.admitLocked()
}

// Size returns the number of slots.
func (s *Slots) Size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

func (s *Slots) admitLocked() {
	for s.used < s.size && len(s.waiting) > 0 {
		t := heap.Pop(&s.waiting).(*ticket)
		s.used++
		close(t.in)
	}
}

// turns is a heap of tickets.
type turns []*ticket

func (h turns) Len() int           { return len(h) }
func (h turns) Less(i, j int) bool { return h[i].turn.Before(h[j].turn) }
func (h turns) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *turns) Push(x any) {
	t := x.(*ticket)
	t.index = len(*h)
	*h = append(*h, t)
}
func (h *turns) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = -1
	return t
}
