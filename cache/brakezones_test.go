package cache_test

import (
	"slices"
	"testing"
)

// Two zones: what one made, the other one sweeps. Nobody but the sweeper notices, until
// somebody says that it is meant.
func TestSweepInAnotherZone(t *testing.T) {
	t.Parallel()
	for _, decision := range []string{"discard", "approve"} {
		t.Run(decision, func(t *testing.T) {
			zs := newZones(t, 2)
			a, b := zs[0], zs[1]
			ids := from(200, 8)
			for _, id := range ids {
				a.mkdirAll(template(id))
				a.write(template(id)+"/image.qcow2", imageOf(id))
				a.write(template(id)+"/template.properties", properties(id))
			}
			b.mkdirAll(template(300))
			b.write(template(300)+"/image.qcow2", imageOf(300))
			b.write(template(300)+"/template.properties", properties(300))
			tell(a, b)
			a.installed(append(ids, 300)...)
			b.installed(append(ids, 300)...)
			for _, id := range append(ids, 300) {
				b.uninstall(template(id))
			}
			b.waitFor("all to be held", func() bool { return b.status().Deletes.Held == 24 })
			b.takenBack()
			b.settleRemovals()
			tell(a, b)
			a.evict(template(207)) // so that it is read from the depot
			a.installed(ids...)
			a.absent(template(300)) // which was b's own
			for _, id := range ids {
				b.absent(template(id))
			}
			b.wantHeld(24)
			b.restart()
			b.refresh()
			b.wantHeld(24)
			b.absent(template(200), template(207))
			// What has changed meanwhile is shown.
			next := pattern(77, 4000)
			a.write(template(203)+"/image.qcow2", next)
			tell(a, b)
			b.mustRead(template(203)+"/image.qcow2", next)
			b.wantHeld(22) // not the directory, nor the image
			if decision == "discard" {
				if left := b.discard(); len(left) > 0 {
					t.Errorf("discard left %+v", left)
				}
				b.installed(slices.DeleteFunc(slices.Clone(ids), func(id int) bool { return id == 203 })...)
			} else {
				if left := b.approve(); len(left) > 0 {
					t.Errorf("approve left %+v", left)
				}
				b.settleRemovals()
			}
			tell(a, b)
			sameTrees(a, b)
			if decision == "approve" {
				a.absent(template(200), template(203)+"/template.properties")
			}
			a.mustRead(template(203)+"/image.qcow2", next)
		})
	}
}

// A zone that hides what others made shows what they make of it.
func TestHiddenInOneZoneOnly(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	b.close()
	b.config = hides(t, "template")
	b.open()
	b.refresh()
	for _, id := range from(200, 4) {
		a.mkdirAll(template(id))
		a.write(template(id)+"/image.qcow2", imageOf(id))
		a.write(template(id)+"/template.properties", properties(id))
	}
	tell(a, b)
	for _, id := range from(200, 4) {
		b.uninstall(template(id))
	}
	a.rename(template(201), template(901))
	a.uninstall(template(202))
	tell(a, b)
	a.installed(200, 203)
	a.mustRead(template(901)+"/image.qcow2", imageOf(201))
	b.absent(template(200), template(201), template(202), template(203), template(901))
	if s := b.status().Deletes; s.Hidden != 9 {
		t.Errorf("%d names are hidden, want 9: %q", s.Hidden, b.heldNames())
	}
	b.discard("template")
	tell(a, b)
	sameTrees(a, b)
}
