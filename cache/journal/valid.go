package journal

import (
	"fmt"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"depotfs/cache/extent"
	"depotfs/cache/layout"
)

const (
	// MaxPath is the longest path that a record can tell of, in bytes.
	MaxPath  = 4096
	maxKey   = 1024 // S3's
	maxGuard = 1024 // entity tags and version ids are shorter
	maxMode  = 0o177777
)

func (op Op) known() bool {
	switch op {
	case Put, Mkdir, Symlink, Attr, Delete, Rmdir, Rename, Exchange:
		return true
	}
	return false
}

// types are the file types that an operation is about, where there is one alone.
var types = map[Op]uint32{Put: syscall.S_IFREG, Mkdir: syscall.S_IFDIR, Symlink: syscall.S_IFLNK}

// validate says what about a record cannot be, whoever wrote it.
func validate(r *Record) error {
	if !r.Op.known() {
		return fmt.Errorf("%q: %w", clip(string(r.Op)), ErrUnknown)
	}
	if r.Path != "" || r.Op != Attr { // the mount's own directory has attributes, and nothing else to tell
		if err := validPath(r.Path); err != nil {
			return err
		}
	}
	if r.Zone != "" && !ValidZone(r.Zone) {
		return fmt.Errorf("zone %q: %w", clip(r.Zone), ErrInvalid)
	}
	if r.AttrTime < 0 || (r.AttrTime == 0) != (r.AttrZone == "") || r.AttrZone != "" && !ValidZone(r.AttrZone) {
		return fmt.Errorf("attributes set at %d by zone %q: %w", r.AttrTime, clip(r.AttrZone), ErrInvalid)
	}
	switch r.Op {
	case Rename, Exchange:
		if err := validPath(r.From); err != nil {
			return err
		}
		if isAt(r.Path, r.From) || isAt(r.From, r.Path) {
			return fmt.Errorf("%s of %q to %q: %w", r.Op, clip(r.From), clip(r.Path), ErrInvalid)
		}
	case Put:
		if r.Key == "" {
			return fmt.Errorf("put of %q without a key: %w", clip(r.Path), ErrInvalid)
		}
	case Symlink:
		if r.Target == "" {
			return fmt.Errorf("symlink %q without a target: %w", clip(r.Path), ErrInvalid)
		}
	}
	if r.From != "" && r.Op != Rename && r.Op != Exchange {
		return fmt.Errorf("%s of %q from %q: %w", r.Op, clip(r.Path), clip(r.From), ErrInvalid)
	}
	if len(r.Target) >= MaxPath || strings.IndexByte(r.Target, 0) >= 0 {
		return fmt.Errorf("target %q: %w", clip(r.Target), ErrInvalid)
	}
	for _, s := range []struct {
		what, text string
		most       int
	}{{"key", r.Key, maxKey}, {"trash", r.Trash, maxKey}, {"etag", r.ETag, maxGuard}, {"version", r.VersionID, maxGuard}, {"zeros", r.Zeros, extent.MaxZeroMap}} {
		if len(s.text) > s.most || !utf8.ValidString(s.text) || strings.IndexFunc(s.text, unicode.IsControl) >= 0 {
			return fmt.Errorf("%s %q: %w", s.what, clip(s.text), ErrInvalid)
		}
	}
	if r.Size < 0 {
		return fmt.Errorf("size %d: %w", r.Size, ErrInvalid)
	}
	if r.Swapped&^syscall.S_IFMT != 0 || r.Swapped != 0 && r.Op != Exchange {
		return fmt.Errorf("%s of a file of type %#o: %w", r.Op, r.Swapped, ErrInvalid)
	}
	return validMode(r.Op, r.Mode)
}

func validMode(op Op, mode uint32) error {
	typ := mode & syscall.S_IFMT
	want, one := types[op]
	if mode > maxMode || one && typ != 0 && typ != want {
		return fmt.Errorf("%s with mode %#o: %w", op, mode, ErrInvalid)
	}
	return nil
}

// validPath accepts what can be a name in the mount, other than its own directory.
func validPath(s string) error {
	if len(s) > MaxPath {
		return fmt.Errorf("a path of %d bytes: %w", len(s), ErrInvalid)
	}
	path, slash, err := layout.ParsePath(s)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if path == "" || slash {
		return fmt.Errorf("path %q: %w", clip(s), ErrInvalid)
	}
	return nil
}

// isAt says whether path is at or below dir.
func isAt(path, dir string) bool {
	rest, ok := strings.CutPrefix(path, dir)
	return ok && (rest == "" || rest[0] == '/')
}
