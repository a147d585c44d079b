package image

import (
	"path"
	"slices"
	"strings"
	"unicode/utf16"
)

// maxName is how long a name in a directory may be.
const maxName = 255

// sibling notes the name of a file that goes together with this one, as the file
// gives it. What leads anywhere but to the same directory is dropped.
func (w *walk) sibling(name string) {
	p := w.plan
	name, ok := siblingName(name)
	if !ok || name == p.name || len(p.siblings) >= maxSiblings || slices.Contains(p.siblings, name) {
		return
	}
	p.siblings = append(p.siblings, name)
}

// siblingName makes one component out of a relative path that means one.
func siblingName(name string) (string, bool) {
	if path.IsAbs(name) || strings.ContainsAny(name, "\x00:") {
		return "", false // qemu takes what is before a colon for a protocol
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", false
		}
	}
	name = path.Clean(name)
	if name == "." || len(name) > maxName || strings.Contains(name, "/") {
		return "", false
	}
	return name, true
}

// windowsSibling is sibling for a path as Windows writes it.
func (w *walk) windowsSibling(name string) {
	w.sibling(strings.ReplaceAll(name, `\`, "/"))
}

// utf16Text decodes UTF-16 up to the first zero; a bad one gives a name that no
// file has.
func utf16Text(b []byte, unit func([]byte) uint16) string {
	var units []uint16
	for ; len(b) >= 2; b = b[2:] {
		u := unit(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}
