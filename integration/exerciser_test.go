package integration

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// exercised is one file under random operations, beside the bytes that it should
// have. Everything happens in a worker, which maps it too.
type exercised struct {
	path    string
	random  *rand.Rand
	fd      int
	direct  bool
	want    []byte
	history []string
}

// exerciseMax is the largest size; most operations are near each other, so that
// they meet in pages and blocks.
const exerciseMax = 3 << 20

// exerciseJob does random operations on a new file, in rounds. Its arguments are the
// path, the seed and the operations of a round. After each round it says so, with
// the file closed, and goes on when it is told to.
func exerciseJob(args []string, in *bufio.Reader, out io.Writer) error {
	seed, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return err
	}
	steps, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	x := &exercised{path: args[0], random: rand.New(rand.NewPCG(seed, 1)), fd: -1}
	if err := os.WriteFile(x.path, nil, 0o644); err != nil {
		return err
	}
	for {
		for range steps {
			if err := x.step(); err != nil {
				return fmt.Errorf("seed %d: %w\nthe last operations were:\n%s", seed, err, strings.Join(x.history[max(0, len(x.history)-80):], "\n"))
			}
		}
		if err := x.compare("at the end of a round"); err != nil {
			return fmt.Errorf("seed %d: %w\nthe last operations were:\n%s", seed, err, strings.Join(x.history[max(0, len(x.history)-80):], "\n"))
		}
		x.close()
		fmt.Fprintln(out, "round")
		if line, err := in.ReadString('\n'); err != nil || line == "stop\n" {
			return err
		}
		x.note("round")
	}
}

func (x *exercised) note(format string, args ...any) {
	x.history = append(x.history, fmt.Sprintf("%6d ", len(x.history))+fmt.Sprintf(format, args...))
}

func (x *exercised) close() {
	if x.fd >= 0 {
		unix.Close(x.fd)
		x.fd = -1
	}
}

func (x *exercised) open() error {
	flags := unix.O_RDWR | unix.O_CLOEXEC
	if x.direct = x.random.IntN(4) == 0; x.direct {
		flags |= unix.O_DIRECT
	}
	x.note("open direct=%v", x.direct)
	fd, err := unix.Open(x.path, flags, 0)
	x.fd = fd
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	return nil
}

// place is an offset and a length within limit, whole blocks where they must be.
func (x *exercised) place(limit int) (off, n int) {
	if limit = min(limit, exerciseMax); limit <= 0 {
		return 0, 0
	}
	off, n = x.random.IntN(limit), 1+x.random.IntN(200_000)
	if x.random.IntN(3) == 0 {
		n = 1 + x.random.IntN(5000)
	}
	if x.direct || x.random.IntN(3) == 0 {
		off, n = off&^(directAlign-1), (n+directAlign-1)&^(directAlign-1)
	}
	if off+n > exerciseMax {
		n = exerciseMax - off
	}
	return off, n
}

func (x *exercised) step() error {
	if x.fd < 0 || x.random.IntN(25) == 0 {
		x.close()
		if err := x.open(); err != nil {
			return err
		}
	}
	switch r := x.random.IntN(100); {
	case r < 25:
		return x.write()
	case r < 50:
		return x.read()
	case r < 60:
		return x.truncate()
	case r < 68:
		return x.mapped(true)
	case r < 75:
		return x.mapped(false)
	case r < 85:
		return x.allocate()
	case r < 92:
		return x.copy()
	case r < 95:
		x.note("fsync")
		return unix.Fsync(x.fd)
	case r < 98:
		return x.seek()
	}
	return x.compare("by a second descriptor")
}

// grow has want be at least n bytes.
func (x *exercised) grow(n int) {
	if n > len(x.want) {
		x.want = append(x.want, make([]byte, n-len(x.want))...)
	}
}

func (x *exercised) write() error {
	off, n := x.place(min(exerciseMax-directAlign, len(x.want)+300_000))
	buf := aligned(n, 0)
	for i := range buf {
		buf[i] = byte(len(x.history)) + byte(i>>8) + byte(i)
	}
	x.note("write %d+%d", off, n)
	if m, err := unix.Pwrite(x.fd, buf, int64(off)); err != nil || m != n {
		return fmt.Errorf("write %d+%d: %d, %w", off, n, m, err)
	}
	x.grow(off + n)
	copy(x.want[off:], buf)
	return nil
}

