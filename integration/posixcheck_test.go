package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// checkSets are the tables. Those of data are run again with the bytes in the store.
var checkSets = map[string][]func() []check{
	"names": {pathChecks, longPaths, nameChecks, timeChecks},
	"users": {rightsChecks, ownerChecks},
	"data":  {dataChecks},
	"files": {smallChecks},
}

func checkSet(name string) (all []check) {
	for _, set := range checkSets[name] {
		all = append(all, set()...)
	}
	return all
}

// runChecks runs a set in a bare directory and in the mount, and compares what
// each step answered. between is done when the files were made and before they
// are worked on.
func runChecks(t *testing.T, z *zone, set string, between func(dir string)) {
	t.Helper()
	plain := filepath.Join(z.dir, "plain-"+set)
	// Snapshots are not filled in the background: what is in the store stays there.
	mounted := z.path("snapshots/" + set)
	for _, dir := range []string{plain, mounted} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	bindPlain(t, plain)
	said := map[string][][]string{}
	for _, dir := range []string{plain, mounted} {
		w := startWorker(t, "checks", dir, set)
		if got := w.hear(); got != "ready" {
			t.Fatalf("a worker said %q", got)
		}
		if dir == mounted && between != nil {
			between("snapshots/" + set)
		}
		w.tell("go")
		var lines [][]string
		if err := json.Unmarshal([]byte(w.hear()), &lines); err != nil {
			t.Fatal(err)
		}
		w.wait()
		said[dir] = lines
	}
	failed, steps := 0, 0
	checks := checkSet(set)
	for i, c := range checks {
		got, want := said[mounted][i], said[plain][i]
		steps += len(want)
		text := ""
		for j := range want {
			if strings.Contains(want[j], "BAD STEP") {
				text += "\n  " + want[j]
			}
			if got[j] != want[j] {
				text += fmt.Sprintf("\n   got %s\n  want %s", got[j], want[j][strings.LastIndex(want[j], " = ")+1:])
			}
		}
		if text == "" {
			continue
		}
		if failed++; failed <= 40 {
			t.Errorf("%s%s", c.name, text)
			if failed <= 5 {
				t.Logf("a bare directory answers:\n  %s", strings.Join(want, "\n  "))
			}
		}
	}
	if failed > 0 {
		t.Errorf("%d of %d checks failed", failed, len(checks))
	}
	t.Logf("%d checks, %d steps", len(checks), steps)
}

// bindPlain makes dir a mount of its own with the options that a mount of ours has
// for safety (nosuid, nodev), so that what the kernel answers for them is the same.
func bindPlain(t testing.TB, dir string) {
	t.Helper()
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		t.Fatal(err)
	}
}

// Every system call answers in the mount what it answers in a bare directory.
func TestPosixChecks(t *testing.T) {
	for _, way := range ways {
		for _, store := range []string{"store", "off"} {
			if way.name == "daemon" && store == "off" {
				continue // takes what the other three take already, from the same code
			}
			t.Run(way.name+"/"+store, func(t *testing.T) {
				t.Parallel()
				settings := []setting{way.set}
				if store == "store" {
					settings = append(settings, on(newDepot(t)), with("--settle", "100ms"))
				}
				z := newZone(t, settings...)
				for _, set := range []string{"names", "users", "files", "data"} {
					t.Run(set, func(t *testing.T) { runChecks(t, z.as(t), set, nil) })
				}
			})
		}
	}
}

// What the store still has is there as if it were here: the same checks, on files
// of which no byte is local, and on files of which a block is.
func TestPosixChecksInStore(t *testing.T) {
	for _, way := range ways {
		for _, state := range []string{"remote", "partial"} {
			t.Run(way.name+"/"+state, func(t *testing.T) {
				t.Parallel()
				z := newZone(t, on(newDepot(t)), way.set, with("--settle", "100ms"))
				runChecks(t, z, "data", func(dir string) {
					z.flush()
					z.evict(dir)
					if state == "partial" {
						readSome(t, z.path(dir))
					}
					// The kernel tells of a close some time after close(2).
					eventually(t, patience, func() error {
						files := 0
						for name, is := range z.states() {
							if strings.HasSuffix(name, "/f") && is == state {
								files++
							}
						}
						if want := len(checkSet("data")); files != want {
							return fmt.Errorf("%d files are %s, want %d", files, state, want)
						}
						return nil
					})
				})
				z.flush()
			})
		}
	}
}

// readSome reads a few bytes in the middle of each file f.
func readSome(t testing.TB, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "f"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.ReadAt(make([]byte, 10), bigFile/2)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
}
