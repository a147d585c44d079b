package cache

import (
	"depotfs/cache/catalog"
	"depotfs/cache/share"
)

// openProof opens the clean log. After the loss of the state directory it is
// loaded: it saves reading files whose stamp has not moved.
func (c *Cache) openProof() error {
	log, err := share.OpenCleanLog(c.share)
	if err != nil {
		return err
	}
	c.cleanLog = log
	if !c.cat.New() {
		return nil
	}
	c.proofs = map[string]share.CleanRecord{}
	return log.Load(func(r share.CleanRecord) { c.proofs[r.Path] = r })
}

// proof is what the clean log said of a path before the catalog was lost.
func (c *Cache) proof(path string) (share.CleanRecord, bool) {
	r, ok := c.proofs[path]
	return r, ok
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

// tendProof writes out what was noted and rewrites a log that has grown.
func (c *Cache) tendProof() {
	if err := c.cleanLog.Flush(); err != nil {
		c.log.Warn("write the clean log", "err", err)
		return
	}
	if !c.cleanLog.Grown() {
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
