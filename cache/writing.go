package cache

import (
	"fmt"

	"depotfs/cache/catalog"
	"depotfs/cache/share"
)

// A file that was found in the share counts as older than what the depot has under its
// name, until somebody writes to it through the mount. Its last writer's end records
// that; for the case that there is none, the file's stamp is on record from when it was
// opened for writing.

// noteWriting records the stamp of such a file that is about to be written; n.mu is
// held. It need not be durable: after a power cut the file is compared with the depot's.
func (c *Cache) noteWriting(n *node, rec *catalog.Inode) error {
	if rec.Flags&catalog.FlagAdopted == 0 || rec.Flags&catalog.FlagUnseen != 0 || len(rec.Objects) > 0 {
		return nil
	}
	st, err := c.share.StatFile(n.file, false)
	if err != nil {
		return err
	}
	if _, err := c.change(n.ino, func(_ *catalog.Tx, r *catalog.Inode) error {
		if r.Flags&catalog.FlagAdopted != 0 {
			r.Flags |= catalog.FlagWriting
			setAttrs(r, st)
			r.Stamp = st.Stamp()
		}
		return nil
	}); err != nil {
		return fmt.Errorf("note that inode %d is written to: %w", n.ino, err)
	}
	return nil
}

// wasWritten is asked after an unclean stop for a file with FlagWriting: one that has
// changed since it was opened is newer than what the depot has.
func wasWritten(r *catalog.Inode, st share.Stat) {
	if r.Flags&catalog.FlagWriting == 0 {
		return
	}
	r.Flags &^= catalog.FlagWriting
	if s := st.Stamp(); s.Ino == r.Stamp.Ino && !sameContent(s, r.Stamp) {
		r.Flags &^= catalog.FlagAdopted
	}
}
