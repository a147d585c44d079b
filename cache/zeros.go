package cache

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"depotfs/cache/catalog"
	"depotfs/cache/extent"
	"depotfs/cache/share"
)

// Zeros cost as little as they can. A hole of a file in the share is not read, not
// even for a checksum. Where a version is zeros travels with its object as a zero map
// (extent.EncodeZeros), which is bound to size and checksum: so it must be known when
// a multipart upload begins, before most of the file is read, and is left out where
// that would need reading much twice. Who knows the map of a version takes those
// ranges of the partial file for fetched. Zeros that come by the line nevertheless
// become holes (writeSparse).

// metaZeros is the user metadata that has the zero map of an object.
const metaZeros = "depotfs-zeros"

const (
	// maxZeroMap bounds the map in metadata, of which S3 allows 2 KiB in all.
	maxZeroMap = 1024
	// maxMetadata is that bound: the bytes of names and values.
	maxMetadata = 2 << 10
)

// withZeros adds a zero map to metadata that are complete otherwise, as far as there
// is room.
func withZeros(meta map[string]string, zeros extent.Set, size int64, crc uint64) {
	room := maxMetadata - len(metaZeros)
	for k, v := range meta {
		if k != metaZeros {
			room -= len(k) + len(v)
		}
	}
	delete(meta, metaZeros)
	if text := extent.EncodeZeros(zeros, size, crc, min(room, maxZeroMap)); text != "" {
		meta[metaZeros] = text
	}
}

// zerosOf is where the version is zeros that rec derives from, as far as is known.
func zerosOf(rec *catalog.Inode) extent.Set {
	if rec.Zeros == "" || !rec.Base.HasCRC {
		return extent.Set{}
	}
	zeros, err := extent.DecodeZeros(rec.Zeros, rec.Base.Size, rec.Base.CRC64)
	if err != nil {
		return extent.Set{} // it was another version's
	}
	return zeros
}

// learnZeros notes what the metadata of an object that holds the version r.Base say
// about its zeros. A map that is damaged, too new or of other bytes is left out.
func learnZeros(r *catalog.Inode, meta map[string]string) {
	text := meta[metaZeros]
	if !r.Base.HasCRC || text == "" {
		return
	}
	if _, err := extent.DecodeZeros(text, r.Base.Size, r.Base.CRC64); err == nil {
		r.Zeros = text
	}
}

// zeroMapOf is what a record keeps of the zeros of a version that was sent: what was
// found while it was read, what was known before of the same bytes, or what the
// object says.
func (s *sending) zeroMapOf(r *catalog.Inode, info ObjectInfo) string {
	if own := extent.EncodeZeros(s.zeros, r.Base.Size, r.Base.CRC64, maxZeroMap); own != "" {
		return own
	}
	same := &catalog.Inode{Base: r.Base, Zeros: r.Zeros}
	if zeros := zerosOf(same); zeros.Empty() {
		same.Zeros = ""
		learnZeros(same, info.Metadata)
	}
	return same.Zeros
}

// takeZeros takes the zeros of the version for fetched: where the partial file is a hole
// that is what it has to be, and elsewhere it becomes one. p is not in use yet, or
// p.storing (exclusively) and p.mu are held.
func (c *Cache) takeZeros(p *partial, rec *catalog.Inode) error {
	zeros := zerosOf(rec)
	if zeros.Empty() {
		return nil
	}
	if p.here.Empty() { // nothing in it counts
		if err := errors.Join(p.file.Truncate(0), p.file.Truncate(p.size)); err != nil {
			return fmt.Errorf("empty the partial file of inode %d: %w", p.ino, err)
		}
	}
	st, err := c.share.StatFile(p.file, false)
	if err != nil {
		return err
	}
	for _, z := range zeros.Overlap(0, p.limit) {
		for _, m := range p.here.Missing(z.Off, z.End) {
			// What is there was fetched and not noted before a kill, written and not
			// acknowledged, or thrown away.
			if st.Blocks > 0 {
				err := share.PunchHole(p.file, m.Off, m.End)
				if errors.Is(err, unix.EOPNOTSUPP) {
					return nil // they are fetched
				}
				if err != nil {
					return fmt.Errorf("make the zeros of inode %d: %w", p.ino, err)
				}
			}
			p.here.Add(m.Off, m.End)
		}
	}
	return nil
}

// showZeros is takeZeros for a file that was opened before its zeros were known.
func (c *Cache) showZeros(rec *catalog.Inode) error {
	n := c.peek(rec.Ino)
	if n == nil {
		return nil
	}
	defer c.drop(n)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.p == nil || n.whole.Load() {
		return nil
	}
	p := n.p
	p.storing.Lock() // what comes meanwhile must not go into what becomes a hole
	defer p.storing.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.discards > 0 { // perhaps for these zeros
		return nil
	}
	err := c.takeZeros(p, rec)
	p.wakeLocked()
	return err
}

// distrustZeros forgets a zero map whose version turned out to have other bytes.
func (c *Cache) distrustZeros(ino Ino) error {
	_, err := c.change(ino, func(_ *catalog.Tx, r *catalog.Inode) error {
		r.Zeros = ""
		return nil
	})
	if errors.Is(err, ErrStale) {
		return nil
	}
	return err
}
