package integration

import (
	"fmt"
	"os"
	"path"
	"strings"
	"testing"
	"time"
)

// sweepDirs is how many templates the database of the zone that sweeps does not know.
const sweepDirs = 30

// sweepTemplates deletes templates as CloudStack does when its database does not know them: every
// file that a listing shows, then the directory.
func sweepTemplates(t *testing.T, z *zone, dirs []string) {
	t.Helper()
	for _, dir := range dirs {
		entries, err := os.ReadDir(z.path(dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if err := os.Remove(z.path(path.Join(dir, e.Name()))); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Remove(z.path(dir)); err != nil {
			t.Fatal(err)
		}
	}
}

// sweepBed is two zones of which one has made templates, all of them shown in the other.
func sweepBed(t *testing.T) (b *zones, dirs []string, bodies map[string][]byte) {
	t.Helper()
	b = newZones(t, 2, polled(200*time.Millisecond), quiet, with("--settle", "50ms"))
	bodies = map[string][]byte{}
	for i := range sweepDirs {
		dir := fmt.Sprintf("template/tmpl/2/%d", 200+i)
		dirs = append(dirs, dir)
		bodies[dir+"/image.qcow2"] = bytesOf(uint64(i), 100_000)
		bodies[dir+"/template.properties"] = []byte(fmt.Sprintf("uniquename=%d\nvirtualsize=100000\nsize=100000\nfilename=image.qcow2\n", i))
		for _, name := range []string{"/image.qcow2", "/template.properties"} {
			put(t, b.all[0].path(dir+name), bodies[dir+name])
		}
	}
	b.agree()
	return b, dirs, bodies
}

// allHere looks whether a zone shows all files with their bytes.
func allHere(z *zone, bodies map[string][]byte) error {
	for name, body := range bodies {
		if err := has(z.path(name), body); err != nil {
			return fmt.Errorf("zone %s: %w", z.name, err)
		}
	}
	return nil
}

// held waits until a zone has said that it holds the sweep back, and the other zone and the
// depot have everything.
func held(t *testing.T, b *zones, dirs []string, bodies map[string][]byte) {
	t.Helper()
	sweeper := b.all[1]
	for _, dir := range dirs {
		if err := absent(sweeper.path(dir)); err != nil {
			t.Errorf("deleted here: %v", err)
		}
	}
	sweeper.follows(func() error {
		list := sweeper.must("deletes", "list", sweeper.mnt)
		for _, dir := range dirs {
			if !strings.Contains(list, dir) {
				return fmt.Errorf("deletes list does not name %s:\n%s", dir, list)
			}
		}
		return nil
	})
	if text := sweeper.must("status", sweeper.mnt); !strings.Contains(text, "deletes") {
		t.Errorf("status does not speak of the deletes that are held:\n%s", text)
	}
	if grep(sweeper.log(), "held") == "" {
		t.Errorf("the log does not speak of the deletes that are held%s", sweeper.logTail())
	}
	sweeper.run("flush", "--timeout", "5s", sweeper.mnt) // nothing but what may go goes
	// The first deletes of the burst looked like any others: what came of them comes back.
	b.all[0].follows(func() error { return allHere(b.all[0], bodies) })
	eventually(t, patience, func() error {
		for name, body := range bodies {
			if got, found := b.depot.Get(t, name); !found || difference(got, body) != "" {
				return fmt.Errorf("the object %s (found: %v) is not what it was", name, found)
			}
		}
		return nil
	})
}

// A zone whose database does not know the templates of the others deletes them all: that
// is held, and undone.
func TestZonesSweepDiscarded(t *testing.T) {
	t.Parallel()
	b, dirs, bodies := sweepBed(t)
	sweepTemplates(t, b.all[1], dirs)
	held(t, b, dirs, bodies)
	b.all[1].remount() // it is still held after a restart
	held(t, b, dirs, bodies)
	b.all[1].must("deletes", "discard", b.all[1].mnt)
	b.all[1].follows(func() error { return allHere(b.all[1], bodies) })
	b.agree()
	for _, z := range b.all {
		if err := allHere(z, bodies); err != nil {
			t.Error(err)
		}
	}
	if list := b.all[1].must("deletes", "list", b.all[1].mnt); strings.Contains(list, "template/tmpl") {
		t.Errorf("discarded, and still listed:\n%s", list)
	}
}

// The same deletes go everywhere when somebody says that they are meant, and then the
// trash has every file.
func TestZonesSweepApproved(t *testing.T) {
	t.Parallel()
	b, dirs, bodies := sweepBed(t)
	sweepTemplates(t, b.all[1], dirs)
	held(t, b, dirs, bodies)
	b.all[1].must("deletes", "approve", "--yes", b.all[1].mnt)
	b.agree()
	for _, z := range b.all {
		for _, dir := range dirs {
			if err := absent(z.path(dir)); err != nil {
				t.Errorf("zone %s: approved: %v", z.name, err)
			}
		}
	}
	for name := range bodies {
		if _, found := b.depot.Get(t, name); found {
			t.Errorf("approved, and the object %s is still there", name)
		}
	}
	kept := newOracle().kept(b, ".depotfs/trash/")
	for name, body := range bodies {
		if kept[sum(body)] == "" {
			t.Errorf("the trash lacks %s", name)
		}
	}
}
