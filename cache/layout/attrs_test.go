package layout_test

import (
	"encoding/base64"
	"maps"
	"strings"
	"syscall"
	"testing"

	"depotfs/cache/layout"
)

func TestMetadataAsAWSWritesIt(t *testing.T) {
	for _, tt := range []struct {
		name  string
		attrs layout.Attrs
		meta  map[string]string
	}{
		{
			"file",
			layout.Attrs{Mode: syscall.S_IFREG | 0o664, HasOwner: true, UID: 500, GID: 501, HasMtime: true, Mtime: 1595002920000000000},
			map[string]string{"file-permissions": "0100664", "file-owner": "500", "file-group": "501", "file-mtime": "1595002920000000000ns"},
		},
		{
			"directory",
			layout.Attrs{Mode: syscall.S_IFDIR | 0o1755},
			map[string]string{"file-permissions": "0041755"},
		},
		{
			"symlink of root's, before 1970",
			layout.Attrs{Mode: syscall.S_IFLNK | 0o777, HasOwner: true, HasMtime: true, Mtime: -1, HasAtime: true, Atime: 5},
			map[string]string{"file-permissions": "0120777", "file-owner": "0", "file-group": "0", "file-mtime": "-1ns", "file-atime": "5ns"},
		},
		{
			"path that is no key",
			layout.Attrs{Mode: syscall.S_IFREG | 0o600, Path: "a\xff\n/b", Gen: 7},
			map[string]string{"file-permissions": "0100600", "depotfs-path": base64.RawURLEncoding.EncodeToString([]byte("a\xff\n/b")), "depotfs-gen": "7"},
		},
		{"nothing known", layout.Attrs{}, map[string]string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := layout.Encode(tt.attrs)
			if !maps.Equal(got, tt.meta) {
				t.Errorf("encode: got %v, want %v", got, tt.meta)
			}
			back, err := layout.Decode(got)
			if err != nil || back != tt.attrs {
				t.Errorf("decode: got %+v, %v, want %+v", back, err, tt.attrs)
			}
		})
	}
}

func TestDecodeOneByOne(t *testing.T) {
	good := map[string]string{"file-permissions": "0100644", "file-owner": "1", "file-group": "2", "file-mtime": "3ns", "depotfs-gen": "4"}
	want := layout.Attrs{Mode: syscall.S_IFREG | 0o644, HasOwner: true, UID: 1, GID: 2, HasMtime: true, Mtime: 3, Gen: 4}
	noMode, noOwner, noMtime, noGen := want, want, want, want
	noMode.Mode = 0
	noOwner.HasOwner, noOwner.UID, noOwner.GID = false, 0, 0
	noMtime.HasMtime, noMtime.Mtime = false, 0
	noGen.Gen = 0
	for _, tt := range []struct {
		key, value string
		want       layout.Attrs
		bad        bool
	}{
		{"file-permissions", "0644", layout.Attrs{Mode: 0o644, HasOwner: true, UID: 1, GID: 2, HasMtime: true, Mtime: 3, Gen: 4}, false},
		{"file-permissions", "rw-r--r--", noMode, true},
		{"file-permissions", "", noMode, true},
		{"file-permissions", "0999", noMode, true},
		{"file-permissions", "07777777", noMode, true},
		{"file-permissions", "0060660", noMode, true}, // a block device
		{"file-permissions", "0010644", noMode, true}, // a FIFO
		{"file-permissions", "0104755", layout.Attrs{Mode: syscall.S_IFREG | 0o755, HasOwner: true, UID: 1, GID: 2, HasMtime: true, Mtime: 3, Gen: 4}, false},
		{"file-owner", "root", noOwner, true},
		{"file-owner", "-1", noOwner, true},
		{"file-group", "4294967295", noOwner, true},
		{"file-group", "4294967296", noOwner, true},
		{"file-mtime", "yesterday", noMtime, true},
		{"file-mtime", "9999999999999999999999ns", noMtime, true},
		{"file-mtime", "99999999999999", noMtime, true},
		{"file-mtime", "1.2.3", noMtime, true},
		{"depotfs-gen", "-4", noGen, true},
		{"depotfs-path", "!!!", want, true},
		{"depotfs-path", base64.RawURLEncoding.EncodeToString([]byte("../../etc/passwd")), want, true},
		{"depotfs-path", base64.RawURLEncoding.EncodeToString([]byte(".depotfs/x")), want, true},
		{"depotfs-path", base64.RawURLEncoding.EncodeToString([]byte("dir/")), want, true},
		{"user-agent", "aws-fsx-lustre", want, false},
	} {
		m := maps.Clone(good)
		m[tt.key] = tt.value
		got, err := layout.Decode(m)
		if got != tt.want || (err != nil) != tt.bad {
			t.Errorf("%s=%q: got %+v, %v, want %+v", tt.key, tt.value, got, err, tt.want)
		}
	}
}

func TestTimesOfOtherTools(t *testing.T) {
	for value, want := range map[string]int64{
		"1595002920":            1595002920e9,
		"1595002920.5":          1595002920.5e9,
		"1595002920.000000001":  1595002920e9 + 1,
		"1595002920.0000000019": 1595002920e9 + 1,
		"-1.5":                  -1.5e9,
		"-0.5":                  -0.5e9,
		"1595002920000000000ns": 1595002920e9,
		"0":                     0,
	} {
		a, err := layout.Decode(map[string]string{"File-Mtime": value})
		if err != nil || !a.HasMtime || a.Mtime != want {
			t.Errorf("file-mtime %q: got %d %v %v, want %d", value, a.Mtime, a.HasMtime, err, want)
		}
	}
}

// S3 bounds user metadata to 2 KiB, names and values together.
func TestMetadataFits(t *testing.T) {
	size := func(m map[string]string) (n int) {
		for k, v := range m {
			n += len("x-amz-meta-") + len(k) + len(v)
		}
		return n
	}
	for _, length := range []int{1200, 1201, 5000} {
		path := strings.Repeat("x", length)
		m := layout.Encode(layout.Attrs{Mode: syscall.S_IFREG | 0o7777, HasOwner: true, UID: 4294967294, GID: 4294967294,
			HasMtime: true, Mtime: -1 << 63, HasAtime: true, Atime: -1 << 63, Gen: 1<<64 - 1, Path: path})
		if n := size(m); n > 2048 {
			t.Errorf("a path of %d bytes makes %d bytes of metadata", length, n)
		}
		if _, has := m["depotfs-path"]; has != layout.PathFits(path) {
			t.Errorf("a path of %d bytes: recorded %v, PathFits %v", length, has, layout.PathFits(path))
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("file-permissions", "0100644", "file-mtime", "1.5")
	f.Add("depotfs-path", "YQ", "file-owner", "0")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		a, _ := layout.Decode(map[string]string{k1: v1, k2: v2})
		if a.Path != "" {
			if path, dir, err := layout.ParsePath(a.Path); err != nil || dir || path != a.Path {
				t.Fatalf("path %q got through: %v", a.Path, err)
			}
		}
		switch a.Mode & syscall.S_IFMT {
		case 0, syscall.S_IFREG, syscall.S_IFDIR, syscall.S_IFLNK:
		default:
			t.Fatalf("mode %o got through", a.Mode)
		}
		if again, err := layout.Decode(layout.Encode(a)); layout.PathFits(a.Path) && (err != nil || again != a) {
			t.Fatalf("%+v becomes %+v, %v", a, again, err)
		}
	})
}
