package cache

import (
	"testing"

	"depotfs/cache/catalog"
)

var allStates = []catalog.State{Absent, Remote, Partial, Clean, PartialDirty, Dirty}

// The only copy of something is never given up but by upload, or because nothing
// was changed, or because others removed it from the share.
func TestOnlyCopyIsKept(t *testing.T) {
	t.Parallel()
	allowed := map[Event]bool{evUploaded: true, evUnchanged: true, evVanish: true}
	for from, edges := range transitions {
		for ev, to := range edges {
			if holdsOnlyCopy(from) && !holdsOnlyCopy(to) && !allowed[ev] {
				t.Errorf("%v leads from %s to %s", ev, stateName(from), stateName(to))
			}
		}
	}
}

// A file is at its plain path exactly in the states that say so.
func TestWhatIsMissingIsNotResident(t *testing.T) {
	t.Parallel()
	for from, edges := range transitions {
		for ev, to := range edges {
			if !resident(from) && resident(to) && ev != evWhole && ev != evCreate {
				t.Errorf("%v makes a %s file resident", ev, stateName(from))
			}
			if from != Absent && resident(from) && !resident(to) && ev != evEvict && ev != evVanish {
				t.Errorf("%v takes the bytes of a %s file away", ev, stateName(from))
			}
		}
	}
}

func TestStepRefusesWhatIsNotInTheTable(t *testing.T) {
	t.Parallel()
	for _, s := range allStates {
		for ev := evCreate; ev <= evDiscard; ev++ {
			rec := &catalog.Inode{State: s}
			err := step(rec, ev)
			want, ok := transitions[s][ev]
			if ok != (err == nil) || ok && rec.State != want || !ok && rec.State != s {
				t.Errorf("%v in %s: state %d, error %v", ev, stateName(s), rec.State, err)
			}
		}
	}
}
