package catalog_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"depotfs/cache/catalog"
)

// model is what a catalog should hold, in plain maps.
type model struct {
	inodes   map[catalog.Ino]catalog.Inode
	dirents  map[catalog.Ino]map[string]catalog.Dirent
	xattrs   map[catalog.Ino]map[string]string
	extents  map[catalog.Ino]catalog.Extents
	queue    map[catalog.Ino]catalog.QueueItem
	removals map[string]catalog.Removal
	uploads  map[catalog.Ino]catalog.Upload
	parts    map[catalog.Ino]map[int]catalog.UploadPart
	sums     map[catalog.Ino]catalog.Sums
	intents  map[uint64]catalog.Intent
	owners   map[string]catalog.Ino
	settings map[string]string
}

func newModel() *model {
	return &model{
		inodes: map[catalog.Ino]catalog.Inode{}, dirents: map[catalog.Ino]map[string]catalog.Dirent{},
		xattrs: map[catalog.Ino]map[string]string{}, extents: map[catalog.Ino]catalog.Extents{},
		queue: map[catalog.Ino]catalog.QueueItem{}, removals: map[string]catalog.Removal{},
		uploads: map[catalog.Ino]catalog.Upload{}, parts: map[catalog.Ino]map[int]catalog.UploadPart{}, sums: map[catalog.Ino]catalog.Sums{},
		intents: map[uint64]catalog.Intent{}, owners: map[string]catalog.Ino{}, settings: map[string]string{},
	}
}

const (
	modelInos  = 40 // few, so that operations meet
	modelNames = 12
)

func inner[K comparable, V any](m map[catalog.Ino]map[K]V, ino catalog.Ino) map[K]V {
	if m[ino] == nil {
		m[ino] = map[K]V{}
	}
	return m[ino]
}

// step does one random operation to both.
func (m *model) step(r *rand.Rand, tx *catalog.Tx) error {
	ino := catalog.Ino(1 + r.IntN(modelInos))
	name := fmt.Sprintf("n%d", r.IntN(modelNames))
	key := "key/" + name
	switch r.IntN(22) {
	case 0, 1, 2:
		n := sampleInode(ino)
		n.Flags |= catalog.FlagXattrs // it may get some
		n.Size, n.State = r.Int64N(1<<40), catalog.State(r.IntN(5))
		n.Mode = []uint32{0o100644, 0o040755, 0o120777}[r.IntN(3)]
		n.Objects = []catalog.Object{{Key: key, Gen: r.Uint64()}}
		n.Links = n.Links[:r.IntN(3)]
		if len(n.Links) == 0 {
			n.Links = nil
		}
		m.inodes[ino] = *n
		return tx.PutInode(n)
	case 3:
		m.deleteInode(ino)
		return tx.DeleteInode(ino)
	case 4, 5, 6:
		d := catalog.Dirent{Parent: ino, Name: name, Ino: catalog.Ino(r.IntN(modelInos)), Type: 0o100000}
		if err := tx.PutDirent(d); err != nil {
			return err
		}
		d, err := tx.Lookup(ino, name)
		inner(m.dirents, ino)[name] = d
		return err
	case 7:
		delete(m.dirents[ino], name)
		return tx.DeleteDirent(ino, name)
	case 8:
		v := strings.Repeat(name, r.IntN(5))
		inner(m.xattrs, ino)[name] = v
		return tx.PutXattr(ino, name, []byte(v))
	case 9:
		delete(m.xattrs[ino], name)
		return tx.DeleteXattr(ino, name)
	case 10:
		x := catalog.Extents{Here: randomRanges(r, r.IntN(50)), Written: randomRanges(r, r.IntN(3))}
		m.extents[ino] = x
		return tx.PutExtents(ino, x)
	case 11:
		delete(m.extents, ino)
		return tx.DeleteExtents(ino)
	case 12:
		q := catalog.QueueItem{Ino: ino, Subtree: r.IntN(2) == 0, NotBefore: r.Int64(), Since: -1, Attempts: r.Uint32(), LastError: name}
		m.queue[ino] = q
		return tx.PutQueue(&q)
	case 13:
		delete(m.queue, ino)
		return tx.DeleteQueue(ino)
	case 14:
		rm := catalog.Removal{Key: key, ETag: "e", Path: name, Since: 1, NotBefore: r.Int64(), Attempts: 2, LastError: "x"}
		m.removals[key] = rm
		return tx.PutRemoval(&rm)
	case 15:
		delete(m.removals, key)
		return tx.DeleteRemoval(key)
	case 16:
		u := catalog.Upload{Ino: ino, Key: key, UploadID: name, PartSize: 1, Size: 2, Gen: 3, Stamp: catalog.Stamp{Ino: 4}, Created: 5, CRC64: r.Uint64(), HasCRC: r.IntN(2) == 0}
		m.uploads[ino] = u
		p := catalog.UploadPart{Number: 1 + r.IntN(5), Off: r.Int64(), Size: r.Int64(), CRC64: r.Uint64(), ETag: name}
		inner(m.parts, ino)[p.Number] = p
		return errors.Join(tx.PutUpload(&u), tx.PutPart(ino, p))
	case 17:
		delete(m.uploads, ino)
		delete(m.parts, ino)
		return tx.DeleteUpload(ino)
	case 20:
		n := r.IntN(5)
		s := catalog.Sums{Gen: r.Uint64(), Grain: 10, Size: int64(10 * n), CRC64: make([]uint64, n), Known: make([]bool, n)}
		for i := range n {
			s.CRC64[i], s.Known[i] = r.Uint64(), r.IntN(2) == 0
		}
		m.sums[ino] = s
		return tx.PutSums(ino, &s)
	case 21:
		delete(m.sums, ino)
		return tx.DeleteSums(ino)
	case 18:
		if len(m.intents) > 5 {
			for seq := range m.intents {
				delete(m.intents, seq)
				return tx.DeleteIntent(seq)
			}
		}
		in := catalog.Intent{Kind: catalog.IntentRename, Ino: ino, From: "f", To: "t", Victim: 1, NewParent: 2, NewName: name, OldParent: 3, OldName: "o", ShareIno: 4, Time: 5}
		err := tx.PutIntent(&in)
		m.intents[in.Seq] = in
		return err
	default:
		m.owners[key], m.settings[name] = ino, key
		return errors.Join(tx.SetKeyOwner(key, ino), tx.PutSetting(name, []byte(key)))
	}
}

