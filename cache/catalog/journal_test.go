package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// leftByAKill is the directory of a catalog with n of intact's inodes, of which the last are
// in the journal only.
func leftByAKill(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	c := openForTest(t, dir)
	fillForDamage(t, c, 0, n/2)
	if err := c.flush(); err != nil {
		t.Fatal(err)
	}
	fillForDamage(t, c, n/2, n)
	if c.journal.size == 0 {
		t.Fatal("nothing is in the journal")
	}
	return copyDir(t, dir)
}

func TestKillLeavesTheJournal(t *testing.T) {
	dir := leftByAKill(t, damageInos)
	for range 2 { // the second time after a clean stop
		c := openForTest(t, dir)
		if err := intact(c); err != nil {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestKillBetweenFlushAndReset: what is in Badger and in the journal counts once.
func TestKillBetweenFlushAndReset(t *testing.T) {
	dir := t.TempDir()
	c := openForTest(t, dir)
	fillForDamage(t, c, 0, damageInos-10)
	if err := c.bring(); err != nil {
		t.Fatal(err)
	}
	image := copyDir(t, dir)
	c = openForTest(t, image)
	fillForDamage(t, c, damageInos-10, damageInos)
	if err := intact(c); err != nil {
		t.Error(err)
	}
	image = copyDir(t, image)
	if err := intact(openForTest(t, image)); err != nil {
		t.Errorf("killed again: %v", err)
	}
}

// TestDamageInTheJournal: a changed byte is refused. A shorter journal is a kill of before:
// the last commits are gone, and none before them.
func TestDamageInTheJournal(t *testing.T) {
	const tries = 5
	dir := leftByAKill(t, damageInos)
	r := rand.New(rand.NewPCG(3, 4))
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			for range tries {
				image := copyDir(t, dir)
				path := filepath.Join(image, journalName)
				whole, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				b := d.apply(r, bytes.Clone(whole))
				if err = os.WriteFile(path, b, 0o600); b == nil {
					err = os.Remove(path)
				}
				if err != nil {
					t.Fatal(err)
				}
				c, err := Open(image, Options{})
				if bytes.HasPrefix(whole, b) {
					if err != nil {
						t.Fatalf("a journal of %d bytes: %v", len(b), err)
					}
					prefixOnly(t, c)
				} else if err == nil && intact(c) != nil || err != nil && !errors.Is(err, ErrDamaged) {
					t.Errorf("neither refused nor harmless: %v", err)
				}
				if err == nil {
					c.Close()
				}
			}
		})
	}
}

