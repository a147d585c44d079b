package catalog

import (
	"encoding/binary"
	"math"
)

func encodeDirent(d Dirent) []byte {
	e := newEncoder(24)
	e.uint(uint64(d.Ino))
	e.uint(uint64(d.Type))
	e.uint(d.Cookie)
	return e.buf
}

func decodeDirent(parent Ino, name string, buf []byte) (Dirent, error) {
	d := newDecoder(buf)
	out := Dirent{Parent: parent, Name: name, Ino: Ino(d.uint()), Type: d.uint32(), Cookie: d.uint()}
	return out, d.err
}

func encodeCookie(d Dirent) []byte {
	e := newEncoder(16 + len(d.Name))
	e.uint(uint64(d.Ino))
	e.uint(uint64(d.Type))
	e.string(d.Name)
	return e.buf
}

func decodeCookie(parent Ino, cookie uint64, buf []byte) (Dirent, error) {
	d := newDecoder(buf)
	out := Dirent{Parent: parent, Cookie: cookie, Ino: Ino(d.uint()), Type: d.uint32(), Name: d.string()}
	return out, d.err
}

func encodeQueueItem(q *QueueItem) []byte {
	e := newEncoder(32 + len(q.LastError))
	e.bool(q.Subtree)
	e.int(q.NotBefore)
	e.int(q.Since)
	e.uint(uint64(q.Attempts))
	e.string(q.LastError)
	return e.buf
}

func decodeQueueItem(ino Ino, buf []byte) (*QueueItem, error) {
	d := newDecoder(buf)
	q := &QueueItem{Ino: ino, Subtree: d.bool(), NotBefore: d.int(), Since: d.int(), Attempts: d.uint32(), LastError: d.string()}
	if d.err != nil {
		return nil, d.err
	}
	return q, nil
}

func encodeRemoval(r *Removal) []byte {
	e := newEncoder(80 + len(r.ETag) + len(r.Path) + len(r.LastError) + len(r.Trash))
	e.string(r.ETag)
	e.string(r.Path)
	e.int(r.Since)
	e.int(r.NotBefore)
	e.uint(uint64(r.Attempts))
	e.string(r.LastError)
	e.string(r.Version)
	e.string(r.UploadID)
	e.string(r.Trash)
	e.int(r.Size)
	e.uint(uint64(r.Mode))
	e.uint(uint64(r.UID))
	e.uint(uint64(r.GID))
	e.int(r.Mtime)
	e.int(r.Replaced)
	e.bool(r.Untold)
	e.uint(uint64(len(r.Former)))
	for _, f := range r.Former {
		e.string(f.ETag)
		e.string(f.Trash)
		e.string(f.Path)
		e.int(f.Size)
		e.bool(f.Untold)
	}
	return e.buf
}

func decodeRemoval(key string, buf []byte) (*Removal, error) {
	d := newDecoder(buf)
	r := &Removal{Key: key, ETag: d.string(), Path: d.string(), Since: d.int(), NotBefore: d.int(), Attempts: d.uint32(), LastError: d.string(), Version: d.string(), UploadID: d.string(),
		Trash: d.string(), Size: d.int(), Mode: d.uint32(), UID: d.uint32(), GID: d.uint32(), Mtime: d.int(), Replaced: d.int(), Untold: d.bool()}
	for range d.count(5) {
		r.Former = append(r.Former, Removed{ETag: d.string(), Trash: d.string(), Path: d.string(), Size: d.int(), Untold: d.bool()})
	}
	if d.err != nil {
		return nil, d.err
	}
	return r, nil
}

func encodeUpload(u *Upload) []byte {
	e := newEncoder(80 + len(u.Key) + len(u.UploadID))
	e.string(u.Key)
	e.string(u.UploadID)
	e.int(u.PartSize)
	e.int(u.Size)
	e.uint(u.Gen)
	e.stamp(u.Stamp)
	e.int(u.Created)
	e.bool(u.HasCRC)
	e.fixed(u.CRC64)
	e.int(u.Replaced)
	return e.buf
}

func decodeUpload(ino Ino, buf []byte) (*Upload, error) {
	d := newDecoder(buf)
	u := &Upload{Ino: ino, Key: d.string(), UploadID: d.string(), PartSize: d.int(), Size: d.int(), Gen: d.uint(), Stamp: d.stamp(), Created: d.int(), HasCRC: d.bool(), CRC64: d.fixed(), Replaced: d.int()}
	if d.err != nil {
		return nil, d.err
	}
	return u, nil
}

func encodePart(p UploadPart) []byte {
	e := newEncoder(24 + len(p.ETag))
	e.int(p.Size)
	e.fixed(p.CRC64)
	e.string(p.ETag)
	e.int(p.Off)
	return e.buf
}

func decodePart(number int, buf []byte) (UploadPart, error) {
	d := newDecoder(buf)
	p := UploadPart{Number: number, Size: d.int(), CRC64: d.fixed(), ETag: d.string(), Off: d.int()}
	return p, d.err
}