func (m *model) deleteInode(ino catalog.Ino) {
	for _, o := range m.inodes[ino].Objects {
		if m.owners[o.Key] == ino {
			delete(m.owners, o.Key)
		}
	}
	if u, ok := m.uploads[ino]; ok && m.owners[u.Key] == ino {
		delete(m.owners, u.Key)
	}
	delete(m.inodes, ino)
	delete(m.xattrs, ino)
	delete(m.extents, ino)
	delete(m.queue, ino)
	delete(m.uploads, ino)
	delete(m.parts, ino)
	delete(m.sums, ino)
}

func randomRanges(r *rand.Rand, n int) []catalog.Range {
	var out []catalog.Range
	var at int64
	for range n {
		off := at + r.Int64N(1<<30)
		at = off + 1 + r.Int64N(1<<20)
		out = append(out, catalog.Range{Off: off, End: at})
	}
	return out
}

// same compares one thing that the catalog says with the model's.
func same(t *testing.T) func(what string, got, want any) {
	return func(what string, got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %v\nwant %v", what, got, want)
		}
	}
}

// check compares all that the catalog says with the model.
func (m *model) check(t *testing.T, c *catalog.Catalog) {
	t.Helper()
	same := same(t)
	view(t, c, func(tx *catalog.Tx) error {
		inodes, queue, uploads := map[catalog.Ino]catalog.Inode{}, map[catalog.Ino]catalog.QueueItem{}, map[catalog.Ino]catalog.Upload{}
		removals, intents := map[string]catalog.Removal{}, map[uint64]catalog.Intent{}
		err := errors.Join(
			tx.EachInode(0, func(n *catalog.Inode) bool { inodes[n.Ino] = *n; return true }),
			tx.EachQueue(func(q *catalog.QueueItem) bool { queue[q.Ino] = *q; return true }),
			tx.EachUpload(func(u *catalog.Upload) bool { uploads[u.Ino] = *u; return true }),
			tx.EachRemoval(func(r *catalog.Removal) bool { removals[r.Key] = *r; return true }),
			tx.EachIntent(func(i *catalog.Intent) bool { intents[i.Seq] = *i; return true }))
		same("inodes", inodes, m.inodes)
		same("queue", queue, m.queue)
		same("uploads", uploads, m.uploads)
		same("removals", removals, m.removals)
		same("intents", intents, m.intents)
		for ino := catalog.Ino(1); ino <= modelInos; ino++ {
			err = errors.Join(err, m.checkIno(tx, ino, same))
		}
		for i := range modelNames {
			name := fmt.Sprintf("n%d", i)
			owner, oerr := tx.KeyOwner("key/" + name)
			want, ok := m.owners["key/"+name]
			same("owner", owner, want)
			same("owner's error", errors.Is(oerr, catalog.ErrNotFound), !ok)
			v, _ := tx.Setting(name)
			same("setting", string(v), m.settings[name])
		}
		return err
	})
	want := catalog.Totals{ByState: map[catalog.State]int64{}, BytesByState: map[catalog.State]int64{}}
	for _, n := range m.inodes {
		switch n.Mode &^ 0o777 {
		case 0o100000:
			want.Files++
			want.ByState[n.State]++
			want.BytesByState[n.State] += n.Size
		case 0o040000:
			want.Dirs++
		default:
			want.Others++
		}
	}
	got := c.Totals()
	maps.DeleteFunc(got.ByState, func(_ catalog.State, n int64) bool { return n == 0 })
	maps.DeleteFunc(got.BytesByState, func(_ catalog.State, n int64) bool { return n == 0 })
	same("totals", got, want)
}

