package catalog_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"depotfs/cache/catalog"
)

// childEnv makes the test binary the process that is killed: its value is the
// directory of the catalog.
const childEnv = "DEPOTFS_TEST_CATALOG_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		fmt.Fprintln(os.Stderr, commitForever(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// commitForever makes files from several goroutines and writes the number of
// each to standard output once Update has returned.
func commitForever(dir string) error {
	c, err := catalog.Open(dir, catalog.Options{})
	if err != nil {
		return err
	}
	errs := make(chan error)
	for range 4 {
		go func() {
			value := make([]byte, 16<<10) // so that memory tables fill up and are flushed
			for {
				ino, err := c.NextIno()
				if err == nil {
					err = c.Update(func(tx *catalog.Tx) error {
						return errors.Join(
							tx.PutInode(sampleInode(ino)),
							tx.PutDirent(catalog.Dirent{Parent: catalog.Root, Name: fmt.Sprint(ino), Ino: ino}),
							tx.PutXattr(ino, "padding", value))
					})
				}
				if err == nil {
					_, err = fmt.Println(uint64(ino))
				}
				if err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	return <-errs
}

// TestKilled kills a process again and again in the midst of committing.
func TestKilled(t *testing.T) {
	const kills = 4
	dir := t.TempDir()
	known := map[catalog.Ino]bool{}
	for round := range kills {
		// Twice: the second child recovers what the first one left, and is killed over it.
		for _, ino := range append(killAfter(t, dir, 100+1000*round), killAfter(t, dir, 50)...) {
			if known[ino] {
				t.Fatalf("number %d was handed out again", ino)
			}
			known[ino] = true
		}
		c := open(t, dir, catalog.Options{})
		if !c.Unclean() || !c.SameBoot() || c.New() {
			t.Errorf("after a kill: Unclean %v, SameBoot %v, New %v", c.Unclean(), c.SameBoot(), c.New())
		}
		cookies := map[uint64]bool{}
		view(t, c, func(tx *catalog.Tx) error {
			for ino := range known {
				if _, err := tx.Inode(ino); err != nil {
					t.Errorf("inode %d was committed: %v", ino, err)
				}
				if d, err := tx.Lookup(catalog.Root, fmt.Sprint(ino)); err != nil || d.Ino != ino {
					t.Errorf("name of inode %d was committed: %+v, %v", ino, d, err)
				}
			}
			// What was committed without being told must be whole, too.
			n := 0
			err := tx.ReadDir(catalog.Root, 0, func(d catalog.Dirent) bool {
				n++
				known[d.Ino] = true
				if _, err := tx.Inode(d.Ino); err != nil || cookies[d.Cookie] {
					t.Errorf("half a transaction, or a cookie twice: %+v, %v", d, err)
				}
				cookies[d.Cookie] = true
				return true
			})
			if int64(n) != c.Totals().Files {
				t.Errorf("%d names, %d files", n, c.Totals().Files)
			}
			return err
		})
		next, err := c.NextIno()
		if err != nil || known[next] {
			t.Errorf("next number %d, %v: used before", next, err)
		}
		cookie, err := c.NextCookie()
		if err != nil || cookies[cookie] {
			t.Errorf("next cookie %d, %v: used before", cookie, err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			return
		}
	}
}

// killAfter runs the child until it has told of n files, kills it, and returns all that it told of.
func killAfter(t *testing.T, dir string, n int) []catalog.Ino {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var told []catalog.Ino
	var once sync.Once
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		v, err := strconv.ParseUint(lines.Text(), 10, 64)
		if err != nil {
			break // the line that the kill cut
		}
		told = append(told, catalog.Ino(v))
		if len(told) >= n {
			once.Do(func() {
				if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
					t.Error(err)
				}
			})
		}
	}
	cmd.Wait() // "signal: killed"
	if len(told) < n {
		t.Fatalf("the child ended after %d of %d files", len(told), n)
	}
	return told
}