func encodeIntent(t *Intent) []byte {
	e := newEncoder(64 + len(t.From) + len(t.To) + len(t.NewName) + len(t.OldName) + len(t.Zone))
	e.byte(byte(t.Kind))
	e.uint(uint64(t.Ino))
	e.string(t.From)
	e.string(t.To)
	e.uint(uint64(t.Victim))
	e.uint(uint64(t.NewParent))
	e.string(t.NewName)
	e.uint(uint64(t.OldParent))
	e.string(t.OldName)
	e.uint(t.ShareIno)
	e.int(t.Time)
	e.string(t.Zone)
	e.bool(t.Remade)
	return e.buf
}

func decodeIntent(seq uint64, buf []byte) (*Intent, error) {
	d := newDecoder(buf)
	t := &Intent{
		Seq: seq, Kind: IntentKind(d.byte()), Ino: Ino(d.uint()), From: d.string(), To: d.string(), Victim: Ino(d.uint()),
		NewParent: Ino(d.uint()), NewName: d.string(), OldParent: Ino(d.uint()), OldName: d.string(), ShareIno: d.uint(), Time: d.int(), Zone: d.string(), Remade: d.bool(),
	}
	if d.err != nil {
		return nil, d.err
	}
	return t, nil
}

// encodeBytes wraps a value that belongs to others (extended attribute, setting).
func encodeBytes(v []byte) []byte {
	return append(append(make([]byte, 0, 1+len(v)), recordVersion), v...)
}

func decodeBytes(buf []byte) ([]byte, error) {
	d := newDecoder(buf)
	if d.err != nil {
		return nil, d.err
	}
	return append(make([]byte, 0, len(d.buf)), d.buf...), nil
}

func encodeNumber(n uint64) []byte {
	e := newEncoder(11)
	e.uint(n)
	return e.buf
}

func decodeNumber(buf []byte) (uint64, error) {
	d := newDecoder(buf)
	n := d.uint()
	return n, d.err
}

// encodeExtents writes both lists as distances: gap before the range, length.
// A list that is not sorted, disjoint and non-negative is the caller's bug and
// is refused, because its distances would not come back as they were.
func encodeExtents(x Extents) ([]byte, error) {
	e := newEncoder(16 + 6*(len(x.Here)+len(x.Written)))
	for _, list := range [2][]Range{x.Here, x.Written} {
		e.uint(uint64(len(list)))
		var at int64
		for _, r := range list {
			if r.Off < at || r.End <= r.Off {
				return nil, errUnsorted
			}
			e.uint(uint64(r.Off - at))
			e.uint(uint64(r.End - r.Off))
			at = r.End
		}
	}
	return e.buf, nil
}

func decodeExtents(buf []byte) (Extents, error) {
	d := newDecoder(buf)
	var lists [2][]Range
	for i := range lists {
		c := d.count(2)
		if c == 0 {
			continue
		}
		lists[i] = make([]Range, c)
		var at uint64
		for j := range lists[i] {
			off := at + d.uint()
			end := off + d.uint()
			if off < at || end <= off || end > math.MaxInt64 {
				d.fail("ranges that run backwards")
				break
			}
			lists[i][j] = Range{Off: int64(off), End: int64(end)}
			at = end
		}
	}
	if d.err != nil {
		return Extents{}, d.err
	}
	return Extents{Here: lists[0], Written: lists[1]}, nil
}

// chunkKey is the key of one stored piece of an inode's extents.
func chunkKey(ino Ino, chunk uint32) []byte {
	k := make([]byte, 13)
	k[0] = kindExtents
	binary.BigEndian.PutUint64(k[1:], uint64(ino))
	binary.BigEndian.PutUint32(k[9:], chunk)
	return k
}

func encodeTombstone(t *Tombstone) []byte {
	e := newEncoder(24 + len(t.Zone) + len(t.Key) + len(t.To))
	e.int(t.Time)
	e.string(t.Zone)
	e.string(t.Key)
	e.string(t.To)
	e.int(t.RmdirAt)
	e.string(t.RmdirBy)
	e.string(t.RmdirTo)
	e.int(t.MadeAt)
	e.string(t.MadeBy)
	e.int(t.AttrAt)
	e.string(t.AttrBy)
	e.int(t.TakenAt)
	return e.buf
}

func decodeTombstone(path string, buf []byte) (*Tombstone, error) {
	d := newDecoder(buf)
	t := &Tombstone{Path: path, Time: d.int(), Zone: d.string(), Key: d.string(), To: d.string()}
	t.RmdirAt, t.RmdirBy, t.RmdirTo = d.int(), d.string(), d.string()                 // they came later
	t.MadeAt, t.MadeBy, t.AttrAt, t.AttrBy = d.int(), d.string(), d.int(), d.string() // and these after them
	t.TakenAt = d.int()                                                               // and this
	if d.err != nil {
		return nil, d.err
	}
	return t, nil
}
