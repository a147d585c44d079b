package cache

import (
	"errors"
	"sync"
)

// copied remembers from which file another one was copied within the mount
// (copy_file_range, cp --reflink): the upload compares it with the version that the
// depot has of that file, as with a version before, and has the store copy what is the
// same. It is memory only: what it forgets is sent.
type copied struct {
	mu sync.Mutex // guards m
	m  map[Ino]Ino
}

// maxCopies bounds what is remembered: far more than are copied between two uploads.
const maxCopies = 10_000

// note remembers that bytes of a file were copied into another one, at the same offset.
func (c *copied) note(from, to Ino) {
	if from == to {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= maxCopies {
		c.m = map[Ino]Ino{}
	}
	c.m[to] = from
}

func (c *copied) of(to Ino) (from Ino, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	from, ok = c.m[to]
	return from, ok
}

func (c *copied) forget(to Ino) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.m, to)
}

// copySource takes the version that the depot has of the file from which this one was
// copied for the version before.
func (c *Cache) copySource(s *sending) error {
	from, ok := c.copied.of(s.rec.Ino)
	if !ok || s.p != nil {
		return nil
	}
	rec, err := c.record(from)
	if errors.Is(err, ErrStale) {
		return nil
	}
	if err != nil {
		return err
	}
	obj, ok := currentObject(rec)
	if !ok || rec.Base.Gen == 0 || rec.Base.Size != s.stamp.Size {
		return nil
	}
	sums, err := c.baseSums(rec)
	if err != nil || sums == nil {
		return err
	}
	s.from, s.base = obj, sums
	return nil
}
