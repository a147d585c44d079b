package layout

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxProperties bounds how much of a properties file is looked at. CloudStack's
// have some hundred bytes.
const maxProperties = 1 << 20

// ParseNamedFiles returns the names of the image files that a template.properties
// or volume.properties names (keys "filename" and "<ext>.filename"), sorted,
// without doubles. A value with slashes counts as its last component: CloudStack
// keeps image and properties in one directory. Content past 1 MiB is not looked at.
func ParseNamedFiles(content []byte) []string {
	content = content[:min(len(content), maxProperties)]
	found := make(map[string]bool)
	eachProperty(content, func(key, value string) {
		if key != "filename" && !strings.HasSuffix(key, ".filename") {
			return
		}
		name := value[strings.LastIndexByte(value, '/')+1:]
		if ValidName(name) {
			found[name] = true
		}
	})
	return slices.Sorted(maps.Keys(found))
}

// EqualIgnoringComments says whether two property files say the same: the same
// keys with the same values, whatever the comments (Java writes the date into
// one), the order (a hash table's) and the spaces around them. Files over 1 MiB
// are no property files and equal only byte by byte.
func EqualIgnoringComments(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	if len(a) > maxProperties || len(b) > maxProperties {
		return false
	}
	return maps.Equal(properties(a), properties(b))
}

func properties(content []byte) map[string]string {
	m := make(map[string]string)
	eachProperty(content, func(key, value string) { m[key] = value })
	return m
}

// eachProperty calls fn for each entry of a Java properties file, in order.
// Bytes above 0x7f stay as they are: Java escapes what it writes, and scripts
// write the bytes that the file's name has.
func eachProperty(content []byte, fn func(key, value string)) {
	for len(content) > 0 {
		var line []byte
		line, content = logicalLine(content)
		if len(line) == 0 {
			continue
		}
		key, value := splitProperty(line)
		fn(unescape(key), unescape(value))
	}
}

// logicalLine takes one entry off content: comments and blank lines come back
// empty, lines that end in an odd number of backslashes go on in the next one
// without its leading blanks.
func logicalLine(content []byte) (line, rest []byte) {
	line, rest = naturalLine(content)
	line = trimLeft(line)
	if len(line) == 0 || line[0] == '#' || line[0] == '!' {
		return nil, rest
	}
	if !continues(line) {
		return line, rest
	}
	line = slices.Clone(line)
	for continues(line) {
		var next []byte
		line = line[:len(line)-1]
		next, rest = naturalLine(rest)
		line = append(line, trimLeft(next)...)
		if len(rest) == 0 && len(next) == 0 {
			break
		}
	}
	return line, rest
}

// naturalLine ends at "\n", "\r" or "\r\n".
func naturalLine(content []byte) (line, rest []byte) {
	i := bytes.IndexAny(content, "\r\n")
	if i < 0 {
		return content, nil
	}
	rest = content[i+1:]
	if content[i] == '\r' && len(rest) > 0 && rest[0] == '\n' {
		rest = rest[1:]
	}
	return content[:i], rest
}

func continues(line []byte) bool {
	n := len(line)
	for n > 0 && line[n-1] == '\\' {
		n--
	}
	return (len(line)-n)%2 == 1
}

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\f' }

func trimLeft(b []byte) []byte {
	for len(b) > 0 && blank(b[0]) {
		b = b[1:]
	}
	return b
}

// splitProperty splits at the first "=", ":" or blank that no backslash escapes.
func splitProperty(line []byte) (key, value []byte) {
	i := 0
	for i < len(line) && line[i] != '=' && line[i] != ':' && !blank(line[i]) {
		if line[i] == '\\' {
			i++
		}
		i++
	}
	i = min(i, len(line))
	key, value = line[:i], trimLeft(line[i:])
	if len(value) > 0 && (value[0] == '=' || value[0] == ':') {
		value = trimLeft(value[1:])
	}
	return key, value
}

func unescape(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' || i+1 == len(b) {
			if b[i] != '\\' {
				out = append(out, b[i])
			}
			continue
		}
		i++
		switch b[i] {
		case 't':
			out = append(out, '\t')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 'f':
			out = append(out, '\f')
		case 'u':
			r, n := unicodeEscape(b[i+1:])
			if n == 0 {
				out = append(out, 'u') // Java throws here; a name with "u" in it is the better guess
				continue
			}
			out = utf8.AppendRune(out, r)
			i += n
		default:
			out = append(out, b[i])
		}
	}
	return string(out)
}

// unicodeEscape reads what follows "\u": four hex digits, and a second escape
// where the first is half of a surrogate pair. n is how many bytes that took.
func unicodeEscape(b []byte) (r rune, n int) {
	unit := func(b []byte) (rune, bool) {
		if len(b) < 4 {
			return 0, false
		}
		v, err := strconv.ParseUint(string(b[:4]), 16, 16)
		return rune(v), err == nil
	}
	r, ok := unit(b)
	if !ok {
		return 0, 0
	}
	if utf16.IsSurrogate(r) && len(b) >= 10 && b[4] == '\\' && b[5] == 'u' {
		if low, ok := unit(b[6:]); ok {
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				return pair, 10
			}
		}
	}
	return r, 4
}
