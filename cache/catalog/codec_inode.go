package catalog

// encodeInode writes mode, state and size first: decodeClass reads only those.
// The number itself is the key.
func encodeInode(n *Inode) []byte {
	size := 160 + len(n.Target)
	for _, l := range n.Links {
		size += len(l.Name) + 12
	}
	for _, o := range n.Objects {
		size += len(o.Key) + len(o.ETag) + len(o.VersionID) + 16
	}
	e := newEncoder(size)
	e.uint(uint64(n.Mode))
	e.byte(byte(n.State))
	e.int(n.Size)
	e.uint(uint64(n.UID))
	e.uint(uint64(n.GID))
	e.uint(uint64(n.Rdev))
	e.uint(uint64(n.Nlink))
	e.int(n.Blocks)
	e.int(n.Atime)
	e.int(n.Mtime)
	e.int(n.Ctime)
	e.string(n.Target)
	e.uint(uint64(len(n.Links)))
	for _, l := range n.Links {
		e.uint(uint64(l.Parent))
		e.string(l.Name)
	}
	e.uint(n.Gen)
	e.stamp(n.Stamp)
	e.uint(n.Base.Gen)
	e.int(n.Base.Size)
	e.bool(n.Base.HasCRC)
	if n.Base.HasCRC {
		e.fixed(n.Base.CRC64)
	}
	e.int(n.BaseLimit)
	e.uint(uint64(len(n.Objects)))
	for _, o := range n.Objects {
		e.string(o.Key)
		e.string(o.ETag)
		e.string(o.VersionID)
		e.uint(o.Gen)
	}
	e.uint(uint64(n.Flags))
	e.int(n.DirtySince)
	e.int(n.FinishedAt)
	e.int(n.LastUsed)
	e.string(n.Zeros)
	e.int(n.MadeAt)
	e.string(n.Origin)
	e.int(n.MovedAt)
	if n.AttrAt != 0 || n.KnownAt != 0 { // few have them, and records from before end here
		e.int(n.AttrAt)
		e.string(n.AttrBy)
	}
	if n.KnownAt != 0 {
		e.int(n.KnownAt)
	}
	return e.buf
}

func decodeInode(ino Ino, buf []byte) (*Inode, error) {
	d := newDecoder(buf)
	n := &Inode{Ino: ino}
	n.Mode = d.uint32()
	n.State = State(d.byte())
	n.Size = d.int()
	n.UID = d.uint32()
	n.GID = d.uint32()
	n.Rdev = d.uint32()
	n.Nlink = d.uint32()
	n.Blocks = d.int()
	n.Atime = d.int()
	n.Mtime = d.int()
	n.Ctime = d.int()
	n.Target = d.string()
	if c := d.count(2); c > 0 {
		n.Links = make([]Link, c)
		for i := range n.Links {
			n.Links[i] = Link{Parent: Ino(d.uint()), Name: d.string()}
		}
	}
	n.Gen = d.uint()
	n.Stamp = d.stamp()
	n.Base.Gen = d.uint()
	n.Base.Size = d.int()
	if n.Base.HasCRC = d.bool(); n.Base.HasCRC {
		n.Base.CRC64 = d.fixed()
	}
	n.BaseLimit = d.int()
	if c := d.count(4); c > 0 {
		n.Objects = make([]Object, c)
		for i := range n.Objects {
			n.Objects[i] = Object{Key: d.string(), ETag: d.string(), VersionID: d.string(), Gen: d.uint()}
		}
	}
	n.Flags = Flags(d.uint32())
	n.DirtySince = d.int()
	n.FinishedAt = d.int()
	n.LastUsed = d.int()
	n.Zeros = d.string()
	n.MadeAt = d.int()
	n.Origin = d.string()
	n.MovedAt = d.int()
	n.AttrAt = d.int()
	n.AttrBy = d.string()
	n.KnownAt = d.int()
	if d.err != nil {
		return nil, d.err
	}
	return n, nil
}

// class is what Totals counts an inode by.
type class struct {
	mode  uint32
	state State
	size  int64
}

func decodeClass(buf []byte) (class, error) {
	d := newDecoder(buf)
	c := class{mode: d.uint32(), state: State(d.byte()), size: d.int()}
	return c, d.err
}

func (e *encoder) stamp(s Stamp) {
	e.uint(s.Ino)
	e.int(s.Size)
	e.int(s.Mtime)
	e.int(s.Ctime)
}

func (d *decoder) stamp() Stamp {
	return Stamp{Ino: d.uint(), Size: d.int(), Mtime: d.int(), Ctime: d.int()}
}