func (m *model) checkIno(tx *catalog.Tx, ino catalog.Ino, same func(string, any, any)) error {
	var list []catalog.Dirent
	err := tx.ReadDir(ino, 0, func(d catalog.Dirent) bool { list = append(list, d); return true })
	want := slices.SortedFunc(maps.Values(m.dirents[ino]), func(a, b catalog.Dirent) int { return int(int64(a.Cookie) - int64(b.Cookie)) })
	same("directory", list, want)
	for _, d := range want {
		got, lerr := tx.Lookup(ino, d.Name)
		err = errors.Join(err, lerr)
		same("name", got, d)
	}
	has, herr := tx.HasChildren(ino)
	same("has children", has, len(want) > 0)
	names, xerr := tx.Xattrs(ino)
	same("xattr names", names, slices.Sorted(maps.Keys(m.xattrs[ino])))
	for name, v := range m.xattrs[ino] {
		got, gerr := tx.Xattr(ino, name)
		err = errors.Join(err, gerr)
		same("xattr", string(got), v)
	}
	x, eerr := tx.Extents(ino)
	same("extents", x, m.extents[ino])
	parts, perr := tx.Parts(ino)
	same("parts", parts, slices.SortedFunc(maps.Values(m.parts[ino]), func(a, b catalog.UploadPart) int { return a.Number - b.Number }))
	s, serr := tx.Sums(ino)
	if want, ok := m.sums[ino]; ok {
		err = errors.Join(err, serr)
		same("sums", s, &want)
	} else {
		same("sums' error", errors.Is(serr, catalog.ErrNotFound), true)
	}
	return errors.Join(err, herr, xerr, eerr, perr)
}

// TestModel does random operations, many in a transaction, some of which are
// given up, and compares with plain maps, with restarts in between.
func TestModel(t *testing.T) {
	const seed, rounds, perRound = 7, 12, 60
	r := rand.New(rand.NewPCG(seed, seed))
	dir := t.TempDir()
	c := open(t, dir, catalog.Options{})
	m := newModel()
	giveUp := errors.New("given up")
	for range rounds {
		for range perRound {
			update(t, c, func(tx *catalog.Tx) error {
				for range 1 + r.IntN(8) {
					if err := m.step(r, tx); err != nil {
						return err
					}
				}
				return m.checkIno(tx, catalog.Ino(1+r.IntN(modelInos)), same(t)) // sees its own changes
			})
			if r.IntN(10) == 0 {
				if err := c.Sync(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			scratch := newModel()
			if err := c.Update(func(tx *catalog.Tx) error {
				return errors.Join(scratch.step(r, tx), giveUp)
			}); !errors.Is(err, giveUp) {
				t.Fatalf("error of the function: %v", err)
			}
		}
		m.check(t, c)
		c = reopen(t, c, dir)
		m.check(t, c)
		if t.Failed() {
			return
		}
	}
}
