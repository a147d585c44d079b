package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"depotfs/cache"
)

func TestStateDirectory(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files []string
		mode  os.FileMode
		ok    bool
	}{
		{name: "missing", ok: true},
		{name: "empty and open to all", mode: 0o755, ok: true},
		{name: "ours", files: []string{"catalog", "zzz"}, mode: 0o700, ok: true},
		{name: "ours, opened to all by somebody", files: []string{"mount.json"}, mode: 0o777, ok: true},
		{name: "a fresh disk", files: []string{"lost+found"}, mode: 0o755, ok: true},
		{name: "somebody's home", files: []string{"letters"}, mode: 0o755},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "a", "b")
			if tt.mode != 0 {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				for _, name := range tt.files {
					if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.Chmod(dir, tt.mode); err != nil {
					t.Fatal(err)
				}
			}
			err := makeStateDir(dir)
			if tt.ok != (err == nil) {
				t.Fatalf("got %v", err)
			}
			info, statErr := os.Stat(dir)
			if statErr != nil {
				t.Fatal(statErr)
			}
			want := os.FileMode(0o700)
			if !tt.ok {
				want = tt.mode // what is not ours is not touched
			}
			if info.Mode().Perm() != want {
				t.Errorf("mode %o, want %o", info.Mode().Perm(), want)
			}
		})
	}
}

func TestOneDaemonForADirectory(t *testing.T) {
	dir := t.TempDir()
	first, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockDir(dir); !errors.Is(err, errLocked) {
		t.Errorf("a second lock: %v, want %v", err, errLocked)
	}
	first.Close()
	again, err := lockDir(dir)
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	again.Close()
}

func TestMayAllowOther(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "fuse.conf")
	if err := mayAllowOther(0, conf); err != nil {
		t.Errorf("root: %v", err)
	}
	for text, ok := range map[string]bool{"": false, "# user_allow_other\n": false, "mount_max = 9\nuser_allow_other\n": true} {
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := mayAllowOther(1000, conf); ok != (err == nil) {
			t.Errorf("with %q: %v", text, err)
		}
	}
}

// answering is a store that only knows how to answer List.
type answering struct {
	cache.Store
	err error
}

func (a answering) List(_ context.Context, _ cache.ListQuery, page func(cache.ListPage) error) error {
	if a.err != nil {
		return a.err
	}
	return page(cache.ListPage{})
}

func TestStoreCheck(t *testing.T) {
	cfg := Config{Bucket: "depot", Endpoint: "http://store"}
	same := mountRecord{Bucket: "depot", Endpoint: "http://store"}
	for _, tt := range []struct {
		name          string
		answer        error
		last          mountRecord
		warning, fail string
	}{
		{name: "answers"},
		{name: "no such bucket", answer: cache.ErrNotFound, last: same, fail: "make the bucket"},
		{name: "wrong key", answer: fmt.Errorf("list: %w", cache.ErrDenied), last: same, fail: "keys come from"},
		{name: "unreachable at the first mount", answer: cache.ErrUnavailable, fail: "--no-store-check"},
		{name: "unreachable later", answer: cache.ErrUnavailable, last: same, warning: "mounted with what is cached"},
		{name: "unreachable, and it is another one", answer: cache.ErrUnavailable, last: mountRecord{Bucket: "depot", Endpoint: "http://other"}, fail: "--no-store-check"},
		{name: "silent at the first mount", answer: context.DeadlineExceeded, fail: "--no-store-check"},
		{name: "something else listens there", answer: cache.ErrRejected, last: same, fail: "--region"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			warning, err := checkStore(t.Context(), answering{err: tt.answer}, cfg, tt.last)
			if !strings.Contains(warning, tt.warning) || tt.warning == "" && warning != "" {
				t.Errorf("warning %q, want %q", warning, tt.warning)
			}
			if tt.fail == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.fail) {
				t.Errorf("error %v, want ...%s...", err, tt.fail)
			}
		})
	}
}

func TestMountRecordReadsBack(t *testing.T) {
	dir := t.TempDir()
	if got := readMountRecord(dir); got != (mountRecord{}) {
		t.Errorf("a first mount has %+v", got)
	}
	want := mountRecord{Format: 1, Zone: "a", Bucket: "b", Endpoint: "http://e"}
	if err := want.write(dir); err != nil {
		t.Fatal(err)
	}
	if got := readMountRecord(dir); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