func (x *exercised) read() error {
	off, n := x.place(len(x.want) + 10_000)
	buf := aligned(n, 0)
	x.note("read %d+%d", off, n)
	m, err := unix.Pread(x.fd, buf, int64(off))
	if err != nil {
		return fmt.Errorf("read %d+%d: %w", off, n, err)
	}
	return x.check(fmt.Sprintf("read %d+%d", off, n), buf[:m], off, n)
}

// check compares bytes that were read from off, where n were asked for.
func (x *exercised) check(what string, got []byte, off, n int) error {
	off = min(off, len(x.want))
	if diff := difference(got, x.want[off:min(off+n, len(x.want))]); diff != "" {
		return fmt.Errorf("%s: %s", what, diff)
	}
	return nil
}

func (x *exercised) truncate() error {
	size := x.random.IntN(exerciseMax)
	if x.random.IntN(3) > 0 && len(x.want) > 0 {
		size = len(x.want)/2 + x.random.IntN(len(x.want))
	}
	size = min(size, exerciseMax)
	x.note("truncate %d", size)
	var err error
	if x.random.IntN(2) == 0 {
		err = unix.Ftruncate(x.fd, int64(size))
	} else {
		err = unix.Truncate(x.path, int64(size))
	}
	if err != nil {
		return fmt.Errorf("truncate %d: %w", size, err)
	}
	x.want = x.want[:min(size, len(x.want))]
	x.grow(size)
	return nil
}

func (x *exercised) mapped(write bool) error {
	off, n := x.place(len(x.want))
	n = min(n, len(x.want)-off)
	if n <= 0 {
		return nil
	}
	from := off &^ (os.Getpagesize() - 1)
	x.note("map %d+%d write=%v", off, n, write)
	b, err := unix.Mmap(x.fd, int64(from), off+n-from, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map %d+%d: %w", off, n, err)
	}
	err = x.check(fmt.Sprintf("map %d+%d", off, n), b[off-from:], off, n)
	if err == nil && write {
		for i := range n {
			b[off-from+i] = byte(len(x.history)*3 + i)
		}
		copy(x.want[off:], b[off-from:])
		if x.random.IntN(2) == 0 {
			err = unix.Msync(b, unix.MS_SYNC)
		}
	}
	return errors.Join(err, unix.Munmap(b))
}

func (x *exercised) allocate() error {
	off, n := x.place(len(x.want) + 100_000)
	if n <= 0 {
		return nil
	}
	mode := []int{0, unix.FALLOC_FL_KEEP_SIZE, allocModes["punch"], unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE}[x.random.IntN(5)]
	x.note("fallocate %d+%d mode=%#x", off, n, mode)
	if err := unix.Fallocate(x.fd, uint32(mode), int64(off), int64(n)); err != nil {
		return fmt.Errorf("fallocate %d+%d mode=%#x: %w", off, n, mode, err)
	}
	if mode&unix.FALLOC_FL_KEEP_SIZE == 0 {
		x.grow(off + n)
	}
	if mode&^unix.FALLOC_FL_KEEP_SIZE != 0 && off < len(x.want) {
		clear(x.want[off:min(off+n, len(x.want))])
	}
	return nil
}

// copy copies within the file, to a place that does not overlap.
func (x *exercised) copy() error {
	from, n := x.place(len(x.want))
	to, _ := x.place(exerciseMax - directAlign)
	n = min(n, len(x.want)-from, exerciseMax-to)
	if n <= 0 || from < to+n && to < from+n {
		return nil
	}
	x.note("copy %d+%d to %d", from, n, to)
	src, dst := int64(from), int64(to)
	for done := 0; done < n; {
		m, err := unix.CopyFileRange(x.fd, &src, x.fd, &dst, n-done, 0)
		if err != nil || m == 0 {
			return fmt.Errorf("copy %d+%d to %d: %d, %w", from, n, to, m, err)
		}
		done += m
	}
	x.grow(to + n)
	copy(x.want[to:], x.want[from:from+n])
	return nil
}

