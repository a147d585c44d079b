package queue

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// Queue hands out keys when they are due. All methods may be called concurrently.
// The zero Queue is not usable; see New.
type Queue[K comparable] struct {
	now func() time.Time

	mu      sync.Mutex // guards all below; nothing is called while it is held
	items   map[K]*item[K]
	waiting due[K]
	wake    chan struct{} // closed and replaced when the head may have changed
}

type item[K comparable] struct {
	key     K
	at      time.Time
	index   int  // in waiting; -1 while a worker has it
	again   bool // added while a worker had it
	againAt time.Time
}

// New makes an empty queue that tells the time by now.
func New[K comparable](now func() time.Time) *Queue[K] {
	return &Queue[K]{now: now, items: map[K]*item[K]{}, wake: make(chan struct{})}
}

// Add makes key due at the given time. A key that waits already gets the earlier
// of the two times; one that a worker has is handed out again after Done.
func (q *Queue[K]) Add(key K, at time.Time) { q.put(key, at, false) }

// Reschedule is Add, but the given time replaces a waiting key's own.
func (q *Queue[K]) Reschedule(key K, at time.Time) { q.put(key, at, true) }

func (q *Queue[K]) put(key K, at time.Time, replace bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it, ok := q.items[key]
	switch {
	case !ok:
		it = &item[K]{key: key, at: at}
		q.items[key] = it
		heap.Push(&q.waiting, it)
	case it.index < 0:
		if !it.again || at.Before(it.againAt) {
			it.again, it.againAt = true, at
		}
		return
	case replace || at.Before(it.at):
		it.at = at
		heap.Fix(&q.waiting, it.index)
	default:
		return
	}
	q.wakeLocked(it)
}

// Remove forgets a waiting key. A worker that has it finishes undisturbed.
func (q *Queue[K]) Remove(key K) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it, ok := q.items[key]
	if !ok {
		return
	}
	if it.index < 0 {
		it.again = false
		return
	}
	heap.Remove(&q.waiting, it.index)
	delete(q.items, key)
}

// Take waits until a key is due and hands it out; the caller must call Done with
// it. It returns ctx's error when ctx ends first.
func (q *Queue[K]) Take(ctx context.Context) (K, error) {
	var zero K
	for {
		q.mu.Lock()
		wake := q.wake
		var wait time.Duration = -1
		if len(q.waiting) > 0 {
			it := q.waiting[0]
			wait = it.at.Sub(q.now())
			if wait <= 0 {
				heap.Pop(&q.waiting)
				it.index = -1
				q.mu.Unlock()
				return it.key, nil
			}
		}
		q.mu.Unlock()
		if wait < 0 {
			select {
			case <-ctx.Done():
				return zero, ctx.Err()
			case <-wake:
			}
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return zero, ctx.Err()
		case <-wake:
			t.Stop()
		case <-t.C:
		}
	}
}

// Done gives a taken key back. With a zero retry time it is forgotten, unless it
// was added meanwhile.
func (q *Queue[K]) Done(key K, retry time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it, ok := q.items[key]
	if !ok || it.index >= 0 {
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
	heap.Push(&q.waiting, it)
	q.wakeLocked(it)
}

// Len returns how many keys wait or are being worked on.
func (q *Queue[K]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

// wakeLocked has those who wait look again if it is what comes next now, or is due:
// otherwise they look in time anyway. (What is due need not come next: a clock that
// was set forward makes others due before it, and nobody has noticed.)
func (q *Queue[K]) wakeLocked(it *item[K]) {
	if it.index != 0 && it.at.After(q.now()) {
		return
	}
	close(q.wake)
	q.wake = make(chan struct{})
}

// due is a heap of items by time.
type due[K comparable] []*item[K]

func (d due[K]) Len() int           { return len(d) }
func (d due[K]) Less(i, j int) bool { return d[i].at.Before(d[j].at) }
func (d due[K]) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].index, d[j].index = i, j
}
func (d *due[K]) Push(x any) {
	it := x.(*item[K])
	it.index = len(*d)
	*d = append(*d, it)
}
func (d *due[K]) Pop() any {
	old := *d
	it := old[len(old)-1]
	old[len(old)-1] = nil
	*d = old[:len(old)-1]
	it.index = -1
	return it
}