// prefixOnly checks that the catalog has the first of intact's inodes, however many.
func prefixOnly(t *testing.T, c *Catalog) {
	t.Helper()
	n := int(c.Totals().Files)
	if n < damageInos/2 {
		t.Errorf("%d files: flushed ones are missing", n)
	}
	err := c.View(func(tx *Tx) error {
		for i := range n {
			d, err := tx.Lookup(Root, fmt.Sprintf("name %d", i))
			if err == nil {
				_, err = tx.Inode(d.Ino)
			}
			if err != nil {
				return fmt.Errorf("file %d of %d: %w", i, n, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestPowerCutAndTheJournal: what follows the flushed commits without a gap counts, garbage
// and what follows a gap does not.
func TestPowerCutAndTheJournal(t *testing.T) {
	dir := leftByAKill(t, damageInos)
	if err := (marker{phase: phaseOpen, boot: "the one before the power cut"}).write(dir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, journalName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, _, rest, err := decodeCommit(whole)
	if err != nil {
		t.Fatal(err)
	}
	garbage := bytes.Clone(whole)
	clear(garbage[len(garbage)/2:])
	for name, c := range map[string]struct {
		journal    []byte
		atLeast, n int
	}{
		"whole":   {whole, damageInos, damageInos},
		"gap":     {rest, damageInos / 2, damageInos / 2},
		"garbage": {garbage, damageInos/2 + 1, damageInos - 1},
	} {
		image := copyDir(t, dir)
		if err := os.WriteFile(filepath.Join(image, journalName), c.journal, 0o600); err != nil {
			t.Fatal(err)
		}
		cat := openForTest(t, image)
		if n := int(cat.Totals().Files); n < c.atLeast || n > c.n {
			t.Errorf("%s: %d files, want %d to %d", name, n, c.atLeast, c.n)
		}
		prefixOnly(t, cat)
	}
}

// TestJournalThatCannotBeWritten: the change did not happen, and says so.
func TestJournalThatCannotBeWritten(t *testing.T) {
	c := openForTest(t, t.TempDir())
	put(t, c, "before", []byte("1"))
	f := c.journal.f
	broken, err := os.Open(os.DevNull) // not open for writing
	if err != nil {
		t.Fatal(err)
	}
	c.journal.f = broken
	err = c.Update(func(tx *Tx) error { return tx.PutSetting("lost", []byte("1")) })
	if err == nil {
		t.Error("a change was acknowledged that no journal has")
	}
	broken.Close()
	c.journal.f, c.journal.bad = f, nil
	put(t, c, "after", []byte("1"))
	got := map[string]bool{}
	if err := c.View(func(tx *Tx) error {
		for _, name := range []string{"before", "lost", "after"} {
			_, err := tx.Setting(name)
			got[name] = err == nil
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !got["before"] || got["lost"] || !got["after"] {
		t.Errorf("seen: %v", got)
	}
}

// TestViewSeesOneState: a View goes on seeing what was when it began, in questions and
// scans, whatever is committed and flushed meanwhile.
func TestViewSeesOneState(t *testing.T) {
	c := openForTest(t, t.TempDir())
	names := func(tx *Tx) (list []string) {
		if err := tx.ReadDir(7, 0, func(d Dirent) bool { list = append(list, d.Name); return true }); err != nil {
			t.Error(err)
		}
		return list
	}
	add := func(name string) {
		t.Helper()
		if err := c.Update(func(tx *Tx) error { return tx.NewDirent(Dirent{Parent: 7, Name: name, Ino: 8}) }); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(name string) {
		t.Helper()
		if err := c.Update(func(tx *Tx) error { return tx.DeleteDirent(7, name) }); err != nil {
			t.Fatal(err)
		}
	}
	add("flushed")
	add("removed")
	if err := c.flush(); err != nil {
		t.Fatal(err)
	}
	add("pending")
	err := c.View(func(tx *Tx) error {
		for range 3 {
			if got := names(tx); !slices.Equal(got, []string{"flushed", "removed", "pending"}) {
				t.Errorf("the View sees %v", got)
			}
			if _, err := tx.Lookup(7, "later"); !errors.Is(err, ErrNotFound) {
				t.Errorf("the View sees a later name: %v", err)
			}
			if _, err := tx.Lookup(7, "removed"); err != nil {
				t.Errorf("the View lost a name: %v", err)
			}
			add("later")
			remove("removed")
			if err := c.flush(); err != nil {
				return err
			}
			remove("later")
			add("removed")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestNamesThatComeAndGo between two flushes leave nothing, and what was there before them is gone.
func TestNamesThatComeAndGo(t *testing.T) {
	dir := t.TempDir()
	c := openForTest(t, dir)
	change := func(fn func(tx *Tx) error) {
		t.Helper()
		if err := c.Update(fn); err != nil {
			t.Fatal(err)
		}
	}
	change(func(tx *Tx) error { return tx.NewDirent(Dirent{Parent: 7, Name: "n", Ino: 8}) })
	if err := c.flush(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		change(func(tx *Tx) error { return tx.DeleteDirent(7, "n") })
		change(func(tx *Tx) error { return tx.NewDirent(Dirent{Parent: 7, Name: "n", Ino: 9}) })
	}
	change(func(tx *Tx) error { return tx.DeleteDirent(7, "n") })
	for i := range 3 {
		if err := c.View(func(tx *Tx) error {
			if d, err := tx.Lookup(7, "n"); !errors.Is(err, ErrNotFound) {
				t.Errorf("round %d: the name is back: %+v, %v", i, d, err)
			}
			if has, err := tx.HasChildren(7); has || err != nil {
				t.Errorf("round %d: has a name: %v", i, err)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if err := c.flush(); err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzJournal(f *testing.F) {
	f.Add(encodeCommit(nil, 1, []write{{key: []byte("a"), val: []byte("b")}, {key: []byte("c")}}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		seq, list, rest, err := decodeCommit(b)
		if err != nil {
			return
		}
		again := encodeCommit(nil, seq, list)
		if seq2, list2, _, err := decodeCommit(again); err != nil || seq2 != seq || len(list2) != len(list) {
			t.Errorf("%x: %v", b[:len(b)-len(rest)], err)
		}
	})
}
