package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/settings"
)

// twoTuned are two zones of one depot.
func twoTuned(t *testing.T) (a, b *tunedDaemon) {
	t.Helper()
	a, b = startTuned(t, t.TempDir()), startTuned(t, t.TempDir())
	shared := &settings.Shared{}
	a.heart.shared, b.heart.shared = shared, shared
	return a, b
}

func TestAllZones(t *testing.T) {
	a, b := twoTuned(t)
	look := lookout{t: b.tuning}
	now := time.Now()
	set := func(d *tunedDaemon, args ...string) {
		t.Helper()
		if code := d.command(t, append([]string{"config", "set"}, args...)...); code != 0 {
			t.Fatalf("exit %d: %s", code, d.err)
		}
	}
	set(a, "--all-zones", "upload-limit=5MiB", "s3.max-error-retry=9")
	if !strings.Contains(a.out.String(), "announced to all zones") || a.tuning.config().UploadLimit != 5<<20 {
		t.Errorf("the zone itself:\n%s", a.out)
	}
	if look.once(t.Context(), now); b.tuning.config().UploadLimit != 5<<20 || b.tuning.config().MaxErrorRetry != 9 || b.heart.tried != 1 {
		t.Errorf("the other zone has %d and %d, tried %d times", b.tuning.config().UploadLimit, b.tuning.config().MaxErrorRetry, b.heart.tried)
	}
	var st cache.Status
	b.tuning.describe(&st)
	if st.Shared.Seq == 0 || st.Shared.Applied != st.Shared.Seq || st.Shared.Zone != "a" || st.Shared.Error != "" {
		t.Errorf("status: %+v", st.Shared)
	}

	// Its own word counts until the next announcement of that setting, over a restart too.
	set(b, "upload-limit=7MiB")
	look.once(t.Context(), now)
	again := startTuned(t, b.tuning.dir)
	again.heart.shared = b.heart.shared
	b, look = again, lookout{t: again.tuning}
	if look.once(t.Context(), now); b.tuning.config().UploadLimit != 7<<20 {
		t.Errorf("an announcement is taken up twice: %d", b.tuning.config().UploadLimit)
	}
	set(a, "--all-zones", "download-limit=1MiB")
	if look.once(t.Context(), now); b.tuning.config().UploadLimit != 7<<20 || b.tuning.config().DownloadLimit != 1<<20 {
		t.Errorf("after another announcement: %d, %d", b.tuning.config().UploadLimit, b.tuning.config().DownloadLimit)
	}
	set(a, "--all-zones", "upload-limit=")
	if look.once(t.Context(), now); b.tuning.config().UploadLimit != 1<<20 {
		t.Errorf("given up in all zones: %d", b.tuning.config().UploadLimit)
	}
	// The zone that announced has nothing left to take up.
	if (&lookout{t: a.tuning}).once(t.Context(), now); a.heart.tried != 1 {
		t.Errorf("tried %d times", a.heart.tried)
	}
}

// What does not work in this zone does not count here; status says why, and it is tried
// again ever more rarely.
func TestAllZonesRefused(t *testing.T) {
	a, b := twoTuned(t)
	if code := a.command(t, "config", "set", "--all-zones", "s3.endpoint=elsewhere:9", "upload-limit=5MiB"); code != 0 {
		t.Fatalf("exit %d: %s", code, a.err)
	}
	b.heart.refuses = errors.New("not from here")
	look, now := lookout{t: b.tuning}, time.Now()
	for range 100 {
		now = now.Add(sharedEvery)
		look.once(t.Context(), now)
	}
	if b.tuning.config().UploadLimit != 1<<20 || b.heart.tried < 4 || b.heart.tried > 9 {
		t.Errorf("the limit is %d, tried %d times in 100 minutes", b.tuning.config().UploadLimit, b.heart.tried)
	}
	var st cache.Status
	b.tuning.describe(&st)
	if !strings.Contains(st.Shared.Error, "not from here") || st.Shared.Applied != 0 {
		t.Errorf("status: %+v", st.Shared)
	}
	if line := sharedLine(st.Shared); !strings.Contains(line, "zone a") {
		t.Errorf("status says %q", line)
	}
	if n := strings.Count(b.log.String(), "not from here"); n != 1 {
		t.Errorf("the log says it %d times", n)
	}
	b.heart.refuses = nil
	if look.once(t.Context(), now.Add(sharedMost)); b.tuning.config().UploadLimit != 5<<20 || b.tuning.config().Endpoint != "http://elsewhere:9" {
		t.Errorf("when it works: %d at %s", b.tuning.config().UploadLimit, b.tuning.config().Endpoint)
	}

	// Whoever can write to the bucket cannot set what is a zone's own.
	for _, key := range []string{"s3.secret-key", "s3.bucket", "cache-dir", "no-such"} {
		*b.heart.shared = b.heart.shared.With("evil", now, map[string]string{key: "xyz", "download-limit": "3MiB"})
		look.once(t.Context(), now.Add(3*sharedMost))
		b.tuning.describe(&st)
		if b.tuning.config().DownloadLimit != 0 || !strings.Contains(st.Shared.Error, "not taken up") {
			t.Errorf("%s: %+v", key, st.Shared)
		}
	}
	b.heart.unheard = errors.New("damaged")
	look.once(t.Context(), now)
	if b.tuning.describe(&st); !strings.Contains(st.Shared.Error, "damaged") {
		t.Errorf("a damaged one: %+v", st.Shared)
	}
}

func TestAllZonesUsage(t *testing.T) {
	for _, tt := range []struct {
		word, err string
		off       bool
		unheard   error
		code      int
	}{
		{word: "s3.secret-key=x", err: "secrets never go through the depot", code: 2},
		{word: "s3.bucket=abc", err: "s3.bucket is set in each zone", code: 2},
		{word: "upload-limit=1", err: "the store is off", off: true, code: 1},
		{word: "upload-limit=1", err: "no line; nothing was changed", unheard: errors.New("no line"), code: 1},
	} {
		a, _ := twoTuned(t)
		a.heart.off, a.heart.unheard = tt.off, tt.unheard
		code := a.command(t, "config", "set", "--all-zones", tt.word)
		if code != tt.code || !strings.Contains(a.err.String(), tt.err) {
			t.Errorf("%s: exit %d, want %d:\n%s", tt.word, code, tt.code, a.err)
		}
		if a.tuning.config().UploadLimit != 1<<20 || len(saved(t, a.tuning.dir)) > 0 {
			t.Errorf("%s: something was changed", tt.word)
		}
	}
}
