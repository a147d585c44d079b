package cache

import (
	"fmt"

	"depotfs/cache/catalog"
)

// The durable states of a regular file. Directories, symlinks and special files
// stay in Absent; their cleanliness is FlagAttrDirty and the keys they own.
//
// These numbers are on disk; they are never renumbered.
const (
	Absent       catalog.State = 0 // no regular file, or not known yet
	Remote       catalog.State = 1 // no byte here, the depot has the version
	Partial      catalog.State = 2 // some bytes in .depotfs/partial, all equal to the depot's version
	Clean        catalog.State = 3 // whole at its plain path, the depot has the same version
	PartialDirty catalog.State = 4 // some bytes here, written ranges among them that only we have
	Dirty        catalog.State = 5 // whole at its plain path, the depot lacks this version
)

// Event is what happens to a file.
type Event uint8

const (
	evCreate    Event = iota // made through the mount, or found in the share
	evImport                 // found in the depot
	evFetch                  // first bytes of it arrived
	evWhole                  // the last missing byte arrived and moved to the plain path
	evWrite                  // a writer may change it, or its length changed
	evUnchanged              // the last writer left, and nothing had changed since the depot got it
	evUploaded               // the depot has exactly the local bytes
	evEvict                  // the local bytes were dropped on purpose
	evVanish                 // the share lost the file behind our back
	evDiscard                // the fetched bytes were not the version's: start again
)

var eventNames = [...]string{"create", "import", "fetch", "whole", "write", "unchanged", "uploaded", "evict", "vanish", "discard"}

func (e Event) String() string { return eventNames[e] }

// transitions is the whole state machine of a file's bytes; what is not in it
// must not happen. Unlinking is possible everywhere and ends in no record.
//
// The promise that a test reads from it: only evUploaded, evUnchanged (the depot
// has what is here) and evVanish (somebody else removed the bytes) lead out of the
// states that hold the only copy of something.
var transitions = map[catalog.State]map[Event]catalog.State{
	Absent:       {evCreate: Dirty, evImport: Remote},
	Remote:       {evFetch: Partial, evWrite: PartialDirty, evWhole: Clean, evImport: Remote},
	Partial:      {evFetch: Partial, evWhole: Clean, evWrite: PartialDirty, evEvict: Remote, evDiscard: Remote, evVanish: Remote, evImport: Remote},
	Clean:        {evWrite: Dirty, evEvict: Remote, evVanish: Remote, evUploaded: Clean},
	PartialDirty: {evWrite: PartialDirty, evWhole: Dirty, evUnchanged: Partial, evUploaded: Partial, evVanish: Remote},
	Dirty:        {evWrite: Dirty, evUploaded: Clean, evUnchanged: Clean, evVanish: Remote},
}

// holdsOnlyCopy says whether bytes of this state exist nowhere else.
func holdsOnlyCopy(s catalog.State) bool { return s == Dirty || s == PartialDirty }

// resident says whether all bytes are at the plain path.
func resident(s catalog.State) bool { return s == Clean || s == Dirty }

// step applies ev to rec and returns an error where the table has no such edge.
func step(rec *catalog.Inode, ev Event) error {
	to, ok := transitions[rec.State][ev]
	if !ok {
		return fmt.Errorf("inode %d: %v is impossible for a file that is %s", rec.Ino, ev, stateName(rec.State))
	}
	rec.State = to
	return nil
}

// stateName is the word that users see (xattr, status, ls).
func stateName(s catalog.State) string {
	switch s {
	case Remote:
		return "remote"
	case Partial:
		return "partial"
	case Clean:
		return "clean"
	case PartialDirty, Dirty:
		return "dirty"
	}
	return "none"
}
