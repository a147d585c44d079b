package catalog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const damageInos = 1200

// fillForDamage stores what intact expects, from inode i to j of it.
func fillForDamage(t testing.TB, c *Catalog, i, j int) {
	t.Helper()
	for ; i < j; i++ {
		err := c.Update(func(tx *Tx) error {
			name := fmt.Sprintf("name %d", i)
			n := &Inode{Ino: Ino(2 + i), Mode: typeFile | 0o644, Size: int64(i), State: State(i % 4), Links: []Link{{Root, name}}}
			return errors.Join(tx.PutInode(n), tx.PutDirent(Dirent{Parent: Root, Name: name, Ino: n.Ino, Type: typeFile, Cookie: uint64(100 + i)}))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// intact checks that c has all that fillForDamage stored.
func intact(c *Catalog) error {
	if n := c.Totals().Files; n != damageInos {
		return fmt.Errorf("%d files, want %d", n, damageInos)
	}
	return c.View(func(tx *Tx) error {
		i := 0
		err := tx.EachInode(0, func(n *Inode) bool {
			if n.Ino != Ino(2+i) || n.Size != int64(i) || len(n.Links) != 1 || n.Links[0].Name != fmt.Sprintf("name %d", i) {
				return false
			}
			i++
			return true
		})
		if err != nil || i != damageInos {
			return fmt.Errorf("inode %d of %d: %w", i, damageInos, err)
		}
		i = 0
		err = tx.ReadDir(Root, 0, func(d Dirent) bool { i++; return d.Name == fmt.Sprintf("name %d", i-1) })
		if err != nil || i != damageInos {
			return fmt.Errorf("name %d of %d: %w", i, damageInos, err)
		}
		d, err := tx.Lookup(Root, "name 77")
		if err != nil || d.Ino != 79 {
			return fmt.Errorf("lookup: %v, %w", d, err)
		}
		return nil
	})
}

// damage is one way to spoil the bytes of a file; nil removes it.
type damage struct {
	name  string
	apply func(r *rand.Rand, b []byte) []byte
}

var damages = []damage{
	{"flip", func(r *rand.Rand, b []byte) []byte {
		if len(b) > 0 {
			b[r.IntN(len(b))] ^= byte(1 + r.IntN(255))
		}
		return b
	}},
	{"flip near the end", func(r *rand.Rand, b []byte) []byte {
		if len(b) > 0 {
			b[max(0, len(b)-1-r.IntN(64))] ^= byte(1 + r.IntN(255))
		}
		return b
	}},
	{"zero a stretch", func(r *rand.Rand, b []byte) []byte {
		at := r.IntN(len(b) + 1)
		clear(b[at:min(len(b), at+4096)])
		return b
	}},
	{"truncate", func(r *rand.Rand, b []byte) []byte { return b[:r.IntN(max(1, len(b)))] }},
	{"empty", func(r *rand.Rand, b []byte) []byte { return b[:0] }},
	{"append", func(r *rand.Rand, b []byte) []byte { return append(b, "something that was never there"...) }},
	{"remove", func(r *rand.Rand, b []byte) []byte { return nil }},
}

// tryDamage spoils one file of a copy of dir and opens it. It returns whether
// the damage was refused; t fails where it was neither refused nor harmless.
func tryDamage(t *testing.T, dir, file string, d damage, r *rand.Rand) (refused bool) {
	t.Helper()
	image := copyDir(t, dir)
	defer os.RemoveAll(image)
	path := filepath.Join(image, file)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b = d.apply(r, b); b == nil {
		err = os.Remove(path)
	} else {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := Open(image, Options{})
	if errors.Is(err, ErrDamaged) || errors.Is(err, ErrNewer) {
		return true
	}
	if err != nil {
		t.Errorf("neither opened nor ErrDamaged: %v", err)
		return false
	}
	defer c.Close()
	if err := intact(c); err != nil {
		t.Errorf("opened, but: %v", err)
	}
	return false
}

func dataAndOwnFiles(t *testing.T, dir string) []string {
	t.Helper()
	names, err := dataFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	return append(names, markerName, floorName)
}

// closedForDamage makes a closed catalog of two tables, which holds the first n inodes.
func closedForDamage(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range 2 {
		c := openForTest(t, dir)
		fillForDamage(t, c, i*n/2, (i+1)*n/2)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDamageAfterACleanStop(t *testing.T) {
	const tries = 5
	dir := closedForDamage(t, damageInos)
	r := rand.New(rand.NewPCG(1, 2))
	kinds := map[string]int{}
	for _, file := range dataAndOwnFiles(t, dir) {
		kinds[filepath.Ext(file)]++
		for _, d := range damages {
			t.Run(file+"/"+d.name, func(t *testing.T) {
				refused := 0
				for range tries {
					if tryDamage(t, dir, file, d, r) {
						refused++
					}
				}
				if file != floorName && file != markerName && d.name != "zero a stretch" && refused != tries {
					t.Errorf("%d of %d tries were refused", refused, tries)
				}
			})
		}
	}
	if kinds[".sst"] < 2 || kinds[""] != 1 || kinds[".mem"] != 0 {
		t.Errorf("unexpected files: %v", kinds)
	}
}

// TestDamageAfterAKill spoils what a kill leaves: log, tables and MANIFEST
// without the list that only a clean stop writes. All was synced, so all must
// be there or the catalog be refused.
func TestDamageAfterAKill(t *testing.T) {
	const tries = 5
	dir := closedForDamage(t, damageInos/2)
	c := openForTest(t, dir)
	fillForDamage(t, c, damageInos/2, damageInos) // these are in the log
	if err := c.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	logs := 0
	for _, file := range dataAndOwnFiles(t, dir) {
		isLog := strings.HasSuffix(file, ".mem")
		for _, d := range damages {
			t.Run(file+"/"+d.name, func(t *testing.T) {
				if isLog {
					logs++
					inUsed := func(r *rand.Rand, b []byte) []byte {
						return d.apply(r, b[:readLog(b).end]) // the rest is zeros
					}
					for range tries {
						tryDamage(t, dir, file, damage{d.name, inUsed}, r)
					}
					return
				}
				for range tries {
					if strings.HasSuffix(file, ".sst") && !tryDamage(t, dir, file, d, r) && d.name != "zero a stretch" {
						t.Error("not refused")
					} else if file == "MANIFEST" {
						tryDamage(t, dir, file, d, r)
					}
				}
			})
		}
	}
	if logs == 0 {
		t.Error("no log was there to be damaged")
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	dir := closedForDamage(t, damageInos)
	path := filepath.Join(dir, markerName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b = []byte(strings.Replace(string(b), fmt.Sprintf(`"format": %d`, formatVersion), fmt.Sprintf(`"format": %d`, formatVersion+1), 1))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrNewer) {
		t.Errorf("newer marker: %v", err)
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != string(b) {
		t.Errorf("the marker of a newer depotfs was rewritten: %s, %v", now, err)
	}

	dir = t.TempDir()
	c := openForTest(t, dir)
	if err := c.putMeta(metaFormat, formatVersion+1); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrNewer) {
		t.Errorf("newer first record: %v", err)
	}
}

// TestCreationCutShort: what a kill during the very first Open leaves is no damage.
func TestCreationCutShort(t *testing.T) {
	dir := t.TempDir()
	openForTest(t, dir)
	image := copyDir(t, dir)
	if err := (marker{phase: phaseCreating, boot: "x"}).write(image); err != nil {
		t.Fatal(err)
	}
	c, err := Open(image, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !c.New() || c.Unclean() {
		t.Errorf("New %v, Unclean %v", c.New(), c.Unclean())
	}
}

// TestEmptyLog is what a kill leaves between emptying a log and removing it.
func TestEmptyLog(t *testing.T) {
	dir := t.TempDir()
	c := openForTest(t, dir)
	fillForDamage(t, c, 0, damageInos)
	image := copyDir(t, dir)
	if err := os.WriteFile(filepath.Join(image, "00000.mem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	after := openForTest(t, image)
	if err := intact(after); err != nil {
		t.Error(err)
	}
}

// TestDamageWhileOpen: what goes bad under an open catalog is an error or goes
// unnoticed, but no panic.
func TestDamageWhileOpen(t *testing.T) {
	dir := closedForDamage(t, damageInos)
	c := openForTest(t, dir)
	files, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if err := os.Truncate(f, 0); err != nil {
			t.Fatal(err)
		}
	}
	err = c.View(func(tx *Tx) error {
		_, err := tx.Lookup(Root, "name 77")
		return err
	})
	if !errors.Is(err, ErrDamaged) {
		t.Errorf("read from a table that is gone: %v", err)
	}
	if err := c.View(func(tx *Tx) error { return tx.EachInode(0, func(*Inode) bool { return true }) }); !errors.Is(err, ErrDamaged) {
		t.Errorf("scan of a table that is gone: %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	c := openForTest(t, t.TempDir())
	put(t, c, "a", nil)
	c.room.mu.Lock()
	c.room.min, c.room.next = 1<<62, time.Time{}
	c.room.mu.Unlock()
	if err := c.Update(func(tx *Tx) error { return tx.PutSetting("b", nil) }); !errors.Is(err, ErrFull) {
		t.Errorf("a change of a catalog whose disk is full: %v", err)
	}
	if err := c.View(func(tx *Tx) error { _, err := tx.Setting("a"); return err }); err != nil {
		t.Errorf("reading with a full disk: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("closing with a full disk: %v", err)
	}
}

func TestNotEveryRefusalIsDamage(t *testing.T) {
	if err := refused(errors.New("while opening x error: open x: too many open files")); errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
	if err := refused(errors.New("checksum mismatch")); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
}
