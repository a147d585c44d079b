package layout_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"depotfs/cache/layout"
)

func TestKey(t *testing.T) {
	long := strings.Repeat("a/", 600)[:1199]
	for _, tt := range []struct {
		name, prefix, path string
		dir                bool
		want               string // "" = a hashed name
	}{
		{"file", "", "template/tmpl/1/2/x.iso", false, "template/tmpl/1/2/x.iso"},
		{"file below a prefix", "cloud/", "x", false, "cloud/x"},
		{"directory", "cloud/", "snapshots/2", true, "cloud/snapshots/2/"},
		{"root", "cloud/", "", true, "cloud/"},
		{"blanks and unicode", "", "Debian 12 – größe.iso", false, "Debian 12 – größe.iso"},
		{"the longest key", "", strings.Repeat("a", 1024), false, strings.Repeat("a", 1024)},
		{"the slash counts", "", strings.Repeat("a", 1024), true, ""},
		{"the prefix counts", "p/", strings.Repeat("a", 1023), false, ""},
		{"too long", "", long, false, ""},
		{"not UTF-8", "", "a\xffb", false, ""},
		{"newline", "", "a\nb", false, ""},
		{"delete character", "", "a\x7fb", false, ""},
		{"C1 control", "", "a\u0085b", false, ""},
		{"no XML character", "", "a\uFFFFb", false, ""},
		{"below the private directory", "p/", ".depotfs/x", false, ""},
		{"only like it", "p/", ".depotfs2/x", false, "p/.depotfs2/x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			key, encoded := layout.Key(tt.prefix, tt.path, tt.dir)
			if encoded != (tt.want == "") {
				t.Fatalf("key %q, encoded %v", key, encoded)
			}
			if !encoded {
				if key != tt.want {
					t.Errorf("got %q, want %q", key, tt.want)
				}
				return
			}
			if dir, ok := layout.IsNameKey(tt.prefix, key); !ok || dir != tt.dir || len(key) > 1024 || !utf8.ValidString(key) {
				t.Errorf("%q is no hashed name", key)
			}
			if _, _, err := layout.Path(tt.prefix, key); !errors.Is(err, layout.ErrPrivate) {
				t.Errorf("Path(%q): %v, want ErrPrivate", key, err)
			}
			if _, ok := layout.IsNameKey(tt.prefix, layout.PathKey(key)); ok {
				t.Errorf("the companion %q passes for a name", layout.PathKey(key))
			}
		})
	}
}

func TestPathRefusesWhatCannotBeShown(t *testing.T) {
	for _, tt := range []struct {
		key  string
		want error
	}{
		{"p//x", layout.ErrNotShowable},
		{"p/a//b", layout.ErrNotShowable},
		{"p/a//", layout.ErrNotShowable},
		{"p/../etc/passwd", layout.ErrNotShowable},
		{"p/a/..", layout.ErrNotShowable},
		{"p/a/../", layout.ErrNotShowable},
		{"p/./a", layout.ErrNotShowable},
		{"p/.", layout.ErrNotShowable},
		{"p/a\x00b", layout.ErrNotShowable},
		{"p/" + strings.Repeat("x", 256), layout.ErrNotShowable},
		{"q/a", layout.ErrNotShowable},
		{"p", layout.ErrNotShowable},
		{"p/.depotfs", layout.ErrPrivate},
		{"p/.depotfs/", layout.ErrPrivate},
		{"p/.depotfs/depot.json", layout.ErrPrivate},
		{"p/.depotfs/names/" + strings.Repeat("0", 64), layout.ErrPrivate},
	} {
		if path, _, err := layout.Path("p/", tt.key); !errors.Is(err, tt.want) {
			t.Errorf("Path(%q) = %q, %v, want %v", tt.key, path, err, tt.want)
		}
	}
	for _, tt := range []struct {
		key, want string
		dir       bool
	}{
		{"p/", "", true},
		{"p/a", "a", false},
		{"p/a/", "a", true},
		{"p/a/b\nc", "a/b\nc", false},
		{"p/a/.depotfs", "a/.depotfs", false},
		{"p/..a", "..a", false},
		{"p/" + strings.Repeat("x", 255), strings.Repeat("x", 255), false},
	} {
		if path, dir, err := layout.Path("p/", tt.key); err != nil || path != tt.want || dir != tt.dir {
			t.Errorf("Path(%q) = %q, %v, %v", tt.key, path, dir, err)
		}
	}
}

