package cache

import (
	"cmp"
	"slices"
	"sync"
)

// orders keeps, for every directory, which of its files wait for upload in the
// order in which they were finished (DESIGN promise 5), and who waits for whom.
type orders struct {
	mu     sync.Mutex // guards all below
	dirs   map[Ino][]orderItem
	at     map[Ino]orderPlace
	parked map[Ino][]Ino // key: who is waited for
	behind map[Ino]Ino   // the other way round
}

type orderItem struct {
	finished int64
	ino      Ino
}

type orderPlace struct {
	dir      Ino
	finished int64
}

func (o *orders) init() {
	o.dirs, o.at = map[Ino][]orderItem{}, map[Ino]orderPlace{}
	o.parked, o.behind = map[Ino][]Ino{}, map[Ino]Ino{}
}

func compareItems(a, b orderItem) int {
	return cmp.Or(cmp.Compare(a.finished, b.finished), cmp.Compare(a.ino, b.ino))
}

// set puts a file into the order of its directory, or moves it there. It returns
// who waited for it where it was: they may come before it now, and it must not wait
// for them while they wait for it.
func (o *orders) set(ino, dir Ino, finished int64) (free []Ino) {
	o.mu.Lock()
	defer o.mu.Unlock()
	place := orderPlace{dir, finished}
	if old, ok := o.at[ino]; ok {
		if old == place {
			return nil
		}
		o.takeLocked(ino, old)
		free = o.freeLocked(ino)
	}
	o.at[ino] = place
	item := orderItem{finished, ino}
	i, _ := slices.BinarySearchFunc(o.dirs[dir], item, compareItems)
	o.dirs[dir] = slices.Insert(o.dirs[dir], i, item)
	return free
}

// freeLocked has those wait no longer who wait for ino, and returns them.
func (o *orders) freeLocked(ino Ino) []Ino {
	free := o.parked[ino]
	delete(o.parked, ino)
	for _, w := range free {
		if o.behind[w] == ino {
			delete(o.behind, w)
		}
	}
	return free
}

func (o *orders) takeLocked(ino Ino, p orderPlace) {
	items := o.dirs[p.dir]
	if i, ok := slices.BinarySearchFunc(items, orderItem{p.finished, ino}, compareItems); ok {
		items = slices.Delete(items, i, i+1)
	}
	if len(items) == 0 {
		delete(o.dirs, p.dir)
	} else {
		o.dirs[p.dir] = items
	}
}

// remove takes a file out and returns who waited for it.
func (o *orders) remove(ino Ino) []Ino {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p, ok := o.at[ino]; ok {
		o.takeLocked(ino, p)
		delete(o.at, ino)
	}
	delete(o.behind, ino)
	return o.freeLocked(ino)
}

// before returns the file that was finished last before ino in its directory,
// passing over those for which skip is true. skip is called without the lock: it
// asks the catalog, and this order again.
func (o *orders) before(ino Ino, skip func(Ino) bool) (Ino, bool) {
	o.mu.Lock()
	var earlier []orderItem
	if p, ok := o.at[ino]; ok {
		items := o.dirs[p.dir]
		i, _ := slices.BinarySearchFunc(items, orderItem{p.finished, ino}, compareItems)
		earlier = slices.Clone(items[:i])
	}
	o.mu.Unlock()
	for _, item := range slices.Backward(earlier) {
		if !skip(item.ino) {
			return item.ino, true
		}
	}
	return 0, false
}

// park notes that ino waits for another file; it reports false when that one is
// not in the order any more.
func (o *orders) park(ino, behind Ino) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.at[behind]; !ok {
		return false
	}
	if !slices.Contains(o.parked[behind], ino) {
		o.parked[behind] = append(o.parked[behind], ino)
	}
	o.behind[ino] = behind
	return true
}

// waitsFor returns whom a parked file waits for.
func (o *orders) waitsFor(ino Ino) (Ino, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	behind, ok := o.behind[ino]
	return behind, ok
}
