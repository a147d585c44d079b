package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/settings"
	"depotfs/cache/storetest"
)

// fakeTuned keeps what a heart would.
type fakeTuned struct {
	kept      map[string]string // in the catalog
	transfers cache.Transfers
	off       bool
	refuses   error // what the depot says of other settings
	info      cache.StoreInfo
	tried     int
	shared    *settings.Shared // what the zones of a depot have in common; nil: nothing
	unheard   error            // why it cannot be read or written
	retention time.Duration
}

func (h *fakeTuned) Setting(name string) (string, error) { return h.kept[name], nil }
func (h *fakeTuned) PutSettings(_ context.Context, values map[string]string) error {
	for name, text := range values {
		if h.kept[name] = text; text == "" {
			delete(h.kept, name)
		}
	}
	return nil
}
func (h *fakeTuned) SetTrashRetention(d time.Duration)    { h.retention = d }
func (h *fakeTuned) SetTransfers(t cache.Transfers) error { h.transfers = t; return nil }
func (h *fakeTuned) StoreOn() bool                        { return !h.off }
func (h *fakeTuned) SharedSettings(context.Context) (settings.Shared, error) {
	if h.shared == nil {
		return settings.Shared{}, h.unheard
	}
	return *h.shared, h.unheard
}
func (h *fakeTuned) ShareSettings(_ context.Context, _ cache.Store, values map[string]string) (before, now settings.Shared, err error) {
	if h.unheard != nil {
		return before, now, h.unheard
	}
	before = *h.shared
	*h.shared = before.With("a", time.Unix(1000, 0), values)
	return before, *h.shared, nil
}
func (h *fakeTuned) ReplaceStore(ctx context.Context, s cache.Store, info cache.StoreInfo, record func(context.Context, cache.Store) error) error {
	h.tried++
	if h.refuses != nil {
		return h.refuses
	}
	if err := record(ctx, s); err != nil {
		return err
	}
	h.info = info
	return nil
}

// fakeLimited is a store that notes its limits.
type fakeLimited struct {
	*storetest.Mem
	up, down int64
	closed   bool
}

func (s *fakeLimited) SetLimits(up, down int64) { s.up, s.down = up, down }
func (s *fakeLimited) Close()                   { s.closed = true }

