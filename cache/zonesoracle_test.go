package cache_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// zoneVersion is bytes that one zone wrote; no two are alike.
type zoneVersion struct {
	zone, path string
	step       int
	sent       bool   // the depot has had it: a flush said so, or another zone has shown it
	settled    string // overwritten, or deleted before anybody could say that it was sent: it may be nowhere
	deleted    string // how it was deleted after it was sent: the trash has it
}

// zoneOracle says what may be true after several zones have done as they liked: what a zone
// shows was written by somebody; what nobody overwrote or deleted is in the tree or among
// the conflicts; what was deleted is in the trash, unless the depot may never have had it.
type zoneOracle map[string]*zoneVersion

func sumOf(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:8])
}

func (o zoneOracle) wrote(zone, path string, b []byte, step int) {
	o[sumOf(b)] = &zoneVersion{zone: zone, path: path, step: step}
}

// saw is what a zone shows under a path; an empty file is one that is being made.
func (o zoneOracle) saw(zone, path string, b []byte) (*zoneVersion, error) {
	v := o[sumOf(b)]
	if v == nil && len(b) > 0 {
		return nil, fmt.Errorf("zone %s shows %d bytes (sum %s) under %q that nobody wrote", zone, len(b), sumOf(b), path)
	}
	if v != nil && v.zone != zone {
		v.sent = true
	}
	return v, nil
}

func (o zoneOracle) flushed(zone string) {
	for _, v := range o {
		v.sent = v.sent || v.zone == zone && v.settled == ""
	}
}

func (o zoneOracle) over(v *zoneVersion, format string, args ...any) {
	if v != nil && v.settled == "" {
		v.settled = fmt.Sprintf(format, args...)
	}
}

func (o zoneOracle) removed(v *zoneVersion, zone string, step int) {
	switch {
	case v == nil:
	case v.sent:
		v.deleted = fmt.Sprintf("zone %s deleted it in step %d", zone, step)
	default:
		o.over(v, "zone %s deleted it in step %d, before it was sent", zone, step)
	}
}

// missing lists what should be somewhere and is nowhere: here are the sums of the tree
// that all zones show, kept those of what the depot keeps beside it.
func (o zoneOracle) missing(here map[string]bool, conflicts, trash map[string]string) (faults []string) {
	byStep := func(x, y string) int { return o[x].step - o[y].step }
	for _, sum := range slices.SortedFunc(maps.Keys(o), byStep) {
		v := o[sum]
		if here[sum] || conflicts[sum] != "" || trash[sum] != "" || v.settled != "" {
			continue
		}
		what, end := "lost is", ""
		if v.deleted != "" {
			what, end = "the trash lacks", "; "+v.deleted
		}
		faults = append(faults, fmt.Sprintf("%s what zone %s wrote to %q in step %d (sum %s, sent: %v)%s", what, v.zone, v.path, v.step, sum, v.sent, end))
	}
	return faults
}

// kept sums up the objects below a prefix.
func (h *zoneHistory) kept(prefix string) map[string]string {
	found := map[string]string{}
	for _, k := range h.mem.Keys(prefix) {
		found[sumOf(h.mem.Bytes(k))] = k
	}
	return found
}

// bucket compares the plain objects with the tree that all zones show.
func (h *zoneHistory) bucket(tree map[string]string) (faults []string) {
	left := map[string]string{}
	for _, k := range h.mem.Keys("p/") {
		if !strings.HasPrefix(k, "p/.depotfs/") {
			left[k] = sumOf(h.mem.Bytes(k))
		}
	}
	isParent := map[string]bool{}
	for p := range tree {
		isParent[path.Dir(p)] = true
	}
	for _, p := range slices.Sorted(maps.Keys(tree)) {
		key, text := "p/"+p, tree[p]
		if strings.HasPrefix(text, "dir") {
			if key += "/"; isParent[p] { // what is in it shows that it is there
				delete(left, key)
				continue
			}
		}
		got, there := left[key]
		if _, want, ok := strings.Cut(text, " sum "); ok && (!there || got != want) || !there {
			faults = append(faults, fmt.Sprintf("the object %q (there: %v, sum %s) is not what all zones show: %s", key, there, got, text))
		}
		delete(left, key)
	}
	for _, k := range slices.Sorted(maps.Keys(left)) {
		faults = append(faults, fmt.Sprintf("the object %q belongs to nothing", k))
	}
	return faults
}
