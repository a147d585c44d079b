package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// absent is nil when there is no such name.
func absent(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is still there (%v)", path, err)
	}
	return nil
}

// has is nil when a file is exactly body.
func has(path string, body []byte) error {
	got, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if diff := difference(got, body); diff != "" {
		return fmt.Errorf("%s: %s", path, diff)
	}
	return nil
}

func median(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[len(took)/2]
}

// What is flushed in one zone is read in the other, in the order in which it was finished,
// once over the line; what is deleted in one is deleted in the other.
func TestZonesPropagation(t *testing.T) {
	t.Parallel()
	const rounds, dir, size = 8, "volumes/2/5", 1 << 20
	b := newZones(t, 2, polled(200*time.Millisecond), with("--settle", "50ms"))
	from, to := b.all[0], b.all[1]
	var puts, deletes []time.Duration
	for i := range rounds {
		name, body := fmt.Sprintf("%s/%d", dir, i), bytesOf(uint64(i), size)
		put(t, from.path(name), body)
		from.flush(name)
		began := time.Now()
		to.follows(func() error { return has(to.path(name), body) })
		puts = append(puts, time.Since(began))
		// Files of a directory come in the order in which they were finished.
		for j := range i {
			if _, err := os.Stat(to.path(fmt.Sprintf("%s/%d", dir, j))); err != nil {
				t.Errorf("file %d is there and file %d is not: %v", i, j, err)
			}
		}
	}
	b.seen[1].filesQuiet()
	for i := range rounds {
		if got := b.seen[1].of(fmt.Sprintf("%s/%d", dir, i)); got.received != size {
			t.Errorf("%d bytes were read in the other zone, and %d passed in %+v", size, got.received, got.kinds)
		}
	}
	for i := range rounds {
		name := fmt.Sprintf("%s/%d", dir, i)
		if err := os.Remove(from.path(name)); err != nil {
			t.Fatal(err)
		}
		from.flush()
		began := time.Now()
		to.follows(func() error { return absent(to.path(name)) })
		deletes = append(deletes, time.Since(began))
		if err := absent(filepath.Join(to.share, name)); err != nil {
			t.Errorf("deleted, and the cache directory has it: %v", err)
		}
	}
	t.Logf("with a poll each 200ms the median of a put is %v and that of a delete %v after the flush", median(puts), median(deletes))
	b.agree()
}

// A directory with only remote names in it cannot be removed, one whose names are gone
// can; a neighbour whose name begins alike is never touched.
func TestZonesDirectoryRemoval(t *testing.T) {
	t.Parallel()
	b := newZones(t, 2, polled(200*time.Millisecond), with("--settle", "50ms"))
	from, to := b.all[0], b.all[1]
	body := bytesOf(3, 2<<20)
	for _, name := range []string{"snapshots/2/20/one", "snapshots/2/20/two", "snapshots/2/201/one"} {
		put(t, from.path(name), body)
	}
	b.agree()
	from.evict()
	to.evict()
	if err := os.Remove(to.path("snapshots/2/20")); err == nil || absent(to.path("snapshots/2/20/one")) == nil {
		t.Fatalf("rmdir of a directory with two remote files: %v", err)
	}
	for _, name := range []string{"snapshots/2/20/one", "snapshots/2/20/two", "snapshots/2/20"} {
		if err := os.Remove(to.path(name)); err != nil {
			t.Fatalf("remove %s: %v", name, err)
		}
	}
	b.agree()
	if err := absent(from.path("snapshots/2/20")); err != nil {
		t.Error(err)
	}
	for _, z := range b.all {
		holds(t, z.path("snapshots/2/201/one"), body)
	}
}

// Who has a file open reads the version that was opened to its end, whatever the other
// zone does to the name.
func TestZonesOpenFileReadsOn(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			b := newZones(t, 2, polled(200*time.Millisecond), way.set, with("--settle", "50ms"))
			from, to := b.all[0], b.all[1]
			names := []string{"template/tmpl/2/7/deleted.iso", "template/tmpl/2/7/overwritten.iso", "template/tmpl/2/7/replaced.iso"}
			bodies, next := map[string][]byte{}, bytesOf(99, 3<<20)
			for i, name := range names {
				bodies[name] = bytesOf(uint64(i), 8<<20)
				put(t, from.path(name), bodies[name])
			}
			b.agree() // reading it all has brought it here
			open := map[string]*os.File{}
			for _, name := range names {
				f, err := os.Open(to.path(name))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if _, err := io.ReadFull(f, make([]byte, 4096)); err != nil {
					t.Fatal(err)
				}
				open[name] = f
			}
			if err := os.Remove(from.path(names[0])); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(from.path(names[1]), next, 0o644); err != nil {
				t.Fatal(err)
			}
			put(t, from.path("template/tmpl/2/7/new.tmp"), next)
			if err := os.Rename(from.path("template/tmpl/2/7/new.tmp"), from.path(names[2])); err != nil {
				t.Fatal(err)
			}
			from.flush()
			to.follows(func() error {
				return errors.Join(absent(to.path(names[0])), has(to.path(names[1]), next), has(to.path(names[2]), next))
			})
			for _, name := range names {
				rest, err := io.ReadAll(open[name])
				if err != nil {
					t.Errorf("%s: an open handle reads on: %v", name, err)
				} else if diff := difference(rest, bodies[name][4096:]); diff != "" {
					t.Errorf("%s: an open handle reads other bytes: %s", name, diff)
				}
				if err := open[name].Close(); err != nil {
					t.Error(err)
				}
			}
			b.agree()
		})
	}
}

// A bucket that somebody has emptied takes no bytes away that are here.
func TestZonesEmptiedBucket(t *testing.T) {
	t.Parallel()
	b := newZones(t, 2, polled(200*time.Millisecond), quiet, with("--settle", "50ms"))
	names, body := []string{"template/tmpl/2/7/image.qcow2", "volumes/1/data", "snapshots/2/3/one"}, bytesOf(5, 2<<20)
	for _, name := range names {
		put(t, b.all[0].path(name), append(bytes.Clone(body), name...))
	}
	b.agree() // reading it all has brought it to both
	for _, o := range b.depot.List(t, "") {
		b.depot.Delete(t, o.Key)
	}
	look := func(when string) {
		t.Helper()
		for _, z := range b.all {
			for _, name := range names {
				want := append(bytes.Clone(body), name...)
				if err := has(filepath.Join(z.share, name), want); err != nil {
					t.Errorf("%s, zone %s, in the cache directory: %v", when, z.name, err)
				}
				if err := has(z.path(name), want); err != nil {
					t.Errorf("%s, zone %s: %v", when, z.name, err)
				}
			}
		}
	}
	for _, z := range b.all {
		z.run("refresh", z.mnt) // may well say what it found
	}
	look("after a refresh")
	for _, z := range b.all {
		z.umount()
		if c := z.run(z.mountArgs()...); c.code != 0 { // a depot without its mark may be refused
			if !strings.Contains(c.stderr, "depot") {
				t.Errorf("the refusal does not say why: %v", c)
			}
			z.mount("--no-store-check")
		}
		z.run("refresh", z.mnt)
	}
	look("after a restart")
}
