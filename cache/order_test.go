package cache

import (
	"slices"
	"testing"
)

// A file that was finished anew while an older version of it arrived is in the way of
// those that were finished after it.
func TestOrderOfVersions(t *testing.T) {
	t.Parallel()
	var o orders
	o.init()
	none := func(Ino) bool { return false }
	o.set(1, 9, 100)
	o.set(2, 9, 200)
	o.goes(1, orderBrief)
	o.set(1, 9, 150) // while it is sent
	o.there(1, 100)
	if got := o.before(2, 4, none); !slices.Equal(got, []Ino{1}) {
		t.Errorf("before the second file are %v, want the first one's later version", got)
	}
	o.goes(1, orderBrief)
	o.there(1, 150)
	if got := o.before(2, 4, none); len(got) > 0 {
		t.Errorf("before the second file are %v, and all are there", got)
	}
}

// Behind many files, those that may be passed are passed, and the last ones are told.
func TestOrderBefore(t *testing.T) {
	t.Parallel()
	var o orders
	o.init()
	for i := range Ino(200) {
		o.set(i+1, 9, int64(i))
	}
	got := o.before(200, 3, func(i Ino) bool { return i > 20 })
	if !slices.Equal(got, []Ino{20, 19, 18}) {
		t.Errorf("before the last file are %v", got)
	}
	if !o.park(200, 20, orderWaits) || o.park(200, 20, orderBrief) {
		t.Error("a file waits for what is over")
	}
	if free := o.goes(20, orderBrief); !slices.Equal(free, []Ino{200}) {
		t.Errorf("a file that set out frees %v", free)
	}
}

// A file that is closed while it is sent has a later place, and is on its way still: who
// waits behind it with all but the last byte sent goes on waiting.
func TestOrderKeepsTheWay(t *testing.T) {
	t.Parallel()
	var o orders
	o.init()
	o.set(1, 9, 100)
	o.set(2, 9, 200)
	o.goes(1, orderBrief)
	_, moved, _ := o.look(1)
	o.set(1, 9, 150)
	select {
	case <-moved:
	default:
		t.Error("nobody was told that the file has another place")
	}
	if way, _, ok := o.look(1); way != orderBrief || !ok {
		t.Errorf("a file on its way is %v after it was closed", way)
	}
	o.stops(1)
	if way, _, _ := o.look(1); way != orderWaits {
		t.Errorf("a file whose attempt is over is %v", way)
	}
	o.goes(1, orderBrief)
	o.set(1, 8, 150)
	if way, _, _ := o.look(1); way != orderWaits {
		t.Errorf("a file in another directory is %v", way)
	}
}
