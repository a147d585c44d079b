package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"testing"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// fakeTuned keeps what a heart would.
type fakeTuned struct {
	kept      map[string]string
	transfers cache.Transfers
	fails     error
}

func (h *fakeTuned) Setting(name string) (string, error) { return h.kept[name], nil }
func (h *fakeTuned) Transfers() cache.Transfers          { return h.transfers }
func (h *fakeTuned) PutSettings(_ context.Context, values map[string]string) error {
	if h.fails != nil {
		return h.fails
	}
	for name, text := range values {
		if h.kept[name] = text; text == "" {
			delete(h.kept, name)
		}
	}
	return nil
}
func (h *fakeTuned) SetTransfers(t cache.Transfers) error { h.transfers = t; return nil }

// fakeLimited is a store that notes its limits.
type fakeLimited struct {
	*storetest.Mem
	up, down int64
}

func (s *fakeLimited) SetLimits(up, down int64) { s.up, s.down = up, down }

// testConfig is a mount's with two transfer options of its own.
func testConfig(t *testing.T) Config {
	t.Helper()
	cfg, err := loadConfig(map[string]string{"cache-dir": "/c", "zone": "a", "upload-limit": "1MiB", "upload-parts": "6"}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func newTestTuning(t *testing.T) *tuning {
	t.Helper()
	tune := newTuning(testConfig(t), slog.New(slog.DiscardHandler))
	if err := tune.start(&fakeTuned{kept: map[string]string{}}); err != nil {
		t.Fatal(err)
	}
	return tune
}

func TestConfigSet(t *testing.T) {
	for _, tt := range []struct {
		name      string
		args      []string
		fails     error
		code      int
		out, err  string
		kept      map[string]string
		up, down  int64
		transfers cache.Transfers
	}{
		{name: "both limits", args: []string{"upload-limit=20MiB", "download-limit=5MiB/s"}, out: "upload-limit is 20MiB/s, was 1MiB/s\ndownload-limit is 5MiB/s, was 0\n",
			kept: map[string]string{"config.upload-limit": "20MiB", "config.download-limit": "5MiB/s"}, up: 20 << 20, down: 5 << 20},
		{name: "no limit", args: []string{"upload-limit=0"}, out: "upload-limit is 0, was 1MiB/s", kept: map[string]string{"config.upload-limit": "0"}},
		{name: "transfers", args: []string{"upload-files=2", "upload-parts=3", "part-size=8MiB"}, out: "part-size is 8MiB, was 16MiB",
			kept: map[string]string{"config.upload-files": "2", "config.upload-parts": "3", "config.part-size": "8MiB"}, up: 1 << 20, transfers: cache.Transfers{UploadFiles: 2, UploadParts: 3, PartSize: 8 << 20}},
		{name: "all or none", args: []string{"upload-limit=5MiB", "part-size=1KiB"}, code: 1, err: "5MiB to 5GiB; nothing was changed", up: 1 << 20},
		{name: "not recorded", args: []string{"upload-limit=5MiB"}, fails: errors.New("disk full"), code: 1, err: "disk full; nothing was changed", up: 1 << 20},
		{name: "a secret", args: []string{"s3.secret-key=x"}, code: 2, err: "s3.secret-key cannot be changed while running: edit the config file and mount again", up: 1 << 20},
		{name: "an S3 setting that nobody knows", args: []string{"s3.colour=x"}, code: 2, err: "s3.colour cannot be changed while running", up: 1 << 20},
		{name: "another setting", args: []string{"cache-size=1GiB"}, code: 2, err: "cache-size cannot be changed while running", up: 1 << 20},
		{name: "no setting", args: []string{"uplaod-limit=1"}, code: 2, err: "those that can be changed while running are upload-files", up: 1 << 20},
		{name: "no value", args: []string{"upload-limit=fast"}, code: 2, err: "is no size", up: 1 << 20},
		{name: "twice", args: []string{"upload-limit=1MiB", "upload-limit=2MiB"}, code: 2, err: "set twice", up: 1 << 20},
		{name: "nothing", code: 2, err: "at least one setting", up: 1 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := startDaemon(t, &fakeHeart{}, t.TempDir())
			heart, store := &fakeTuned{kept: map[string]string{}, fails: tt.fails}, &fakeLimited{Mem: storetest.NewMem()}
			tune := newTuning(testConfig(t), slog.New(slog.DiscardHandler))
			if err := tune.start(heart); err != nil {
				t.Fatal(err)
			}
			tune.manage(store)
			*d.api.tuning = tuning{heart: heart, log: tune.log, base: tune.base, now: tune.now, set: tune.set, store: store}
			code := d.command(t, append([]string{"config", "set"}, tt.args...)...)
			if code != tt.code || !strings.Contains(d.out.String(), tt.out) || !strings.Contains(d.err.String(), tt.err) || (tt.err == "") != (d.err.Len() == 0) {
				t.Errorf("exit %d, want %d:\n%s%s", code, tt.code, d.out, d.err)
			}
			if !maps.Equal(heart.kept, tt.kept) {
				t.Errorf("kept %v, want %v", heart.kept, tt.kept)
			}
			if store.up != tt.up || store.down != tt.down {
				t.Errorf("the store's limits are %d and %d, want %d and %d", store.up, store.down, tt.up, tt.down)
			}
			want := tt.transfers
			if want == (cache.Transfers{}) {
				want = cache.Transfers{UploadFiles: 4, UploadParts: 6, PartSize: 16 << 20}
			}
			if heart.transfers != want {
				t.Errorf("transfers are %+v, want %+v", heart.transfers, want)
			}
		})
	}
}

// What was set is taken up at the next mount, goes before its options, says so, and can
// be given up; a store that is opened later follows it.
func TestConfigSetIsKept(t *testing.T) {
	heart := &fakeTuned{kept: map[string]string{"config.upload-limit": "3MiB", "config.part-size": "1KiB"}}
	d := startDaemon(t, &fakeHeart{}, t.TempDir())
	tune := d.api.tuning
	if err := tune.start(heart); err != nil {
		t.Fatal(err)
	}
	store := &fakeLimited{Mem: storetest.NewMem()}
	tune.manage(store)
	if store.up != 3<<20 || heart.transfers.PartSize != 16<<20 {
		t.Errorf("upload limit %d, part size %d", store.up, heart.transfers.PartSize)
	}
	shown := func() setting {
		for _, s := range tune.settings() {
			if s.Key == "upload-limit" {
				return s
			}
		}
		return setting{}
	}
	if s := shown(); s.Text != "3MiB/s" || s.Source != "config set; was 1MiB/s" {
		t.Errorf("shown as %+v", s)
	}
	if code := d.command(t, "config", "set", "upload-limit="); code != 0 {
		t.Fatalf("exit %d: %s", code, d.err)
	}
	if s := shown(); s.Text != "1MiB/s" || s.Source != "flag --upload-limit" || store.up != 1<<20 || heart.kept["config.upload-limit"] != "" {
		t.Errorf("after it was given up: shown as %+v, limit %d, kept %v", s, store.up, heart.kept)
	}
}
