package cache

import (
	"errors"
	iofs "io/fs"

	"depotfs/cache/catalog"
)

// committed records that the depot has the version. The file is clean only if it
// is still the same and nobody has it open for writing; where somebody has, the
// stamp is kept in mind (openwriter.go). by is whose version it is: one that the depot
// had already is none that others are to be told of.
func (c *Cache) committed(s *sending, info ObjectInfo, by author) (*catalog.Inode, error) {
	if s.p != nil {
		return c.committedPartial(s, info)
	}
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	stamp, err := c.stampNow(s)
	unmoved := err == nil
	same := s.n.writers == 0 && unmoved
	watched := s.n.writers > 0 && unmoved && s.seen > 0
	var current bool // nothing else has changed the record meanwhile
	rec, err := c.change(s.rec.Ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		if len(r.Links) == 0 {
			return errRemoved
		}
		old := r.Base
		r.Base = catalog.Version{Gen: s.rec.Gen, Size: s.stamp.Size, CRC64: s.crc, HasCRC: true}
		r.BaseLimit = s.stamp.Size
		r.Zeros = s.zeroMapOf(r, info)
		if err := s.keepSums(tx, old, r.Base); err != nil {
			return err
		}
		o := catalog.Object{Key: s.key, ETag: info.ETag, VersionID: info.VersionID, Gen: s.rec.Gen}
		if err := c.claim(tx, r, o); err != nil {
			return err
		}
		if by == byUs {
			if err := errors.Join(c.made(tx, r, s.rec.FinishedAt), c.announceObject(tx, r, o)); err != nil {
				return err
			}
		}
		if err := tx.DeleteUpload(r.Ino); err != nil {
			return err
		}
		current = r.Gen == s.rec.Gen && r.State == Dirty
		if (same || watched) && current {
			r.Stamp, r.DirtySince = stamp, 0
			r.Flags &^= catalog.FlagAdopted | catalog.FlagUnseen
			if sameAttrs(r, s.rec) {
				r.Flags &^= catalog.FlagAttrDirty
			} else {
				r.Flags |= catalog.FlagAttrDirty
			}
		}
		if same && current {
			if err := step(r, evUploaded); err != nil {
				return err
			}
		} else if r.Gen == s.rec.Gen {
			// The next version needs a generation of its own: this one is in the depot.
			gen, err := c.cat.NextGen()
			if err != nil {
				return err
			}
			r.Gen = gen
		}
		return nil
	})
	if errors.Is(err, ErrStale) {
		return nil, errRemoved
	}
	if err == nil && watched && current {
		s.n.clean, s.n.openedAt = stamp, s.seen
	}
	return rec, err
}

// noSpace notes that the share is full.
func (c *Cache) noSpace(ino Ino) {
	rec, err := c.record(ino)
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return
	}
	c.problems.add("no-space", c.pathText(rec), "the cache directory is full and nothing that was uploaded could be dropped", c.now())
}
