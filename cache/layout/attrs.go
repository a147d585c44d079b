package layout

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The names of user metadata. The file-* ones are those that Amazon FSx for
// Lustre, DataSync and File Gateway write, so that these understand our objects
// and we theirs.
const (
	metaMode  = "file-permissions" // octal st_mode: "0100644"
	metaUID   = "file-owner"       // decimal
	metaGID   = "file-group"       // decimal
	metaMtime = "file-mtime"       // "1595002920000000000ns"
	metaAtime = "file-atime"       // the same
	metaPath  = "depotfs-path"     // base64url of the path, for objects at a NameKey
	metaGen   = "depotfs-gen"      // decimal content generation in the zone that wrote it
)

// maxRecordedPath is the longest path that goes into metadata. S3 bounds all
// user metadata of an object to 2 KiB; in base64 this leaves 400 bytes for the rest.
const maxRecordedPath = 1200

// Attrs is what an object's metadata says about its file.
type Attrs struct {
	Mode     uint32 // st_mode; 0 = unknown; without type bits where only permissions are known
	HasOwner bool   // UID and GID are known
	UID, GID uint32
	HasMtime bool
	Mtime    int64 // ns since 1970
	HasAtime bool
	Atime    int64  // ns since 1970
	Path     string // of an object at a NameKey; "" = none recorded
	Gen      uint64 // content generation; 0 = none
}

// PathFits says whether a path can be recorded in metadata; longer ones need a
// companion object (see PathKey).
func PathFits(path string) bool { return len(path) <= maxRecordedPath }

// Encode writes attributes as user metadata. A path that does not fit is left out.
func Encode(a Attrs) map[string]string {
	m := make(map[string]string, 6)
	if a.Mode != 0 {
		m[metaMode] = fmt.Sprintf("%07o", a.Mode)
	}
	if a.HasOwner {
		m[metaUID] = strconv.FormatUint(uint64(a.UID), 10)
		m[metaGID] = strconv.FormatUint(uint64(a.GID), 10)
	}
	if a.HasMtime {
		m[metaMtime] = strconv.FormatInt(a.Mtime, 10) + "ns"
	}
	if a.HasAtime {
		m[metaAtime] = strconv.FormatInt(a.Atime, 10) + "ns"
	}
	if a.Path != "" && PathFits(a.Path) {
		m[metaPath] = base64.RawURLEncoding.EncodeToString([]byte(a.Path))
	}
	if a.Gen != 0 {
		m[metaGen] = strconv.FormatUint(a.Gen, 10)
	}
	return m
}

// Decode reads attributes from user metadata. What it does not understand it
// leaves out, value by value (an owner needs both user and group): the Attrs are
// always usable, and the error only tells a log what was ignored. The set-uid and
// set-gid bits of files are dropped: a bucket must not make programs of root's.
func Decode(m map[string]string) (Attrs, error) {
	var a Attrs
	var ignored []error
	var uid, gid uint32
	var haveUID, haveGID bool
	for name, value := range m {
		var err error
		switch strings.ToLower(name) {
		case metaMode:
			_, err = set(&a.Mode, parseMode, value)
		case metaUID:
			haveUID, err = set(&uid, parseID, value)
		case metaGID:
			haveGID, err = set(&gid, parseID, value)
		case metaMtime:
			a.HasMtime, err = set(&a.Mtime, parseTime, value)
		case metaAtime:
			a.HasAtime, err = set(&a.Atime, parseTime, value)
		case metaPath:
			_, err = set(&a.Path, parseRecordedPath, value)
		case metaGen:
			_, err = set(&a.Gen, parseGen, value)
		}
		if err != nil {
			ignored = append(ignored, fmt.Errorf("ignore %s %q: %w", name, clip(value), err))
		}
	}
	if haveUID && haveGID {
		a.HasOwner, a.UID, a.GID = true, uid, gid
	}
	return a, errors.Join(ignored...)
}

// set fills *to only with what could be parsed whole.
func set[T any](to *T, parse func(string) (T, error), value string) (bool, error) {
	v, err := parse(value)
	if err != nil {
		return false, err
	}
	*to = v
	return true, nil
}

func parseGen(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) }

func parseMode(s string) (uint32, error) {
	v, err := strconv.ParseUint(s, 8, 32)
	if err != nil {
		return 0, err
	}
	mode := uint32(v)
	if mode&^uint32(syscall.S_IFMT|0o7777) != 0 {
		return 0, errors.New("bits that no mode has")
	}
	switch mode & syscall.S_IFMT {
	case 0, syscall.S_IFREG:
		mode &^= syscall.S_ISUID | syscall.S_ISGID
	case syscall.S_IFDIR, syscall.S_IFLNK:
	default:
		return 0, errors.New("neither file, directory nor symlink")
	}
	return mode, nil
}

func parseID(s string) (uint32, error) {
	v, err := strconv.ParseUint(s, 10, 32)
	if err == nil && v == math.MaxUint32 {
		err = errors.New("-1 is nobody's number") // chown takes it for "keep"
	}
	return uint32(v), err
}

// parseTime reads "<n>ns", whole seconds, or seconds with decimals.
func parseTime(s string) (int64, error) {
	if ns, ok := strings.CutSuffix(s, "ns"); ok {
		return strconv.ParseInt(ns, 10, 64)
	}
	whole, frac, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return 0, err
	}
	if sec < math.MinInt64/int64(time.Second)+1 || sec > math.MaxInt64/int64(time.Second)-1 {
		return 0, errors.New("out of range")
	}
	ns := int64(0)
	if frac != "" {
		if strings.Trim(frac, "0123456789") != "" {
			return 0, errors.New("not a number")
		}
		ns, err = strconv.ParseInt((frac + "000000000")[:9], 10, 64)
		if err != nil {
			return 0, err
		}
	}
	if strings.HasPrefix(whole, "-") {
		ns = -ns
	}
	return sec*int64(time.Second) + ns, nil
}

func parseRecordedPath(s string) (string, error) {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil {
		return "", err
	}
	path, dir, err := ParsePath(string(raw))
	if err == nil && dir {
		err = ErrNotShowable
	}
	if err != nil {
		return "", err
	}
	return path, nil
}
