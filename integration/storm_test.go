package integration

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	jobs["storm"] = stormJob
	jobs["append"] = appendJob
}

// stormAnswers are what a call may answer to one of many who change the same names:
// what a local file system would. EIO and ESTALE are not among them.
var stormAnswers = []unix.Errno{unix.ENOENT, unix.EEXIST, unix.ENOTDIR, unix.EISDIR, unix.ENOTEMPTY, unix.EINVAL, unix.EPERM, unix.ELOOP}

// storm is one of the processes that change names in a tree which they share.
type storm struct {
	root   string
	random *rand.Rand
}

// path has few names and three levels. Files and directories have names of their own,
// for the reason that model.place gives.
func (s *storm) path(letter string) string {
	p := s.root
	for range s.random.IntN(3) {
		p = filepath.Join(p, "d"+strconv.Itoa(s.random.IntN(4)))
	}
	return filepath.Join(p, letter+strconv.Itoa(s.random.IntN(6)))
}

func (s *storm) step() (what string, err error) {
	letter := []string{"f", "f", "d"}[s.random.IntN(3)]
	p, q := s.path(letter), s.path(letter)
	kind := s.random.IntN(14)
	switch {
	case letter == "d" && kind < 3:
		kind = 3 // mkdir
	case letter == "f" && (kind == 3 || kind == 4):
		kind = 0
	case letter == "d" && kind == 11:
		kind = 10
	}
	switch kind {
	case 0, 1, 2:
		fd, err := unix.Open(p, unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC|[]int{0, unix.O_EXCL, unix.O_TRUNC}[s.random.IntN(3)], 0o640)
		if err != nil {
			return "create " + p, err
		}
		_, err = unix.Pwrite(fd, bytesOf(s.random.Uint64(), 1+s.random.IntN(20_000)), int64(s.random.IntN(5000)))
		return "write " + p, errors.Join(err, unix.Close(fd))
	case 3, 4:
		return "mkdir " + p, unix.Mkdir(p, 0o750)
	case 5, 6:
		return "rename " + p + " " + q, unix.Renameat2(unix.AT_FDCWD, p, unix.AT_FDCWD, q, []uint{0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE}[s.random.IntN(4)])
	case 7:
		return "link " + p + " " + q, unix.Link(p, q)
	case 8, 9:
		return "unlink " + p, unix.Unlink(p)
	case 10:
		return "rmdir " + p, unix.Rmdir(p)
	case 11:
		return "symlink " + p, unix.Symlink("to/nothing", p)
	case 12:
		return "chmod " + p, unix.Fchmodat(unix.AT_FDCWD, p, uint32(0o600|s.random.IntN(0o100)), 0)
	}
	at := unix.NsecToTimespec(s.random.Int64N(1_700_000_000_000_000_000))
	return "utimens " + p, unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
}

// stormJob does random operations. Its arguments are the tree, the seed and how many.
func stormJob(args []string, _ *bufio.Reader, _ io.Writer) error {
	seed, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return err
	}
	steps, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	s := &storm{root: args[0], random: rand.New(rand.NewPCG(seed, 7))}
	for i := range steps {
		what, err := s.step()
		var errno unix.Errno
		if err != nil && !(errors.As(err, &errno) && slices.Contains(stormAnswers, errno)) {
			return fmt.Errorf("seed %d, operation %d, %s: %w", seed, i, what, err)
		}
	}
	return nil
}

// Many processes change the same names at the same time. In the end the mount shows
// what the cache directory has, also after a remount, and so does the depot.
func TestNamesUnderAStorm(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			d := newDepot(t)
			z := newZone(t, on(d), way.set, with("--settle", "1s"))
			tree := z.path("volumes")
			if err := os.Mkdir(tree, 0o755); err != nil {
				t.Fatal(err)
			}
			seed := rand.Uint64()
			t.Logf("seeds from %d on", seed)
			var all []*worker
			for i := range uint64(6) {
				all = append(all, startWorker(t, "storm", tree, strconv.FormatUint(seed+i, 10), "700"))
			}
			for _, w := range all {
				w.wait()
			}
			if diff := treeDifference(t, z.mnt, z.share); diff != "" {
				t.Errorf("the mount differs from the cache directory:%s", diff)
			}
			z.remount()
			if diff := treeDifference(t, z.mnt, z.share); diff != "" {
				t.Errorf("after a remount the mount differs from the cache directory:%s", diff)
			}
			z.flush()
			depotHolds(t, d, z.mnt)
		})
	}
}

