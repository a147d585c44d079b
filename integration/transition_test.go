package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// transition is one way in which a file's bytes, name or whereabouts change while
// others have it open.
type transition struct {
	state   string // whole or part: which bytes are here
	handles int    // how many have it open: readers, and the second one a writer
	what    string

	name    string
	opens   []*os.File
	mapped  *mapping
	first   []byte // what was uploaded
	old     []byte // what who has it open reads, to the end
	now     []byte // what the name has afterwards; nil: there is none
	renamed string // the name that the old bytes have instead
}

// transitionSize is several blocks, so that a file can be here in part.
const transitionSize = 1 << 20

var transitions = []string{"none", "warm", "evict", "rename-over", "rename", "unlink", "truncate", "share-replace", "share-unlink", "share-write"}

// TestTransitions changes files in every way while nobody, one and two have them
// open, in each of the kernel's modes: who has a file open reads its one version to
// the end, and who opens it then reads the new one.
func TestTransitions(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			d := newDepot(t)
			z := newZone(t, on(d), way.set, with("--settle", "1h"))
			var all []*transition
			for _, state := range []string{"whole", "part"} {
				for handles := range 4 {
					for _, what := range transitions {
						if what == "share-write" && state == "part" {
							continue // there is nothing to write into
						}
						c := &transition{state: state, handles: handles, what: what}
						c.name = fmt.Sprintf("snapshots/%s-%d-%s/f", state, handles, what)
						c.old = bytesOf(uint64(len(all)), transitionSize)
						c.first = bytes.Clone(c.old)
						put(t, z.path(c.name), c.old)
						all = append(all, c)
					}
				}
			}
			z.flush()
			for _, c := range all {
				c.begin(z)
			}
			for _, c := range all {
				c.do(z)
			}
			for _, c := range all {
				c.look(z, "at once")
			}
			for _, c := range all {
				c.end(z)
			}
			for _, c := range all {
				c.look(z, "after all have closed it")
			}
			z.flush()
			for _, c := range all {
				if got, ok := d.keys(t)[c.name]; ok != (c.now != nil) || ok && got.Size != int64(len(c.now)) {
					t.Errorf("%v: the depot has it: %v, %d bytes, want %d", c, ok, got.Size, len(c.now))
				}
			}
		})
	}
}

func (c *transition) String() string {
	return fmt.Sprintf("%s, %d handles, %s", c.state, c.handles, c.what)
}

// begin brings the file into its state and opens it: 1 is a reader, 2 a reader and a
// writer that has written, 3 a reader and a process that has mapped it.
func (c *transition) begin(z *zone) {
	if c.state == "part" {
		z.evict(c.name)
	}
	open := func(flags int) *os.File {
		f, err := os.OpenFile(z.path(c.name), flags, 0)
		if err != nil {
			z.t.Fatalf("%v: %v", c, err)
		}
		c.opens = append(c.opens, f)
		return f
	}
	if c.handles == 0 && c.state == "part" {
		f := open(os.O_RDONLY)
		c.readSome(z, f)
		f.Close()
		c.opens = nil
		return
	}
	if c.handles > 0 {
		c.readSome(z, open(os.O_RDONLY))
	}
	switch c.handles {
	case 2:
		if _, err := open(os.O_RDWR).WriteAt([]byte("written"), 5000); err != nil {
			z.t.Fatalf("%v: %v", c, err)
		}
		copy(c.old[5000:], "written")
	case 3:
		c.mapped = mapElsewhere(z.t, z.path(c.name))
	}
}

func (c *transition) readSome(z *zone, f *os.File) {
	got := make([]byte, 1000)
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, c.old[:1000]) {
		z.t.Fatalf("%v: first read: %v", c, err)
	}
}

// do makes the change, and says what has to be true then.
func (c *transition) do(z *zone) {
	t := z.t
	path, inShare := z.path(c.name), filepath.Join(z.share, c.name)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%v: %v", c, err)
		}
	}
	other := bytesOf(1000, transitionSize+1000)
	c.now = c.old
	switch c.what {
	case "warm":
		z.must("warm", path)
	case "evict":
		if cmd := z.run("evict", path); c.state == "whole" && (cmd.code == 0) != (c.handles == 0) {
			t.Errorf("%v: %v", c, cmd)
		}
	case "rename-over":
		put(t, path+".new", other)
		must(os.Rename(path+".new", path))
		c.now = other
	case "rename":
		c.renamed = c.name + ".moved"
		must(os.Rename(path, path+".moved"))
		c.now = nil
	case "unlink":
		must(os.Remove(path))
		c.now = nil
	case "truncate":
		must(os.Truncate(path, 100))
		c.old = c.old[:100]
		c.now = c.old
	case "share-replace":
		put(t, inShare+".new", other)
		must(os.Rename(inShare+".new", inShare))
		c.now = other
		if c.state == "part" && c.handles == 2 {
			c.now = c.old // what is written through the mount keeps its name
		}
	case "share-unlink":
		err := os.Remove(inShare)
		if c.state == "part" && errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		must(err)
		if c.state == "whole" {
			c.now = c.first // what the depot has
		}
	case "share-write":
		f, err := os.OpenFile(inShare, os.O_WRONLY, 0)
		must(err)
		_, err = f.WriteAt([]byte("theirs"), 100)
		must(errors.Join(err, f.Close()))
		copy(c.old[100:], "theirs")
	}
}

// look opens the name anew, and reads what is open.
func (c *transition) look(z *zone, when string) {
	check := func(name string, want []byte) {
		got, err := os.ReadFile(z.path(name))
		if want == nil {
			if !errors.Is(err, unix.ENOENT) {
				z.t.Errorf("%v, %s: %s still exists (%v)", c, when, name, err)
			}
			return
		}
		if diff := difference(got, want); err != nil || diff != "" {
			z.t.Errorf("%v, %s: %s opened anew: %v; %s", c, when, name, err, diff)
		}
	}
	check(c.name, c.now)
	if c.renamed != "" {
		check(c.renamed, c.old)
	}
	// What others wrote into the very file shows to who has it open as soon as the
	// kernel has heard of it, which the open above has seen to.
	within := time.Minute
	if c.what != "share-write" {
		within = 0
	}
	eventually(z.t, within, func() error {
		for i, f := range c.opens {
			got, err := io.ReadAll(io.NewSectionReader(f, 0, 2*transitionSize))
			if diff := difference(got, c.old); err != nil || diff != "" {
				return fmt.Errorf("%v, %s: handle %d: %w; %s", c, when, i, err, diff)
			}
		}
		if c.mapped == nil || c.what == "truncate" {
			return nil
		}
		if diff := difference(c.mapped.all(len(c.old)), c.old); diff != "" {
			return fmt.Errorf("%v, %s: the mapping: %s", c, when, diff)
		}
		return nil
	})
}

// end closes everything.
func (c *transition) end(z *zone) {
	for _, f := range c.opens {
		if err := f.Close(); err != nil {
			z.t.Errorf("%v: close: %v", c, err)
		}
	}
	c.opens = nil
	if c.mapped != nil {
		c.mapped.close()
		c.mapped = nil
	}
}
