package layout

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxKey is the longest key that S3 takes, in bytes of UTF-8.
const maxKey = 1024

// names is where objects go whose paths are no valid keys.
const names = Private + "/names/"

// Key returns the key of a path under the depot's prefix ("" or ending in "/").
// Directories end in "/"; the root's key is the prefix itself. encoded says that
// the path is no valid key (too long, not UTF-8, with control characters, or
// depotfs's own) and that its NameKey is returned: then the path must be recorded
// with the object (see Attrs.Path and PathFits).
func Key(prefix, path string, dir bool) (key string, encoded bool) {
	if path == "" {
		return prefix, false
	}
	size := len(prefix) + len(path)
	if dir {
		size++
	}
	if size > maxKey || isPrivate(path) || !plainText(path) {
		return NameKey(prefix, path, dir), true
	}
	if dir {
		return prefix + path + "/", false
	}
	return prefix + path, false
}

// NameKey is the key of a path that cannot be, or that the store refused as, a
// key of its own: the SHA-256 of the path.
func NameKey(prefix, path string, dir bool) string {
	sum := sha256.Sum256([]byte(path))
	key := prefix + names + hex.EncodeToString(sum[:])
	if dir {
		key += "/"
	}
	return key
}

// PathKey is the key of the companion of an object at a NameKey whose path is
// too long for metadata: an object whose body is the path.
func PathKey(nameKey string) string { return strings.TrimSuffix(nameKey, "/") + ".path" }

// IsNameKey says whether a key is a NameKey below prefix, and of a directory.
// Companions (PathKey) are not.
func IsNameKey(prefix, key string) (dir, ok bool) {
	rest, ok := strings.CutPrefix(key, prefix)
	if !ok {
		return false, false
	}
	if rest, ok = strings.CutPrefix(rest, names); !ok {
		return false, false
	}
	rest, dir = strings.CutSuffix(rest, "/")
	if len(rest) != hex.EncodedLen(sha256.Size) || strings.Trim(rest, "0123456789abcdef") != "" {
		return false, false
	}
	return dir, true
}

// NamedPath returns the path of an object at a NameKey, given the path that was
// recorded with it. A path that is no path, or not the one that the key is the
// hash of, gives ErrNotShowable.
func NamedPath(prefix, key, recorded string) (path string, dir bool, err error) {
	dir, ok := IsNameKey(prefix, key)
	if !ok {
		return "", false, fmt.Errorf("key %q is no hashed name: %w", clip(key), ErrNotShowable)
	}
	path, slash, err := ParsePath(recorded)
	if err != nil {
		return "", false, err
	}
	if path == "" || slash || NameKey(prefix, path, dir) != key {
		return "", false, fmt.Errorf("key %q: the recorded path %q is not its own: %w", clip(key), clip(recorded), ErrNotShowable)
	}
	return path, dir, nil
}

// Path returns the path that a key of the bucket stands for. A key that is the
// prefix itself is the root. The errors wrap ErrNotShowable (a key outside the
// prefix, too) or ErrPrivate; the paths of NameKeys need NamedPath.
func Path(prefix, key string) (path string, dir bool, err error) {
	rest, ok := strings.CutPrefix(key, prefix)
	if !ok {
		return "", false, fmt.Errorf("key %q is not below %q: %w", clip(key), prefix, ErrNotShowable)
	}
	return ParsePath(rest)
}

// plainText says whether every S3 tool can carry s: UTF-8 without control
// characters and without what XML 1.0, the language of listings, cannot express.
func plainText(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) || r == '\uFFFE' || r == '\uFFFF' {
			return false
		}
	}
	return true
}
