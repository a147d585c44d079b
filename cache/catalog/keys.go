package catalog

import "encoding/binary"

// Every key starts with one of these bytes. They are part of the format: a
// number of a kind that is no longer used is never given to another kind.
const (
	kindMeta   = 'a' // name -> format version, epoch, number limits, tick
	kindInode  = 'i' // ino -> Inode
	kindDirent = 'd' // parent, name -> ino, type, cookie
	kindCookie = 'c' // parent, cookie -> ino, type, name
	// 'h' was a key that was deleted and never stored.
	kindXattr    = 'x' // ino, name -> value
	kindExtents  = 'e' // ino, chunk -> Extents
	kindQueue    = 'q' // ino -> QueueItem
	kindRemoval  = 'r' // object key -> Removal
	kindUpload   = 'u' // ino -> Upload
	kindPart     = 'p' // ino, part number -> UploadPart
	kindSums     = 'g' // ino -> Sums
	kindIntent   = 't' // seq -> Intent
	kindOwner    = 'k' // object key -> ino
	kindSetting  = 's' // name -> value
	kindNews     = 'n' // number -> change record that other zones are to be told; 0: the last number given
	kindDead     = 'b' // path -> Tombstone
	kindHeld     = 'w' // path -> change record of another zone that cannot be applied yet
	kindKeptAttr = 'v' // path, of a directory with '/' behind it -> change record that says its attributes
	kindKept     = 'l' // 'p', path -> HeldDelete; 'k', object key -> path of the one that has the object
)

func numberKey(kind byte, n uint64) []byte {
	return appendNumber(make([]byte, 0, 9), kind, n)
}

// appendNumber is numberKey in memory of the caller's.
func appendNumber(b []byte, kind byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, kind), n)
}

func nameKey(kind byte, name string) []byte {
	k := make([]byte, 1+len(name))
	k[0] = kind
	copy(k[1:], name)
	return k
}

func numberNameKey(kind byte, n uint64, name string) []byte {
	k := make([]byte, 9+len(name))
	k[0] = kind
	binary.BigEndian.PutUint64(k[1:], n)
	copy(k[9:], name)
	return k
}

func pairKey(kind byte, a, b uint64) []byte {
	k := make([]byte, 17)
	k[0] = kind
	binary.BigEndian.PutUint64(k[1:], a)
	binary.BigEndian.PutUint64(k[9:], b)
	return k
}

// keyNumber is the number at off of a key that this package made.
func keyNumber(k []byte, off int) (uint64, error) {
	if len(k) < off+8 {
		return 0, damagedf("key %x is too short", k)
	}
	return binary.BigEndian.Uint64(k[off:]), nil
}
