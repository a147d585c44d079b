package integration

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// These tests hold the figures of `make bench` that do not depend on the machine: how
// many bytes pass for how many bytes asked for, and in how many requests. A proxy
// counts them, outside of depotfs.

const (
	// answerLate is the delay of every answer where a test counts round trips: reads
	// that do not depend on each other are asked for well within it.
	answerLate = 700 * time.Millisecond
	block      = 4 << 10 // what guests read at random
)

// remoteFile puts an object into the depot and mounts a zone that knows it. Nothing
// of it is here.
func remoteFile(t *testing.T, name string, body []byte, args ...string) (*httpProxy, *zone) {
	t.Helper()
	d := newDepot(t)
	p := d.throughHTTP(t)
	d.Put(t, name, body, nil)
	z := newZone(t, on(d), with(args...))
	z.joined()
	p.forget()
	return p, z
}

// The first bytes of a file cost one round trip, and not what is around them.
func TestFirstBytesTakeOneRoundTrip(t *testing.T) {
	t.Parallel()
	const name, at = "snapshots/1/2/first", 17<<20 + 3*block
	body := bytesOf(1, 33<<20)
	p, z := remoteFile(t, name, body)
	p.late(answerLate)
	if diff := difference(directRead(t, z.path(name), at, block), body[at:at+block]); diff != "" {
		t.Fatal(diff)
	}
	asked := p.of(name)
	p.late(0)
	p.quiet()
	if asked.waits != 1 {
		t.Errorf("4 KiB took %d reads one after the other: %+v", asked.waits, asked)
	}
	if got := p.of(name); got.received > 1<<20 {
		t.Errorf("4 KiB cost %d bytes in %+v", got.received, got.kinds)
	}
}

// Random reads of a file that nobody fills fetch little more than what is asked for,
// one by one and many at once; what is here is not fetched again.
func TestRandomReadsPullLittle(t *testing.T) {
	for _, depth := range []int{1, 16} {
		t.Run(fmt.Sprintf("QD%d", depth), func(t *testing.T) {
			t.Parallel()
			const name, reads = "snapshots/1/2/random", 320
			body := bytesOf(2, 48<<20)
			p, z := remoteFile(t, name, body)
			at := randomBlocks(len(body), reads)
			readBlocks(t, z, name, body, at, depth)
			p.quiet()
			got := p.of(name)
			if limit := int64(16 * reads * block); got.received > limit {
				t.Errorf("%d bytes were pulled for %d read: more than 16 times as many", got.received, reads*block)
			}
			if got.kinds["get"] > reads || got.requests > got.kinds["get"]+1 { // once, its attributes
				t.Errorf("%d reads took %+v", reads, got.kinds)
			}
			before := z.status().Cache
			readBlocks(t, z, name, body, at, depth)
			p.quiet()
			// Some reads look like those of a stream, so a few more may be fetched ahead of it.
			pulled := p.of(name).received
			eventually(t, time.Minute, func() error {
				if here := z.stat(name).Here; pulled > here+1<<20 {
					return fmt.Errorf("%d bytes were pulled and %d are here: some were fetched again", pulled, here)
				}
				return nil
			})
			if c := z.status().Cache; c.ReadMisses != before.ReadMisses || c.ReadHits-before.ReadHits != reads || before.ReadMisses == 0 || before.ReadMisses > reads {
				t.Errorf("status counts %d hits and %d misses, then %d and %d, for %d reads twice", before.ReadHits, before.ReadMisses, c.ReadHits, c.ReadMisses, reads)
			}
		})
	}
}

// randomBlocks are offsets of blocks, each once.
func randomBlocks(size, count int) []int64 {
	random := rand.New(rand.NewPCG(3, 5))
	at := make([]int64, 0, count)
	for _, i := range random.Perm(size / block)[:count] {
		at = append(at, int64(i)*block)
	}
	return at
}

