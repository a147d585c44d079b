package cache

import (
	"slices"
	"sync"
)

// dirLocks hands out one RWMutex per directory that is in use. A directory's lock
// covers its names in the share and in the catalog together: held shared by who
// only needs a name to stay where it is, exclusively by who changes names.
type dirLocks struct {
	mu sync.Mutex // guards m; held for moments only
	m  map[Ino]*dirLock
}

type dirLock struct {
	sync.RWMutex
	users int // guarded by dirLocks.mu
}

func (d *dirLocks) init() { d.m = map[Ino]*dirLock{} }

func (d *dirLocks) get(ino Ino) *dirLock {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.m[ino]
	if l == nil {
		l = &dirLock{}
		d.m[ino] = l
	}
	l.users++
	return l
}

func (d *dirLocks) put(ino Ino, l *dirLock) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(d.m, ino)
	}
}

// lock takes the locks of the given directories exclusively, in the order of
// their numbers (0 and repeated ones are passed over), and returns what gives
// them back.
func (d *dirLocks) lock(inos ...Ino) (unlock func()) {
	if len(inos) == 1 {
		l := d.get(inos[0])
		l.Lock()
		return func() { l.Unlock(); d.put(inos[0], l) }
	}
	inos = slices.Compact(slices.Sorted(slices.Values(inos)))
	if len(inos) > 0 && inos[0] == 0 {
		inos = inos[1:]
	}
	held := make([]*dirLock, len(inos))
	for i, ino := range inos {
		held[i] = d.get(ino)
		held[i].Lock()
	}
	return func() {
		for i := len(held) - 1; i >= 0; i-- {
			held[i].Unlock()
			d.put(inos[i], held[i])
		}
	}
}

// tryLock is lock of one directory for who holds another one's: it does not wait.
func (d *dirLocks) tryLock(ino Ino) (unlock func(), ok bool) {
	l := d.get(ino)
	if !l.TryLock() {
		d.put(ino, l)
		return nil, false
	}
	return func() { l.Unlock(); d.put(ino, l) }, true
}

// rlock takes one directory's lock shared.
func (d *dirLocks) rlock(ino Ino) (unlock func()) {
	l := d.get(ino)
	l.RLock()
	return func() { l.RUnlock(); d.put(ino, l) }
}

// broadcast wakes everybody who waits for "something changed".
type broadcast struct {
	mu      sync.Mutex // guards below
	ch      chan struct{}
	awaited bool // somebody has ch
}

func (b *broadcast) init() { b.ch = make(chan struct{}) }

// wait returns a channel that is closed at the next wake.
func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.awaited = true
	return b.ch
}

func (b *broadcast) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.awaited {
		return // most changes interest nobody
	}
	close(b.ch)
	b.ch, b.awaited = make(chan struct{}), false
}