func TestNamedPathBelievesOnlyItsOwn(t *testing.T) {
	key := layout.NameKey("p/", "a\nb", false)
	if path, dir, err := layout.NamedPath("p/", key, "a\nb"); err != nil || dir || path != "a\nb" {
		t.Errorf("own path: %q %v %v", path, dir, err)
	}
	dirKey := layout.NameKey("p/", "a\nb", true)
	if path, dir, err := layout.NamedPath("p/", dirKey, "a\nb"); err != nil || !dir || path != "a\nb" {
		t.Errorf("own directory: %q %v %v", path, dir, err)
	}
	for _, recorded := range []string{"", "other", "a\nb/", "../a", "/a\nb"} {
		if path, _, err := layout.NamedPath("p/", key, recorded); err == nil {
			t.Errorf("recorded %q was believed: %q", recorded, path)
		}
	}
	for _, key := range []string{"p/x", "p/.depotfs/names/", "p/.depotfs/names/zz", layout.PathKey(key), "q/" + key} {
		if _, ok := layout.IsNameKey("p/", key); ok {
			t.Errorf("%q passes for a hashed name", key)
		}
	}
}

func FuzzKeyRoundTrip(f *testing.F) {
	f.Add("p/", "template/tmpl/1/2/x.iso", false)
	f.Add("", "a\nb/\xff", true)
	f.Add("p/", strings.Repeat("x/", 700)+"y", false)
	f.Add("p/", ".depotfs/names/x", true)
	f.Fuzz(func(t *testing.T, prefix, path string, dir bool) {
		if len(prefix) > 512 || prefix != "" && !strings.HasSuffix(prefix, "/") || !utf8.ValidString(prefix) {
			return
		}
		if clean, slash, err := layout.ParsePath(path); err != nil || slash || clean != path {
			return // not a path
		}
		key, encoded := layout.Key(prefix, path, dir)
		if len(key) > 1024 || strings.HasSuffix(key, "/") != dir {
			t.Fatalf("Key(%q, %q, %v) = %q", prefix, path, dir, key)
		}
		var back string
		var backDir bool
		var err error
		if encoded {
			back, backDir, err = layout.NamedPath(prefix, key, path)
		} else {
			back, backDir, err = layout.Path(prefix, key)
		}
		if err != nil || back != path || backDir != dir {
			t.Fatalf("Key(%q, %q, %v) = %q and back %q, %v, %v", prefix, path, dir, key, back, backDir, err)
		}
	})
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"a/b", "a//b", "../x", ".depotfs/x", "a/", "/", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		path, dir, err := layout.Path("", key)
		if err != nil {
			if !errors.Is(err, layout.ErrNotShowable) && !errors.Is(err, layout.ErrPrivate) {
				t.Fatalf("Path(%q): untyped error %v", key, err)
			}
			return
		}
		if path == "" {
			if !dir {
				t.Fatalf("Path(%q): the root is a directory", key)
			}
			return
		}
		for _, name := range strings.Split(path, "/") {
			if !layout.ValidName(name) {
				t.Fatalf("Path(%q) = %q has the name %q", key, path, name)
			}
		}
		if path == layout.Private || strings.HasPrefix(path, layout.Private+"/") {
			t.Fatalf("Path(%q) = %q is private", key, path)
		}
	})
}