// readBlocks reads blocks with O_DIRECT from so many goroutines and compares them.
func readBlocks(t *testing.T, z *zone, name string, body []byte, at []int64, depth int) {
	t.Helper()
	fd, err := unix.Open(z.path(name), unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var wg sync.WaitGroup
	for worker := range depth {
		wg.Go(func() {
			buf := aligned(block, 0)
			for i := worker; i < len(at); i += depth {
				if n, err := pread(fd, buf, at[i]); err != nil || n != block {
					t.Errorf("read at %d: %d bytes, %v", at[i], n, err)
				} else if diff := difference(buf, body[at[i]:at[i]+block]); diff != "" {
					t.Errorf("at %d: %s", at[i], diff)
				}
			}
		})
	}
	wg.Wait()
}

// Reading a file from its start pulls every byte once, in large requests, and the
// first bytes are there after one round trip.
func TestSequentialReadPullsEveryByteOnce(t *testing.T) {
	t.Parallel()
	const name = "snapshots/1/2/sequential"
	body := bytesOf(4, 64<<20+12345)
	p, z := remoteFile(t, name, body)
	p.late(answerLate)
	f, err := os.Open(z.path(name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, len(body))
	if _, err := io.ReadFull(f, got[:128<<10]); err != nil {
		t.Fatal(err)
	}
	if first := p.of(name); first.waits != 1 {
		t.Errorf("the first 128 KiB took %d reads one after the other: %+v", first.waits, first)
	}
	p.late(0)
	for off := 128 << 10; off < len(got); {
		n, err := f.Read(got[off:min(off+1<<20, len(got))])
		if err != nil {
			t.Fatalf("read at %d: %v", off, err)
		}
		off += n
	}
	if diff := difference(got, body); diff != "" {
		t.Fatal(diff)
	}
	p.quiet()
	sum := p.of(name)
	if sum.received != int64(len(body)) {
		t.Errorf("%d bytes were pulled for a file of %d", sum.received, len(body))
	}
	// Requests grow as the reader goes on: a few small ones, then 1 MiB or more.
	if most := len(body)>>20 + 20; sum.kinds["get"] > most {
		t.Errorf("%d requests for %d bytes", sum.kinds["get"], len(body))
	}
}

// A guest that starts from an image which is filled meanwhile makes nothing be
// fetched twice to speak of.
func TestFillingPullsEveryByteOnce(t *testing.T) {
	t.Parallel()
	const name = "images/boot.raw"
	body := bytesOf(5, 64<<20)
	p, z := remoteFile(t, name, body)
	readBlocks(t, z, name, body, randomBlocks(len(body), 200), 4)
	holds(t, z.path(name), body)
	eventually(t, time.Minute, func() error {
		if st := z.stat(name); st.State != "clean" {
			return fmt.Errorf("state %s, %d of %d bytes are here", st.State, st.Here, st.Size)
		}
		return nil
	})
	p.quiet()
	if got, most := p.of(name).received, int64(len(body))*105/100; got < int64(len(body)) || got > most {
		t.Errorf("%d bytes were pulled for a file of %d", got, len(body))
	}
}

// An upload sends every byte once, in as many requests as it has parts, and depotfs
// counts what it does as the line does.
func TestUploadSendsEveryByteOnce(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	p := d.throughHTTP(t)
	z := newZone(t, on(d), with("--part-size", "5MiB", "--settle", "24h"))
	z.joined()
	const large, small = "volumes/1/large", 20
	body := bytesOf(6, 23<<20+17)
	put(t, z.path(large), body)
	for i := range small {
		put(t, z.path(fmt.Sprintf("volumes/2/small-%d", i)), bytesOf(uint64(100+i), 1<<20))
	}
	p.forget()
	before := z.status().Store
	z.flush()
	p.quiet()
	got := p.of(large)
	if got.sent < int64(len(body)) || got.sent > int64(len(body))+64<<10 { // parts, and the XML that completes
		t.Errorf("%d bytes were sent for a file of %d", got.sent, len(body))
	}
	if got.kinds["create"] != 1 || got.kinds["part"] != 5 || got.kinds["complete"] != 1 || got.kinds["put"] != 0 || got.received != 0 {
		t.Errorf("a file of 5 parts took %+v and pulled %d bytes", got.kinds, got.received)
	}
	for i := range small {
		one := p.of(fmt.Sprintf("volumes/2/small-%d", i))
		if one.kinds["put"] != 1 || one.requests > 2 || one.sent != 1<<20 {
			t.Errorf("a small file took %+v and %d bytes", one.kinds, one.sent)
		}
	}
	after := z.status().Store
	sent, received := p.all()
	if s, r := after.Sent-before.Sent, after.Received-before.Received; s != sent || r != received {
		t.Errorf("status counts %d bytes sent and %d received, the line %d and %d", s, r, sent, received)
	}
	if n := after.Requests["part"] - before.Requests["part"]; n != 5 {
		t.Errorf("status counts %d parts", n)
	}
	object, _ := d.Get(t, large)
	if diff := difference(object, body); diff != "" {
		t.Errorf("the object: %s", diff)
	}
}

// A multipart upload that kill -9 cuts in its middle sends after the restart what the
// store does not have: at most the parts that were on their way.
func TestKilledUploadSendsNothingTwice(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	p := d.throughHTTP(t)
	z := newZone(t, on(d), with("--part-size", "5MiB", "--upload-parts", "1", "--settle", "24h"))
	const name = "volumes/1/killed"
	body := bytesOf(7, 110<<20+999)
	put(t, z.path(name), body)
	p.forget()
	half := p.afterSent(int64(len(body)) / 2)
	go z.run("flush", z.mnt) // ends with the daemon
	select {
	case <-half:
	case <-time.After(patience):
		t.Fatalf("half of the file is not sent within %v: %+v%s", patience, p.of(name), z.logTail())
	}
	z.kill()
	_ = unix.Unmount(z.mnt, unix.MNT_DETACH)
	z.mount()
	z.flush()
	p.quiet()
	if sent := p.of(name).sent; sent > int64(len(body))*105/100 {
		t.Errorf("both runs together sent %d bytes of a file of %d: %d %%", sent, len(body), sent*100/int64(len(body)))
	}
	object, _ := d.Get(t, name)
	if diff := difference(object, body); diff != "" {
		t.Errorf("the object: %s", diff)
	}
}
