package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
)

// restart does what docs/nfs.md says: the server down, depotfs down and up, the
// server up.
func (g *ganesha) restart() {
	g.t.Helper()
	g.stop()
	g.z.remount()
	g.start()
}

// Clients that are in the middle of a file go on there over a restart of depotfs,
// with the handles that they have; so they do after it was killed, once the server
// was restarted.
func TestNFSReadsOverRestart(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			d := newDepot(t)
			z := newZone(t, on(d), way.set, with("--settle", "2s"))
			here, there := bytesOf(1, 8<<20), bytesOf(2, 8<<20)
			put(t, z.path("template/here"), here)
			put(t, z.path("template/there"), there)
			z.flush()
			z.evict("template/there")
			g := newGanesha(t, z, nil)

			// A program that has read a part and wants the rest.
			ctx, cancel := context.WithTimeout(t.Context(), 2*commandTime)
			defer cancel()
			cat := g.inside(ctx, "nfs-cat", g.url(3, "template/there"))
			out, err := cat.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			var said bytes.Buffer
			cat.Stderr = &said
			if err := cat.Start(); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(there))
			if _, err := io.ReadFull(out, got[:1<<20]); err != nil {
				t.Fatal(err)
			}

			// One that reads all the time.
			n := g.nfs3()
			root, err := n.mount(export + "/template")
			if err != nil {
				t.Fatal(err)
			}
			file, err := n.lookup(root, "here")
			if err != nil {
				t.Fatal(err)
			}
			var stop atomic.Bool
			reading := make(chan error)
			go func() {
				const step = 256 << 10
				for off := 0; !stop.Load(); off = (off + step) % len(here) {
					b, err := n.read(file, uint64(off), step)
					if err == nil && !bytes.Equal(b, here[off:off+len(b)]) {
						err = errors.New("other bytes than the file's")
					}
					if err != nil {
						reading <- err
						return
					}
				}
				reading <- nil
			}()

			// One that has it open by NFSv4.
			c, err := g.nfs4("a host")
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			open, id, err := c.open(export+"/template/here", false)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := c.read(open, id, 100, 100); err != nil || !bytes.Equal(b, here[100:200]) {
				t.Fatalf("read by NFSv4: %d bytes, %v", len(b), err)
			}

			g.restart()

			if _, err := io.ReadFull(out, got[1<<20:]); err != nil {
				t.Fatalf("after the restart: %v\n%s", err, &said)
			}
			if err := cat.Wait(); err != nil || !bytes.Equal(got, there) {
				t.Errorf("nfs-cat over a restart: %v, %s\n%s", err, difference(got, there), &said)
			}
			again, err := g.nfs4("a host")
			if err != nil {
				t.Fatal(err)
			}
			defer again.close()
			if b, err := again.read(open, stateID{}, 200, 100); err != nil || !bytes.Equal(b, here[200:300]) {
				t.Errorf("the NFSv4 handle after a restart: %d bytes, %v", len(b), err)
			}
			reopened, id, err := again.open(export+"/template/here", false)
			if err != nil || !bytes.Equal(reopened, open) {
				t.Errorf("opened again it has the handle %x, had %x (%v)", reopened, open, err)
			} else if err := again.closeFile(reopened, id); err != nil {
				t.Error(err)
			}
			stop.Store(true)
			if err := <-reading; err != nil {
				t.Errorf("reading over a restart: %v", err)
			}

			// Killed, with the server left alone: errors, nothing else.
			z.kill()
			if b, err := n.read(file, 0, 100); err == nil && !bytes.Equal(b, here[:100]) {
				t.Errorf("after a kill the server answers %q", b)
			}
			g.stop()
			z.mount()
			g.start()
			if b, err := n.read(file, 300, 100); err != nil || !bytes.Equal(b, here[300:400]) {
				t.Errorf("the handle after a kill: %d bytes, %v", len(b), err)
			}
			copy(here, "written by the old handle")
			if err := n.write(file, 0, here[:100]); err != nil {
				t.Fatal(err)
			}
			arrives(t, d, "template/here", here)
			holds(t, z.path("template/here"), here)
		})
	}
}

// A daemon that dies while the server holds files open does not send again what
// the bucket has.
func TestNFSKilledWithFilesOpen(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	z := newZone(t, on(d), with("--settle", "2s"))
	g := newGanesha(t, z, holdsOn)
	n := g.nfs3()
	root, err := n.mount(export)
	if err != nil {
		t.Fatal(err)
	}
	body := bytesOf(1, 24<<20)
	file, err := n.create(root, "image", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.write(file, 0, body); err != nil {
		t.Fatal(err)
	}
	if err := n.commit(file); err != nil {
		t.Fatal(err)
	}
	z.flush()
	if got, _ := d.Get(t, "image"); !bytes.Equal(got, body) {
		t.Fatalf("after flush: %s", difference(got, body))
	}
	if !g.holds("image") {
		t.Fatal("the server has closed the file: this shows nothing")
	}
	z.kill()
	g.stop()
	z.mount()
	z.flush()
	if s := z.status().Store; s.Sent > 1<<20 {
		t.Errorf("%d bytes were sent again", s.Sent)
	}
	if s := z.stat("image"); s.State != "clean" {
		t.Errorf("it is %s: %s", s.State, s.Why)
	}
	z.evict("image")
	holds(t, z.path("image"), body)
}

// A listing by NFSv3 goes on from its cookie over a restart of server and depotfs.
func TestNFSListsOverRestart(t *testing.T) {
	t.Parallel()
	z := newZone(t)
	const files = 400
	for i := range files {
		put(t, z.path(fmt.Sprintf("dir/%03d", i)), nil)
	}
	g := newGanesha(t, z, nil)
	n := g.nfs3()
	dir, err := n.mount(export + "/dir")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	restarted := false
	for cookie, end := uint64(0), false; !end; {
		var entries []nfsEntry
		if entries, end, err = n.readdir(dir, cookie, 2048); err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			seen[e.name]++
			cookie = e.cookie
		}
		if len(seen) > files/2 && !restarted {
			restarted = true
			g.restart()
		}
	}
	if !restarted {
		t.Error("the whole listing came at once: this shows nothing")
	}
	for i := range files {
		if name := fmt.Sprintf("%03d", i); seen[name] != 1 {
			t.Errorf("%s was listed %d times", name, seen[name])
		}
	}
}
