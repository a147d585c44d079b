package cache

import (
	"cmp"
	"slices"
	"sync"
)

// orders keeps, for every directory, which of its files wait for upload in the
// order in which they were finished (DESIGN promise 5), how far each of them is, and
// who waits for whom.
type orders struct {
	mu     sync.Mutex // guards all below
	dirs   map[Ino][]orderItem
	at     map[Ino]*orderPlace
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
	way      orderWay
	moved    chan struct{} // closed when any of the above changes; nil where nobody looks
}

// orderWay is how far a file is on its way to the depot.
type orderWay uint8

const (
	orderWaits orderWay = iota
	orderLong           // in parts: it takes as long as it takes
	orderBrief          // in one request
	orderThere          // its object is visible: it is in nobody's way
)

func (o *orders) init() {
	o.dirs, o.at = map[Ino][]orderItem{}, map[Ino]*orderPlace{}
	o.parked, o.behind = map[Ino][]Ino{}, map[Ino]Ino{}
}

func compareItems(a, b orderItem) int {
	return cmp.Or(cmp.Compare(a.finished, b.finished), cmp.Compare(a.ino, b.ino))
}

// set puts a file into the order of its directory, or moves it there. It returns
// who waited for it where it was: they may come before it now, and it must not wait
// for them while they wait for it. One that is on its way stays so: it was closed a moment
// ago, and has the bytes that are sent.
func (o *orders) set(ino, dir Ino, finished int64) (free []Ino) {
	o.mu.Lock()
	defer o.mu.Unlock()
	way := orderWaits
	if old, ok := o.at[ino]; ok {
		if old.dir == dir && old.finished == finished {
			return nil
		}
		if old.dir == dir && old.way != orderThere {
			way = old.way
		}
		o.takeLocked(ino, old)
		free = o.freeLocked(ino)
	}
	o.at[ino] = &orderPlace{dir: dir, finished: finished, way: way}
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

func (o *orders) takeLocked(ino Ino, p *orderPlace) {
	p.wake()
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

// wake tells those who look at a place that it has changed.
func (p *orderPlace) wake() {
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
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

// goes notes how far a file is and returns who waited for that.
func (o *orders) goes(ino Ino, way orderWay) (free []Ino) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p, ok := o.at[ino]
	if !ok || p.way == way {
		return nil
	}
	p.way = way
	p.wake()
	return o.freeLocked(ino)
}

// there notes that what was finished at that time is visible, and returns who waited
// for that.
func (o *orders) there(ino Ino, finished int64) (free []Ino) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p, ok := o.at[ino]
	if !ok || p.finished != finished {
		return nil
	}
	p.way = orderThere
	p.wake()
	return o.freeLocked(ino)
}

// stops notes that a file's attempt is over; one that is there stays there.
func (o *orders) stops(ino Ino) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p, ok := o.at[ino]; ok && (p.way == orderLong || p.way == orderBrief) {
		p.way = orderWaits
		p.wake()
	}
}

// orderLook is how many files are looked at with the lock held.
const orderLook = 64

// before returns up to most of those files that were finished before ino in its
// directory and are not there yet, the last first, passing over those for which skip
// is true. skip is called without the lock: it asks the catalog, and this order again.
func (o *orders) before(ino Ino, most int, skip func(Ino) bool) (found []Ino) {
	for last := (*orderItem)(nil); ; {
		earlier := o.earlier(ino, last)
		for _, item := range earlier {
			if !skip(item.ino) {
				if found = append(found, item.ino); len(found) == most {
					return found
				}
			}
		}
		if len(earlier) < orderLook {
			return found
		}
		last = &earlier[len(earlier)-1]
	}
}

// earlier returns some of the files before ino that are not there, the last first:
// from the one before last on.
func (o *orders) earlier(ino Ino, last *orderItem) (some []orderItem) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p, ok := o.at[ino]
	if !ok {
		return nil
	}
	from := orderItem{p.finished, ino}
	if last != nil && compareItems(*last, from) < 0 {
		from = *last
	}
	items := o.dirs[p.dir]
	i, _ := slices.BinarySearchFunc(items, from, compareItems)
	for _, item := range slices.Backward(items[:i]) {
		if o.at[item.ino].way == orderThere {
			continue
		}
		if some = append(some, item); len(some) == orderLook {
			break
		}
	}
	return some
}

// look returns how far a file is and a channel that is closed when that changes; ok is
// false when the file is not in the order any more.
func (o *orders) look(ino Ino) (way orderWay, moved <-chan struct{}, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p, ok := o.at[ino]
	if !ok {
		return orderThere, nil, false
	}
	if p.moved == nil {
		p.moved = make(chan struct{})
	}
	return p.way, p.moved, true
}

// park notes that ino waits until another file is further on its way than it is; it
// reports false when that one is no longer that far, or not in the order any more.
func (o *orders) park(ino, behind Ino, way orderWay) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p, ok := o.at[behind]; !ok || p.way != way {
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
