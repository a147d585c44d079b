package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// sum names bytes as treeOf does.
func sum(body []byte) string {
	s := sha256.Sum256(body)
	return hex.EncodeToString(s[:8])
}

// version is bytes that one zone wrote to one path and had acknowledged. No two have the
// same bytes.
type version struct {
	zone, path string
	size       int
	step       int
	// sent: the depot has had it, because a flush of its zone said so or because another
	// zone has shown it.
	sent bool
	// over is how the very file that had it got other bytes or lost its name to another
	// file; "" = it did not.
	over string
	// dropped is how it was deleted before anybody could say that the depot has it; such a
	// version may be nowhere.
	dropped string
	// deleted is how it was deleted; the trash has it.
	deleted string
}

func (v *version) String() string {
	text := fmt.Sprintf("%d bytes that zone %s wrote to %q in step %d", v.size, v.zone, v.path, v.step)
	if v.sent {
		text += ", the depot had them"
	}
	for _, what := range []string{v.over, v.dropped, v.deleted} {
		if what != "" {
			text += ", " + what
		}
	}
	return text
}

// oracle says what may be true after a history in which several zones did as they liked,
// without a theory of who wins: bytes that a zone shows were written by somebody; a
// version that nobody overwrote or deleted is in the tree or among the conflicts; one
// that was deleted is in the trash, unless the depot may never have had it; and names are
// such as somebody gave.
type oracle struct {
	versions map[string]*version // by sum
	partial  map[string]string   // sums that a file had for a moment between two calls
	names    map[string]bool     // base names that operations gave
	objects  map[string]string   // sums of what the depot keeps, by key and entity tag
}

func newOracle() *oracle {
	return &oracle{versions: map[string]*version{}, partial: map[string]string{sum(nil): "nothing"}, names: map[string]bool{}, objects: map[string]string{}}
}

// wrote notes an acknowledged write.
func (o *oracle) wrote(zone, name string, body []byte, step int) {
	o.versions[sum(body)] = &version{zone: zone, path: name, size: len(body), step: step}
	o.gave(name)
}

func (o *oracle) gave(name string) { o.names[path.Base(name)] = true }

// saw is what a zone shows under a path; an error where nobody wrote that. Nil without an
// error is bytes that a file had for a moment.
func (o *oracle) saw(zone, name, of string) (*version, error) {
	v := o.versions[of]
	if v == nil && o.partial[of] == "" {
		return nil, fmt.Errorf("zone %s shows bytes (sum %s) under %q that nobody wrote", zone, of, name)
	}
	if v != nil && v.zone != zone {
		v.sent = true
	}
	return v, nil
}

// flushed: everything that a zone wrote so far is in the depot.
func (o *oracle) flushed(zone string) {
	for _, v := range o.versions {
		if v.zone == zone && v.dropped == "" {
			v.sent = true
		}
	}
}

// removed notes that a zone deleted the file that had a version.
func (o *oracle) removed(v *version, zone string, step int) {
	what := fmt.Sprintf("zone %s deleted them in step %d", zone, step)
	if v.sent {
		v.deleted = what
	} else {
		v.dropped = what
	}
}

// kept sums up what lies below a prefix in the depot.
func (o *oracle) kept(b *zones, prefix string) map[string]string {
	found := map[string]string{}
	for _, object := range b.depot.List(b.t, b.depot.prefix+prefix) {
		id := object.Key + " " + object.ETag
		if o.objects[id] == "" {
			body, ok := b.depot.Get(b.t, object.Key)
			if !ok {
				continue // it expired
			}
			o.objects[id] = sum(body)
		}
		found[o.objects[id]] = object.Key
	}
	return found
}

// check compares a tree that all zones show with the history; it returns what is wrong.
func (o *oracle) check(b *zones, tree map[string]string) (faults []string) {
	shown := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		if !o.names[path.Base(name)] {
			faults = append(faults, fmt.Sprintf("nobody made the name %q (%s)", name, tree[name]))
		}
		_, of, isFile := strings.Cut(tree[name], " sum ")
		if !isFile {
			continue
		}
		shown[of] = name
		if _, err := o.saw("?", name, of); err != nil {
			faults = append(faults, err.Error())
		}
	}
	conflicts, trash := o.kept(b, ".depotfs/conflicts/"), o.kept(b, ".depotfs/trash/")
	for _, of := range slices.SortedFunc(maps.Keys(o.versions), func(x, y string) int { return o.versions[x].step - o.versions[y].step }) {
		v := o.versions[of]
		_, inTree := shown[of]
		_, inConflicts := conflicts[of]
		_, inTrash := trash[of]
		switch {
		case inTree || inConflicts || inTrash || v.over != "" || v.dropped != "":
		case v.deleted != "":
			faults = append(faults, fmt.Sprintf("the trash lacks %v", v))
		default:
			faults = append(faults, fmt.Sprintf("lost are %v", v))
		}
	}
	return append(faults, o.checkBucket(b, tree)...)
}

// checkBucket compares the plain objects with the tree.
func (o *oracle) checkBucket(b *zones, tree map[string]string) (faults []string) {
	objects := b.depot.keys(b.t)
	isParent := map[string]bool{}
	for name := range tree {
		isParent[path.Dir(name)] = true
	}
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		text := tree[name]
		_, of, isFile := strings.Cut(text, " sum ")
		_, target, isLink := strings.Cut(text, " to ")
		switch {
		case isFile || isLink:
			body, found := b.depot.Get(b.t, b.depot.prefix+name)
			if !found || isFile && sum(body) != of || isLink && string(body) != target {
				faults = append(faults, fmt.Sprintf("the object %q (found: %v, %d bytes) is not what all zones show: %s", name, found, len(body), text))
			}
			delete(objects, name)
		default:
			if _, found := objects[name+"/"]; !found && !isParent[name] {
				faults = append(faults, fmt.Sprintf("the empty directory %q has no object", name))
			}
			delete(objects, name+"/")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(objects)) {
		faults = append(faults, fmt.Sprintf("the object %q belongs to nothing", key))
	}
	return faults
}

// fates counts the versions by what became of them, for the log of a run.
func (o *oracle) fates() string {
	var over, deleted, dropped int
	for _, v := range o.versions {
		switch {
		case v.over != "":
			over++
		case v.deleted != "":
			deleted++
		case v.dropped != "":
			dropped++
		}
	}
	return fmt.Sprintf("%d versions, of which %d were overwritten, %d deleted, %d deleted before they were sent", len(o.versions), over, deleted, dropped)
}
