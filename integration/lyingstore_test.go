package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lieTime is for how long readers look for a wrong byte, at least.
const lieTime = 12 * time.Second

// lies are what the line or the store may do to an answer that holds bytes of an
// object, such that the answer itself shows it: depotfs must notice each.
var lies = []struct {
	name string
	tell func(w http.ResponseWriter, resp *http.Response, random *rand.Rand)
}{
	{"cut", func(w http.ResponseWriter, resp *http.Response, random *rand.Rand) {
		_ = answerWith(w, resp, io.LimitReader(resp.Body, random.Int64N(resp.ContentLength)))
		panic(http.ErrAbortHandler)
	}},
	{"cut before the head", func(http.ResponseWriter, *http.Response, *rand.Rand) { panic(http.ErrAbortHandler) }},
	{"shortened, and the head agrees", func(w http.ResponseWriter, resp *http.Response, random *rand.Rand) {
		n := random.Int64N(resp.ContentLength)
		resp.Header.Set("Content-Length", strconv.FormatInt(n, 10))
		_ = answerWith(w, resp, io.LimitReader(resp.Body, n))
	}},
	{"another range", func(w http.ResponseWriter, resp *http.Response, random *rand.Rand) {
		// As many bytes, from elsewhere, and the head says from where.
		data, _ := io.ReadAll(resp.Body)
		resp.Header.Set("Content-Range", shifted(resp.Header.Get("Content-Range")))
		_ = answerWith(w, resp, bytes.NewReader(flipped(data, random)))
	}},
	{"the whole object", func(w http.ResponseWriter, resp *http.Response, random *rand.Rand) {
		// A server that takes no ranges: its first bytes are not those asked for.
		_, size, _ := strings.Cut(resp.Header.Get("Content-Range"), "/")
		n, _ := strconv.ParseInt(size, 10, 64)
		resp.StatusCode = http.StatusOK
		resp.Header.Del("Content-Range")
		resp.Header.Set("Content-Length", size)
		_ = answerWith(w, resp, io.LimitReader(rand.NewChaCha8([32]byte{byte(random.Int())}), n))
	}},
	{"another version", func(w http.ResponseWriter, resp *http.Response, random *rand.Rand) {
		data, _ := io.ReadAll(resp.Body)
		resp.Header.Set("ETag", `"00000000000000000000000000000000"`)
		_ = answerWith(w, resp, bytes.NewReader(flipped(data, random)))
	}},
	{"another size", func(w http.ResponseWriter, resp *http.Response, random *rand.Rand) {
		data, _ := io.ReadAll(resp.Body)
		unit, _, _ := strings.Cut(resp.Header.Get("Content-Range"), "/")
		resp.Header.Set("Content-Range", unit+"/123456789")
		_ = answerWith(w, resp, bytes.NewReader(flipped(data, random)))
	}},
	{"refused for now", func(w http.ResponseWriter, resp *http.Response, _ *rand.Rand) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>later</Message></Error>`)
	}},
	{"late, behind later ones", func(w http.ResponseWriter, resp *http.Response, random *rand.Rand) {
		<-time.After(time.Duration(random.IntN(400)) * time.Millisecond)
		_ = answerWith(w, resp, resp.Body)
	}},
	{"in drops", func(w http.ResponseWriter, resp *http.Response, random *rand.Rand) {
		for name, values := range resp.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(resp.StatusCode)
		for range 20 {
			if _, err := io.CopyN(w, resp.Body, 1+random.Int64N(3000)); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			<-time.After(time.Millisecond)
		}
		_, _ = io.Copy(w, resp.Body)
	}},
}

// shifted is a Content-Range that begins elsewhere.
func shifted(text string) string {
	var from, to, size int64
	if _, err := fmt.Sscanf(text, "bytes %d-%d/%d", &from, &to, &size); err != nil {
		return text
	}
	return fmt.Sprintf("bytes %d-%d/%d", from+4096, to+4096, size)
}

// flipped is data that is wrong everywhere, so that no reader misses it.
func flipped(data []byte, random *rand.Rand) []byte {
	mask := byte(1 + random.IntN(255))
	for i := range data {
		data[i] ^= mask
	}
	return data
}

// liar spoils a share of the answers that hold bytes of objects.
type liar struct {
	mu     sync.Mutex
	random *rand.Rand     // guarded by mu
	told   map[string]int // guarded by mu; how often each lie was told
}

// toldAll says whether every lie was told.
func (l *liar) toldAll() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.told) == len(lies)
}

// answer is for httpProxy.spoil.
func (l *liar) answer(w http.ResponseWriter, e *exchange, resp *http.Response) {
	if e.kind() == "get" && !strings.HasPrefix(e.key, ".depotfs/") && resp.StatusCode < 300 && resp.ContentLength > 1 && resp.Header.Get("Content-Range") != "" {
		l.mu.Lock()
		i := l.random.IntN(2 * len(lies))
		random := rand.New(rand.NewPCG(l.random.Uint64(), 1))
		if i < len(lies) {
			l.told[lies[i].name]++
		}
		l.mu.Unlock()
		if i < len(lies) {
			lies[i].tell(w, resp, random)
			return
		}
	}
	if err := answerWith(w, resp, resp.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// However the line spoils answers, several readers find no wrong byte, and what comes
// home is right. A read may fail with EIO; it must not lie.
func TestLyingStoreShowsNoWrongByte(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	p := d.throughHTTP(t)
	names := []string{"snapshots/1/scattered", "images/filled", "volumes/1/stream"}
	bodies := map[string][]byte{}
	for i, name := range names {
		bodies[name] = bytesOf(uint64(i+1), 24<<20+i*4099)
		d.Put(t, name, bodies[name], nil)
	}
	z := newZone(t, on(d), with("--cold-timeout", "20s", "--max-error-retry", "1"))
	z.quiet = true
	z.joined()
	l := &liar{random: rand.New(rand.NewPCG(1, 9)), told: map[string]int{}}
	p.spoil(l.answer)
	var right, failed [3]atomic.Int64
	begin := time.Now()
	over := func() bool { // a slow machine needs longer until everything has happened
		took := time.Since(begin)
		return took > patience || took > lieTime && l.toldAll() && right[0].Load() > 0 && right[1].Load() > 0 && right[2].Load() > 0
	}
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { readUntil(t, z, name, bodies[name], i, over, &right[i], &failed[i]) })
	}
	// Meanwhile bytes are dropped again, so that there is always something to fetch.
	wg.Go(func() {
		for !over() && !t.Failed() {
			<-time.After(time.Second)
			z.run("evict", z.path(names[0]), z.path(names[1]), z.path(names[2])) // open ones stay
		}
	})
	wg.Wait()
	for i, name := range names {
		if right[i].Load() == 0 {
			t.Errorf("no read of %s succeeded, %d failed", name, failed[i].Load())
		}
		t.Logf("%s: %d reads right, %d failed", name, right[i].Load(), failed[i].Load())
	}
	l.mu.Lock()
	for _, lie := range lies {
		if l.told[lie.name] == 0 {
			t.Errorf("%q was never done to an answer: %v", lie.name, l.told)
		}
	}
	t.Logf("done to answers: %v", l.told)
	l.mu.Unlock()
	p.spoil(nil)
	for _, name := range names {
		eventually(t, time.Minute, func() error { // the last of the spoiled answers are still on their way
			got, err := os.ReadFile(z.path(name))
			if err != nil {
				return err
			}
			if diff := difference(got, bodies[name]); diff != "" {
				t.Fatalf("%s: %s", name, diff)
			}
			return nil
		})
	}
	z.must("warm", z.mnt)
	for _, name := range names {
		holds(t, filepath.Join(z.share, name), bodies[name])
	}
}

// readUntil opens, reads and closes until it is over: pieces here and there, or from
// a place on. It counts how many reads were right and how many failed.
func readUntil(t *testing.T, z *zone, name string, body []byte, kind int, over func() bool, right, failed *atomic.Int64) {
	random := rand.New(rand.NewPCG(uint64(kind), 7))
	buf := make([]byte, 256<<10)
	for !over() && !t.Failed() {
		f, err := os.Open(z.path(name))
		if err != nil {
			t.Errorf("open %s: %v", name, err)
			return
		}
		off := random.Int64N(int64(len(body)))
		for range 12 {
			n, err := f.ReadAt(buf[:1+random.IntN(len(buf))], off)
			switch {
			case errors.Is(err, unix.EIO):
				failed.Add(1)
			case err != nil && !errors.Is(err, io.EOF):
				t.Errorf("%s: read at %d: %v, want EIO", name, off, err)
			case errors.Is(err, io.EOF) && off+int64(n) != int64(len(body)):
				t.Errorf("%s: the file of %d bytes ends at %d", name, len(body), off+int64(n))
			}
			if diff := difference(buf[:n], body[off:off+int64(n)]); diff != "" {
				t.Errorf("%s at %d: %s", name, off, diff)
				f.Close()
				return
			}
			if err == nil {
				right.Add(1)
			}
			if kind == 2 && off+int64(n) < int64(len(body)) {
				off += int64(n)
			} else {
				off = random.Int64N(int64(len(body)))
			}
		}
		f.Close()
	}
}

// Bytes that were changed on the way, in an answer that looks right, show when the
// file is whole: its checksum is that of the object or it does not come home.
func TestCorruptBytesNeverComeHome(t *testing.T) {
	t.Parallel()
	const name = "images/corrupt"
	body := bytesOf(8, 24<<20+5)
	p, z := remoteFile(t, name, body)
	z.quiet = true
	var mu sync.Mutex
	left := 2
	p.spoil(func(w http.ResponseWriter, e *exchange, resp *http.Response) {
		mu.Lock()
		bad := left > 0 && e.key == name && e.kind() == "get" && resp.ContentLength > 1<<20
		if bad {
			left--
		}
		mu.Unlock()
		body := io.Reader(resp.Body)
		if bad {
			data, _ := io.ReadAll(resp.Body)
			data[len(data)/2] ^= 0x40
			body = bytes.NewReader(data)
		}
		if err := answerWith(w, resp, body); err != nil {
			panic(http.ErrAbortHandler)
		}
	})
	home := filepath.Join(z.share, name)
	eventually(t, 2*time.Minute, func() error {
		if c := z.run("warm", z.path(name)); c.code != 0 {
			return errors.New(c.String())
		}
		_, err := os.Stat(home)
		return err
	})
	holds(t, home, body)
	holds(t, z.path(name), body)
	mu.Lock()
	defer mu.Unlock()
	if left > 0 {
		t.Errorf("%d answers were to be corrupted and were not asked for", left)
	}
	if log := z.log(); !strings.Contains(log, "checksum") {
		t.Errorf("the log does not say that a checksum was wrong%s", z.logTail())
	}
}