const appendRecord = 100 // bytes

// appendJob appends records to a file, each by one write. Its arguments are the file,
// the letter of its records and how many.
func appendJob(args []string, _ *bufio.Reader, _ io.Writer) error {
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	fd, err := unix.Open(args[0], unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	for i := range n {
		record := bytes.Repeat([]byte(args[1]), appendRecord-9)
		record = fmt.Appendf(record, "%08d\n", i)
		if _, err := unix.Write(fd, record); err != nil {
			return err
		}
	}
	return unix.Close(fd)
}

// Many processes append to one file: no record is lost, and none is in two pieces.
func TestAppendsOfManyProcesses(t *testing.T) {
	t.Parallel()
	const records = 400
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			z := newZone(t, way.set)
			put(t, z.path("log"), nil)
			letters := []string{"a", "b", "c", "d", "e"}
			var all []*worker
			for _, l := range letters {
				all = append(all, startWorker(t, "append", z.path("log"), l, strconv.Itoa(records)))
			}
			for _, w := range all {
				w.wait()
			}
			got, err := os.ReadFile(z.path("log"))
			if err != nil {
				t.Fatal(err)
			}
			next := map[byte]int{}
			for record := range slices.Chunk(got, appendRecord) {
				l := record[0]
				want := fmt.Appendf(bytes.Repeat([]byte{l}, appendRecord-9), "%08d\n", next[l])
				if !bytes.Equal(record, want) {
					t.Fatalf("a record is %q, want %q", record, want)
				}
				next[l]++
			}
			for _, l := range letters {
				if next[l[0]] != records {
					t.Errorf("%d records of %s, want %d", next[l[0]], l, records)
				}
			}
		})
	}
}

// A program that runs cannot be opened for writing, and one that is open for writing
// cannot be run: as in a bare directory, where the kernel can see it.
func TestProgramsThatAreWrittenTo(t *testing.T) {
	t.Parallel()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	body, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	busy := func(dir string) (transcript []string) {
		program := filepath.Join(dir, "program")
		if err := os.WriteFile(program, body, 0o755); err != nil {
			t.Fatal(err)
		}
		say := func(what string, err error) {
			var errno unix.Errno
			errors.As(err, &errno)
			transcript = append(transcript, fmt.Sprintf("%s: %s", what, unix.ErrnoName(errno)))
		}
		run := exec.Command(program, "600")
		eventually(t, time.Minute, run.Start) // whoever forks just now has our descriptor for a moment
		open := func(what string, flags int) {
			fd, err := unix.Open(program, flags|unix.O_CLOEXEC, 0)
			say(what, err)
			if err == nil {
				unix.Close(fd)
			}
		}
		open("open for writing while it runs", unix.O_WRONLY)
		open("open for reading and writing while it runs", unix.O_RDWR)
		say("truncate while it runs", unix.Truncate(program, 0))
		open("open for reading while it runs", unix.O_RDONLY)
		_ = run.Process.Kill()
		_ = run.Wait()
		fd, err := unix.Open(program, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		say("open for writing after it ran", err)
		say("run while it is open for writing", exec.Command(program, "0").Run())
		unix.Close(fd)
		var last error
		eventually(t, time.Minute, func() error { last = exec.Command(program, "0").Run(); return last })
		say("run after that", last)
		return transcript
	}
	want := busy(t.TempDir())
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			if got := busy(newZone(t, way.set).mnt); !slices.Equal(got, want) {
				t.Errorf("the mount:\n%q\na bare directory:\n%q", got, want)
			}
		})
	}
}
