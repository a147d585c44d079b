package cache

import (
	"fmt"

	"depotfs/cache/queue"
)

// Transfers are the limits that may change while the cache runs.
type Transfers struct {
	UploadFiles int   `json:"upload_files"` // files uploaded at once; large ones and small ones count apart
	UploadParts int   `json:"upload_parts"` // parts in flight, over all files
	PartSize    int64 `json:"part_size"`    // smallest part, and the smallest file that goes in parts
}

// Validate refuses what cannot work.
func (t Transfers) Validate() error {
	switch {
	case t.UploadFiles < 1, t.UploadParts < 1:
		return fmt.Errorf("%d files and %d parts at once: at least one of each is needed", t.UploadFiles, t.UploadParts)
	case t.PartSize < minPartSize || t.PartSize > maxPartSize:
		return fmt.Errorf("parts of %d bytes: S3 allows %d to %d", t.PartSize, int64(minPartSize), int64(maxPartSize))
	}
	return nil
}

func (c *Cache) initTransfers() {
	l := c.cfg.Limits
	c.transfers.Store(&Transfers{UploadFiles: l.UploadFiles, UploadParts: l.UploadParts, PartSize: l.PartSize})
	c.laneSlots[laneRequests] = queue.NewSlots(requestWorkers)
	c.laneSlots[laneFiles] = queue.NewSlots(l.UploadFiles)
	c.laneSlots[laneParts] = queue.NewSlots(l.UploadFiles)
	c.partSlots = queue.NewSlots(l.UploadParts)
	c.early = queue.NewSlots(aheadAll)
}

// SetTransfers changes the limits of transfers. What is under way goes on with the
// part size that it began with; more than the new number ends by itself.
func (c *Cache) SetTransfers(t Transfers) error {
	if err := t.Validate(); err != nil {
		return err
	}
	c.transfers.Store(&t)
	c.laneSlots[laneFiles].Resize(t.UploadFiles)
	c.laneSlots[laneParts].Resize(t.UploadFiles)
	c.partSlots.Resize(t.UploadParts)
	return nil
}

// Transfers returns the limits of transfers.
func (c *Cache) Transfers() Transfers { return *c.transfers.Load() }

// partSizeFor is the size of the parts of a new upload.
func (c *Cache) partSizeFor(size int64) int64 { return partSize(c.transfers.Load().PartSize, size) }
