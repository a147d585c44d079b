package cache

import (
	"depotfs/cache/catalog"
	"depotfs/cache/share"
)

// openProof opens the clean log. After the loss of the state directory it is
// loaded: it saves reading files whose stamp has not moved. Until all of them were
// compared with the depot, restarts load it again.
func (c *Cache) openProof() error {
	log, err := share.OpenCleanLog(c.share)
	if err != nil {
		return err
	}
	c.cleanLog = log
	if err := c.openAdoption(); err != nil {
		return err
	}
	if rec, _ := c.adoption.numbers(); rec.Settled {
		return nil
	}
	proofs := map[string]share.CleanRecord{}
	if err := log.Load(func(r share.CleanRecord) { proofs[r.Path] = r }); err != nil {
		return err
	}
	c.proofs.Store(&proofs)
	return nil
}

// proof is what the clean log said of a path before the catalog was lost.
func (c *Cache) proof(path string) (share.CleanRecord, bool) {
	proofs := c.proofs.Load()
	if proofs == nil {
		return share.CleanRecord{}, false
	}
	r, ok := (*proofs)[path]
	return r, ok
}

// settleProof lets go of what the clean log said when the whole share was walked and
// all that was found was compared.
func (c *Cache) settleProof() error {
	rec, left := c.adoption.numbers()
	if c.proofs.Load() == nil || !rec.Walked || left > 0 || c.depot.Load() == nil {
		return nil
	}
	waiting := false
	if err := c.cat.View(func(tx *catalog.Tx) error {
		return tx.EachQueue(func(it *catalog.QueueItem) bool {
			r, err := tx.Inode(it.Ino)
			waiting = err == nil && r.Flags&catalog.FlagAdopted != 0
			return !waiting
		})
	}); err != nil || waiting {
		return err
	}
	c.proofs.Store(nil)
	c.adoption.count(func(r *adoptionRecord) { r.Settled = true })
	return c.saveAdoption()
}

// noteClean adds a clean file to the log. Losing the entry is harmless: the file
// is compared by checksum then.
func (c *Cache) noteClean(rec *catalog.Inode, path string) {
	obj, ok := currentObject(rec)
	if !ok {
		return
	}
	if err := c.cleanLog.Append(share.CleanRecord{Path: path, Stamp: rec.Stamp, Version: rec.Base, ETag: obj.ETag, Key: obj.Key}); err != nil {
		c.log.Warn("note a clean file", "path", path, "err", err)
	}
}

// tendProof writes out what was noted and rewrites a log that has grown. A rewrite
// leaves out what was not compared yet, so it waits for that.
func (c *Cache) tendProof() {
	if err := c.settleProof(); err != nil {
		c.log.Warn("look for what was not compared yet", "err", err)
	}
	if err := c.cleanLog.Flush(); err != nil {
		c.log.Warn("write the clean log", "err", err)
		return
	}
	if !c.cleanLog.Grown() || c.proofs.Load() != nil {
		return
	}
	err := c.cleanLog.Rewrite(func(yield func(share.CleanRecord) bool) {
		next := catalog.Root
		for {
			var batch []*catalog.Inode
			if err := c.cat.View(func(tx *catalog.Tx) error {
				return tx.EachInode(next, func(r *catalog.Inode) bool {
					next = r.Ino + 1
					batch = append(batch, r)
					return len(batch) < 1000
				})
			}); err != nil || len(batch) == 0 {
				return
			}
			for _, r := range batch {
				obj, ok := currentObject(r)
				if !ok || r.State != Clean || len(r.Links) == 0 {
					continue
				}
				path, err := c.pathOf(r)
				if err != nil {
					continue
				}
				if !yield(share.CleanRecord{Path: path, Stamp: r.Stamp, Version: r.Base, ETag: obj.ETag, Key: obj.Key}) {
					return
				}
			}
		}
	})
	if err != nil {
		c.log.Warn("rewrite the clean log", "err", err)
	}
}