// seek checks that what is called a hole reads as zeros.
func (x *exercised) seek() error {
	if len(x.want) == 0 {
		return nil
	}
	at := int64(x.random.IntN(len(x.want)))
	x.note("seek from %d", at)
	hole, err := unix.Seek(x.fd, at, unix.SEEK_HOLE)
	if err != nil || hole > int64(len(x.want)) {
		return fmt.Errorf("hole after %d: %d, %w", at, hole, err)
	}
	data, err := unix.Seek(x.fd, hole, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		data, err = int64(len(x.want)), nil
	}
	if err != nil {
		return fmt.Errorf("data after %d: %w", hole, err)
	}
	if len(bytes.Trim(x.want[hole:data], "\x00")) > 0 {
		return fmt.Errorf("%d to %d is called a hole and holds data", hole, data)
	}
	return nil
}

func (x *exercised) compare(when string) error {
	x.note("compare")
	got, err := os.ReadFile(x.path)
	if err != nil {
		return err
	}
	if diff := difference(got, x.want); diff != "" {
		return fmt.Errorf("%s: %s", when, diff)
	}
	return nil
}

// A file under random operations of every kind has the bytes that it should have,
// wherever they were when each began.
func TestExercise(t *testing.T) {
	length, seeds := randomRuns(t, 20*time.Second)
	length /= 4 // there are many of them
	for _, way := range ways {
		for _, where := range []string{"here", "off", "remote", "partial"} {
			t.Run(way.name+"/"+where, func(t *testing.T) {
				t.Parallel()
				settings := []setting{way.set}
				if where != "off" {
					settings = append(settings, on(newDepot(t)), with("--settle", "50ms", "--part-size", "5MiB"))
				}
				z := newZone(t, settings...)
				if err := os.MkdirAll(z.path("snapshots"), 0o755); err != nil {
					t.Fatal(err)
				}
				for _, seed := range seeds {
					z.exercise(where, seed, length)
				}
			})
		}
	}
}

func (z *zone) exercise(where string, seed uint64, length time.Duration) {
	z.t.Helper()
	name := fmt.Sprintf("snapshots/exercised%d", seed)
	steps := "400"
	if where == "remote" || where == "partial" {
		steps = "15" // then the bytes go away again
	}
	w := startWorker(z.t, "exercise", z.path(name), strconv.FormatUint(seed, 10), steps)
	rounds := 0
	for end := time.Now().Add(length); ; rounds++ {
		z.watchdog.Reset(hangTime)
		w.hear()
		if time.Now().After(end) {
			break
		}
		switch where {
		case "remote", "partial":
			eventually(z.t, time.Minute, func() error { // the kernel tells of a close late
				z.flush(name)
				if c := z.run("evict", z.path(name)); c.code != 0 {
					return fmt.Errorf("%v", c)
				}
				return nil
			})
			if where == "partial" {
				f, err := os.Open(z.path(name))
				if err != nil {
					z.t.Fatal(err)
				}
				_, err = f.ReadAt(make([]byte, 100), int64(rounds%10)*250_000)
				f.Close()
				if err != nil && !errors.Is(err, io.EOF) {
					z.t.Fatal(err)
				}
			}
		}
		w.tell("go")
	}
	w.tell("stop")
	w.wait()
	z.t.Logf("seed %d: %d rounds", seed, rounds)
}

// randomRuns is for how long and from which seeds tests with random operations run.
func randomRuns(t testing.TB, length time.Duration) (time.Duration, []uint64) {
	t.Helper()
	if text := os.Getenv("DEPOTFS_MODEL_TIME"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("DEPOTFS_MODEL_TIME: %v", err)
		}
	}
	seeds := []uint64{rand.Uint64N(1_000_000)}
	if text := os.Getenv("DEPOTFS_MODEL_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("DEPOTFS_MODEL_SEED: %v", err)
		}
		seeds = []uint64{seed}
	}
	return length, seeds
}
