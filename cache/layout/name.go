package layout

import (
	"errors"
	"fmt"
	"strings"
)

// Private is the directory, in the depot as in the cache directory, that is
// depotfs's own and that the mount never shows.
const Private = ".depotfs"

// maxName is the longest file name that Linux takes, in bytes.
const maxName = 255

// Why a key of the bucket is no path of the mount.
var (
	// ErrNotShowable: the key has components that no file system can show.
	ErrNotShowable = errors.New("the key is no showable path")
	// ErrPrivate: the key belongs to depotfs itself.
	ErrPrivate = errors.New("the key is depotfs's own")
)

// ValidName says whether a string can be one component of a path.
func ValidName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= maxName &&
		strings.IndexByte(name, '/') < 0 && strings.IndexByte(name, 0) < 0
}

// ParsePath checks a path that comes from outside, component by component. A
// single slash at the end makes it a directory and is not part of the path that
// is returned; "" is the root. The errors wrap ErrNotShowable or ErrPrivate.
func ParsePath(s string) (path string, dir bool, err error) {
	if s == "" {
		return "", true, nil
	}
	path, dir = strings.CutSuffix(s, "/")
	for rest, more := path, true; more; {
		var name string
		name, rest, more = strings.Cut(rest, "/")
		if !ValidName(name) {
			return "", false, fmt.Errorf("name %q in %q: %w", clip(name), clip(s), ErrNotShowable)
		}
	}
	if isPrivate(path) {
		return "", false, fmt.Errorf("%q: %w", clip(s), ErrPrivate)
	}
	return path, dir, nil
}

func isPrivate(path string) bool {
	rest, ok := strings.CutPrefix(path, Private)
	return ok && (rest == "" || rest[0] == '/')
}

// clip shortens what a stranger wrote before it goes into an error or a log.
func clip(s string) string {
	const enough = 120
	if len(s) > enough {
		return s[:enough] + "…"
	}
	return s
}
