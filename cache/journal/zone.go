package journal

import (
	"fmt"
	"strconv"
	"strings"

	"depotfs/cache/layout"
)

// MaxZone is the longest name of a zone.
const MaxZone = 63

// ValidZone says whether a zone can have this name: up to MaxZone letters, digits, dots,
// dashes and underscores, a letter or digit first. It is one component of keys.
func ValidZone(name string) bool {
	if name == "" || len(name) > MaxZone || strings.IndexByte("._-", name[0]) >= 0 {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

const (
	journals = layout.Private + "/journal/"
	// digits are those of a batch's number in its key: keys sort as numbers do.
	digits = 20
)

// Root is what the keys of all batches of all zones begin with.
func Root(prefix string) string { return prefix + journals }

// Prefix is what the keys of all batches of a zone begin with, under the depot's prefix
// ("" or ending in "/").
func Prefix(prefix, zone string) string { return prefix + journals + zone + "/" }

// Key is the key of a zone's batch.
func Key(prefix, zone string, seq uint64) string {
	return fmt.Sprintf("%s%0*d", Prefix(prefix, zone), digits, seq)
}

// ParseKey tells whose batch a key is, and which; not ok where it is none.
func ParseKey(prefix, key string) (zone string, seq uint64, ok bool) {
	rest, ok := strings.CutPrefix(key, prefix+journals)
	if !ok {
		return "", 0, false
	}
	zone, number, _ := strings.Cut(rest, "/")
	seq, err := strconv.ParseUint(number, 10, 64)
	if !ValidZone(zone) || len(number) != digits || err != nil || seq == 0 {
		return "", 0, false
	}
	return zone, seq, true
}
