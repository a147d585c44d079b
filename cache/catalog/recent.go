package catalog

import (
	"bytes"
	"errors"
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// recent keeps the inodes, names and queue items that were read or changed lately, so that most
// questions of the kernel need no transaction of Badger's, which costs some
// microseconds and messages between goroutines.
//
// What it answers is what a transaction begun now would read: a commit takes its
// records out before it begins and puts the new ones in when it has ended, and a
// reader puts in what it read only if no commit touched the shard meanwhile.
// Memory is bounded: each shard has two maps, and when the younger is full the older
// is dropped.
type recent struct {
	seed   maphash.Seed
	shards [recentShards]recentShard
}

const (
	// recentShards: more than the goroutines that ask at a time, so that they
	// seldom meet.
	recentShards = 64
	// recentNames is how many records one map of a shard holds: 32,768 at most in
	// all, of some 600 bytes with their decoded form.
	recentNames = 256
)

type recentShard struct {
	mu         sync.Mutex // guards below; held for moments
	young, old map[string]*record
	commits    int    // records of the shard that the commit under way touches
	changes    uint64 // beginnings and ends of such commits
}

// record is one value as it is stored; immutable.
type record struct {
	raw   []byte // nil: there is none
	inode atomic.Pointer[Inode]
}

func (r *recent) init() { r.seed = maphash.MakeSeed() }

func (r *recent) shard(key []byte) *recentShard {
	return &r.shards[maphash.Bytes(r.seed, key)%recentShards]
}

// get returns what is kept of key, or the number that put wants.
func (s *recentShard) get(key []byte) (rec *record, changes uint64, quiet bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rec := s.young[string(key)]; rec != nil {
		return rec, 0, false
	}
	if rec := s.old[string(key)]; rec != nil {
		s.keepLocked(key, rec)
		return rec, 0, false
	}
	return nil, s.changes, s.commits == 0
}

// put keeps what was read after get, unless a commit came between.
func (s *recentShard) put(key []byte, rec *record, changes uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changes == changes {
		s.keepLocked(key, rec)
	}
}

func (s *recentShard) keepLocked(key []byte, rec *record) {
	if len(s.young) >= recentNames {
		s.old, s.young = s.young, nil
	}
	if s.young == nil {
		s.young = make(map[string]*record, recentNames)
	}
	s.young[string(key)] = rec
}

// touch is a record that a transaction changes.
type touch struct {
	key, val []byte // val nil: deleted
}

// begin is called before a commit that changes the given records.
func (r *recent) begin(touched []touch) {
	for i := range touched {
		t := &touched[i]
		s := r.shard(t.key)
		s.mu.Lock()
		s.commits++
		s.changes++
		delete(s.young, string(t.key))
		delete(s.old, string(t.key))
		s.mu.Unlock()
	}
}

// end is called when that commit is done or has failed.
func (r *recent) end(touched []touch, committed bool) {
	for i := range touched {
		t := &touched[i]
		s := r.shard(t.key)
		s.mu.Lock()
		s.commits--
		if committed {
			s.keepLocked(t.key, &record{raw: t.val})
		}
		s.changes++
		s.mu.Unlock()
	}
}

// read returns the record of key as the last commit left it. What is kept costs no
// allocation: the caller's key may be on its stack.
func (c *Catalog) read(key []byte) (*record, error) {
	if c.closed.Load() {
		return nil, ErrClosed
	}
	s := c.recent.shard(key)
	rec, changes, quiet := s.get(key)
	if rec != nil {
		return rec, nil
	}
	return c.readUnkept(s, bytes.Clone(key), changes, quiet)
}

func (c *Catalog) readUnkept(s *recentShard, key []byte, changes uint64, quiet bool) (*record, error) {
	rec := &record{}
	err := c.View(func(tx *Tx) error {
		v, err := tx.get(key)
		rec.raw = append([]byte(nil), v...)
		return err
	})
	if errors.Is(err, ErrNotFound) {
		rec.raw, err = nil, nil
	}
	if err != nil {
		return nil, err
	}
	if quiet {
		s.put(key, rec, changes)
	}
	return rec, nil
}

// Inode returns the record of ino as the last commit left it, or ErrNotFound. The
// record is shared: nobody may change it, nor what it points to.
func (c *Catalog) Inode(ino Ino) (*Inode, error) {
	var room [9]byte
	rec, err := c.read(appendNumber(room[:0], kindInode, uint64(ino)))
	if err != nil {
		return nil, err
	}
	if n := rec.inode.Load(); n != nil {
		return n, nil
	}
	if rec.raw == nil {
		return nil, ErrNotFound
	}
	n, err := decodeInode(ino, rec.raw)
	if err != nil {
		return nil, err
	}
	rec.inode.Store(n)
	return n, nil
}

// Lookup returns the entry of a name as the last commit left it, or ErrNotFound.
func (c *Catalog) Lookup(parent Ino, name string) (Dirent, error) {
	var room [9 + 255]byte // the longest name
	rec, err := c.read(append(appendNumber(room[:0], kindDirent, uint64(parent)), name...))
	if err != nil {
		return Dirent{}, err
	}
	if rec.raw == nil {
		return Dirent{}, ErrNotFound
	}
	return decodeDirent(parent, name, rec.raw)
}

// QueueItem returns the queue's item of ino as the last commit left it, or ErrNotFound.
func (c *Catalog) QueueItem(ino Ino) (*QueueItem, error) {
	var room [9]byte
	rec, err := c.read(appendNumber(room[:0], kindQueue, uint64(ino)))
	if err != nil {
		return nil, err
	}
	if rec.raw == nil {
		return nil, ErrNotFound
	}
	return decodeQueueItem(ino, rec.raw)
}