// testConfig is a mount's with two transfer options of its own.
func testConfig(t *testing.T) Config {
	t.Helper()
	cfg, err := loadConfig(map[string]string{"cache-dir": "/c", "zone": "a", "upload-limit": "1MiB", "upload-parts": "6",
		"bucket": "depot", "endpoint": "old:9000", "use-https": "false"}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func newTestTuning(t *testing.T) *tuning {
	t.Helper()
	tune := newTuning(testConfig(t), t.TempDir(), slog.New(slog.DiscardHandler))
	if err := tune.start(&fakeTuned{kept: map[string]string{}}); err != nil {
		t.Fatal(err)
	}
	return tune
}

// tunedDaemon is a daemon with a store of its own.
type tunedDaemon struct {
	*daemon
	heart  *fakeTuned
	store  *fakeLimited
	asked  cache.Store // what the next settings lead to
	made   []Config    // settings that stores were made of
	log    *bytes.Buffer
	tuning *tuning
}

func startTuned(t *testing.T, dir string) *tunedDaemon {
	t.Helper()
	d := &tunedDaemon{daemon: startDaemon(t, &fakeHeart{}, t.TempDir()), heart: &fakeTuned{kept: map[string]string{}},
		store: &fakeLimited{Mem: storetest.NewMem()}, asked: storetest.NewMem(), log: &bytes.Buffer{}}
	d.tuning = d.api.tuning
	d.tuning.dir, d.tuning.log = dir, slog.New(slog.NewTextHandler(d.log, nil))
	d.tuning.connect = func(cfg Config, _ cache.Store) (store, asker cache.Store, err error) {
		d.made = append(d.made, cfg)
		return &fakeLimited{Mem: storetest.NewMem()}, d.asked, nil
	}
	if err := d.tuning.load(); err != nil {
		t.Fatal(err)
	}
	if err := d.tuning.start(d.heart); err != nil {
		t.Fatal(err)
	}
	d.tuning.opened(d.store)
	return d
}

// saved is what the settings file has.
func saved(t *testing.T, dir string) map[string]string {
	t.Helper()
	s, _, err := readSettings(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s.Set
}

func TestConfigSet(t *testing.T) {
	for _, tt := range []struct {
		name      string
		args      []string
		code      int
		out, err  string
		kept      map[string]string
		up, down  int64
		transfers cache.Transfers
		retention time.Duration
	}{
		{name: "both limits", args: []string{"upload-limit=20MiB", "download-limit=5MiB/s"}, out: "upload-limit is 20MiB/s, was 1MiB/s\ndownload-limit is 5MiB/s, was 0\n",
			kept: map[string]string{"upload-limit": "20MiB", "download-limit": "5MiB/s"}, up: 20 << 20, down: 5 << 20},
		{name: "no limit", args: []string{"upload-limit=0"}, out: "upload-limit is 0, was 1MiB/s", kept: map[string]string{"upload-limit": "0"}},
		{name: "transfers", args: []string{"upload-files=2", "upload-parts=3", "part-size=8MiB"}, out: "part-size is 8MiB, was 16MiB",
			kept: map[string]string{"upload-files": "2", "upload-parts": "3", "part-size": "8MiB"}, up: 1 << 20, transfers: cache.Transfers{UploadFiles: 2, UploadParts: 3, PartSize: 8 << 20}},
		{name: "the trash", args: []string{"trash-retention=720h"}, out: "trash-retention is 720h, was 168h\n", kept: map[string]string{"trash-retention": "720h"}, up: 1 << 20, retention: 720 * time.Hour},
		{name: "all or none", args: []string{"upload-limit=5MiB", "part-size=1KiB"}, code: 1, err: "5MiB to 5GiB; nothing was changed", up: 1 << 20},
		{name: "an S3 setting that nobody knows", args: []string{"s3.colour=x"}, code: 2, err: `"s3.colour" is no setting`, up: 1 << 20},
		{name: "another setting", args: []string{"cache-size=1GiB"}, code: 2, err: "cache-size cannot be changed while running", up: 1 << 20},
		{name: "a slip", args: []string{"uplaod-limit=1"}, code: 2, err: "did you mean upload-limit?", up: 1 << 20},
		{name: "no setting", args: []string{"colour=1"}, code: 2, err: "those that can be changed while running are s3.bucket", up: 1 << 20},
		{name: "no value", args: []string{"upload-limit=fast"}, code: 2, err: "is no size", up: 1 << 20},
		{name: "twice", args: []string{"s3.bucket=aaa", "bucket=bbb"}, code: 2, err: "set twice", up: 1 << 20},
		{name: "nothing", code: 2, err: "at least one setting", up: 1 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			d := startTuned(t, dir)
			code := d.command(t, append([]string{"config", "set"}, tt.args...)...)
			if code != tt.code || !strings.Contains(d.out.String(), tt.out) || !strings.Contains(d.err.String(), tt.err) || (tt.err == "") != (d.err.Len() == 0) {
				t.Errorf("exit %d, want %d:\n%s%s", code, tt.code, d.out, d.err)
			}
			if got := saved(t, dir); !maps.Equal(got, tt.kept) {
				t.Errorf("kept %v, want %v", got, tt.kept)
			}
			if d.store.up != tt.up || d.store.down != tt.down {
				t.Errorf("the store's limits are %d and %d, want %d and %d", d.store.up, d.store.down, tt.up, tt.down)
			}
			want := tt.transfers
			if want == (cache.Transfers{}) {
				want = cache.Transfers{UploadFiles: 4, UploadParts: 6, PartSize: 16 << 20}
			}
			if d.heart.transfers != want {
				t.Errorf("transfers are %+v, want %+v", d.heart.transfers, want)
			}
			if d.heart.tried > 0 {
				t.Error("the store was tried out for settings that are not its own")
			}
			if want := cmp.Or(tt.retention, 168*time.Hour); d.heart.retention != want {
				t.Errorf("the trash keeps for %v, want %v", d.heart.retention, want)
			}
		})
	}
}

// Settings of the store are tried out; then they count, are kept, and show in config show,
// and a secret shows nowhere.
func TestConfigSetOfTheStore(t *testing.T) {
	dir := t.TempDir()
	d := startTuned(t, dir)
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("hush-hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.in = strings.NewReader("AKIANEW\ntoken-token\n")
	if code := d.command(t, "config", "set", "s3.access-key=-", "s3.secret-key=@"+file, "s3.session-token=-", "s3.use-https=true",
		"s3.connect-timeout=5s", "s3.max-error-retry=7", "s3.region=eu-9", "upload-limit=2MiB"); code != 0 {
		t.Fatalf("exit %d: %s", code, d.err)
	}
	said := d.out.String() + d.err.String()
	now := d.tuning.config()
	if now.AccessKey != "AKIANEW" || now.SecretKey != "hush-hush" || now.SessionToken != "token-token" || now.Endpoint != "https://old:9000" ||
		now.MaxErrorRetry != 7 || now.Region != "eu-9" || !now.PathStyle {
		t.Errorf("in force is endpoint %s, retries %d, region %s", now.Endpoint, now.MaxErrorRetry, now.Region)
	}
	if d.heart.tried != 1 || d.heart.info.Endpoint != "https://old:9000" || !d.store.closed {
		t.Errorf("tried %d times, shown as %+v, the former store is closed: %v", d.heart.tried, d.heart.info, d.store.closed)
	}
	if up := d.tuning.store.(*fakeLimited).up; up != 2<<20 {
		t.Errorf("the new store's limit is %d", up)
	}
	d.command(t, "config", "show")
	said += d.out.String() + d.log.String()
	d.command(t, "config", "show", "--json")
	said += d.out.String()
	if !strings.Contains(said, "s3.secret-key is ***, was not set") || !strings.Contains(said, "config set; was http://old:9000") && !strings.Contains(said, "config set; was false") {
		t.Errorf("it says:\n%s", said)
	}
	for _, secret := range []string{"AKIANEW", "hush-hush", "token-token"} {
		if strings.Contains(said, secret) {
			t.Errorf("%s is shown:\n%s", secret, said)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, settingsName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of the secrets: %v %v", info, err)
	}
	again := startTuned(t, dir)
	if got := again.tuning.config(); got.SecretKey != "hush-hush" || got.Endpoint != "https://old:9000" || got.UploadLimit != 2<<20 {
		t.Errorf("after a restart: endpoint %s, limit %d", got.Endpoint, got.UploadLimit)
	}
	// New keys without a token have none.
	again.in = strings.NewReader("a\nb\n")
	if code := again.command(t, "config", "set", "s3.access-key=-", "s3.secret-key=-"); code != 0 {
		t.Fatalf("exit %d: %s", code, again.err)
	}
	if got := again.tuning.config(); got.SessionToken != "" || got.AccessKey != "a" {
		t.Errorf("the token of the former keys is in force: %v", got.SessionToken != "")
	}
	if code := again.command(t, "config", "set", "s3.access-key=", "s3.secret-key=", "s3.use-https="); code != 0 {
		t.Fatalf("exit %d: %s", code, again.err)
	}
	if got := again.tuning.config(); got.AccessKey != "" || got.Endpoint != "http://old:9000" {
		t.Errorf("given up: endpoint %s", got.Endpoint)
	}
}

// What the store refuses, or what cannot be right, changes nothing.
func TestConfigSetOfTheStoreRollsBack(t *testing.T) {
	denied := storetest.NewFaulty(storetest.NewMem())
	denied.Inject(storetest.Fail(storetest.List, cache.ErrDenied))
	down := downForTests()
	for _, tt := range []struct {
		name    string
		args    []string
		in      string
		asked   cache.Store
		refuses error
		off     bool
		code    int
		err     string
		tried   int
		kept    int
	}{
		{name: "keys are refused", args: []string{"s3.access-key=a", "s3.secret-key=-"}, in: "b\n", asked: denied, code: 1, err: "refused access; nothing was changed"},
		{name: "down", args: []string{"s3.endpoint=new:1"}, asked: down, code: 1, err: "say depotfs disable first; nothing was changed"},
		{name: "another depot", args: []string{"s3.bucket=other"}, refuses: errors.New("another depot"), code: 1, err: "another depot; nothing was changed", tried: 1},
		{name: "half a key", args: []string{"s3.access-key=a"}, code: 1, err: "go together: set both or neither; nothing was changed"},
		{name: "a scheme that does not count", args: []string{"s3.endpoint=http://h", "s3.use-https=true"}, code: 1, err: "set s3.endpoint too"},
		{name: "a password in the endpoint", args: []string{"s3.endpoint=https://u:hush@h"}, code: 1, err: "without user and password"},
		{name: "a key of two words", args: []string{"s3.access-key=a b", "s3.secret-key=-"}, in: "b\n", code: 1, err: "access key: has spaces"},
		{name: "no line for it", args: []string{"s3.secret-key=-"}, code: 2, err: "standard input has no line"},
		{name: "no such file", args: []string{"s3.secret-key=@/nowhere/key"}, code: 2, err: "no such file"},
		{name: "while it is off", args: []string{"s3.bucket=other"}, off: true, asked: down, kept: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			d := startTuned(t, dir)
			d.heart.refuses, d.heart.off = tt.refuses, tt.off
			if tt.asked != nil {
				d.asked = tt.asked
			}
			d.in = strings.NewReader(tt.in)
			code := d.command(t, append([]string{"config", "set"}, tt.args...)...)
			if code != tt.code || !strings.Contains(d.err.String(), tt.err) {
				t.Errorf("exit %d, want %d:\n%s%s", code, tt.code, d.out, d.err)
			}
			if strings.Contains(d.err.String(), "hush") {
				t.Errorf("it repeats a password:\n%s", d.err)
			}
			if got := saved(t, dir); len(got) != tt.kept || d.heart.tried != tt.tried || d.store.closed {
				t.Errorf("kept %v, tried %d times, the store in force is closed: %v", got, d.heart.tried, d.store.closed)
			}
			if now := d.tuning.config(); tt.kept == 0 && !sameStore(now, d.tuning.base) {
				t.Errorf("in force is bucket %s at %s", now.Bucket, now.Endpoint)
			}
			if tt.off && !strings.Contains(d.out.String(), "depotfs enable") {
				t.Errorf("it says:\n%s", d.out)
			}
		})
	}
}

func downForTests() cache.Store {
	s := storetest.NewFaulty(storetest.NewMem())
	s.SetDown(true)
	return s
}

// A key in the command itself works, with a warning.
func TestSecretOnTheCommandLine(t *testing.T) {
	d := startTuned(t, t.TempDir())
	if code := d.command(t, "config", "set", "s3.access-key=AK", "s3.secret-key=hush"); code != 0 {
		t.Fatalf("exit %d: %s", code, d.err)
	}
	if !strings.Contains(d.err.String(), "next time say s3.secret-key=-") || strings.Contains(d.err.String(), "s3.access-key") {
		t.Errorf("it warns:\n%s", d.err)
	}
}

// What versions before the settings file have set is taken up, goes before the mount's
// options, says so, can be given up, and moves to the file at the next change.
func TestConfigSetOfFormerVersions(t *testing.T) {
	dir := t.TempDir()
	heart := &fakeTuned{kept: map[string]string{"config.upload-limit": "3MiB", "config.part-size": "1KiB"}}
	d := startDaemon(t, &fakeHeart{}, t.TempDir())
	tune := d.api.tuning
	tune.dir = dir
	if err := tune.start(heart); err != nil {
		t.Fatal(err)
	}
	store := &fakeLimited{Mem: storetest.NewMem()}
	tune.opened(store)
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
	if code := d.command(t, "config", "set", "download-limit=1MiB"); code != 0 {
		t.Fatalf("exit %d: %s", code, d.err)
	}
	if got := saved(t, dir); got["upload-limit"] != "3MiB" || len(heart.kept) > 0 {
		t.Errorf("the file has %v, the catalog %v", got, heart.kept)
	}
	if code := d.command(t, "config", "set", "upload-limit="); code != 0 {
		t.Fatalf("exit %d: %s", code, d.err)
	}
	if s := shown(); s.Text != "1MiB/s" || s.Source != "flag --upload-limit" || store.up != 1<<20 || saved(t, dir)["upload-limit"] != "" {
		t.Errorf("after it was given up: shown as %+v, limit %d", s, store.up)
	}
}
