package main

import (
	"strings"
	"testing"
	"time"

	"depotfs/cache"
)

func TestStatusPicture(t *testing.T) {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	st := cache.Status{
		Zone: "ber1", Deploy: cache.Gateway, Mountpoint: "/mnt/secondary", CacheDir: "/export", Passthrough: true, Since: now.Add(-3 * time.Hour),
		Store: cache.StoreStatus{
			State: "unavailable", Error: "connection refused", Bucket: "depot", Prefix: "cs/", Endpoint: "http://store:9000",
			StoreUsage: cache.StoreUsage{BytesSent: 3 << 20, Requests: map[string]int64{"get": 1000, "put": 1}, Retries: 1},
		},
		Pending:  cache.PendingStatus{Files: 1, Bytes: 1 << 30, Removals: 2, OldestSeconds: 75, Uploading: []cache.Transfer{{Path: "a.qcow2", Done: 1 << 29, Total: 1 << 30}}},
		Adoption: cache.AdoptionStatus{State: "running", DirsDone: 1234, DirsLeft: 56, Files: 10_000, Bytes: 3 << 30, Same: 70, Conflicts: 1, Comparing: 8},
		Cache:    cache.CacheStatus{Files: 1200, Dirs: 1, Resident: 1100, Remote: 100, Bytes: 5 << 30, OldestCheckSeconds: 7200},
		Problems: []cache.Problem{
			{Path: "b\nc", Kind: "upload", Reason: "connection refused", Since: now.Add(-90 * time.Second), Attempts: 3},
		},
	}
	want := `depotfs  zone ber1 on /mnt/secondary  (gateway, kernel passthrough, up 3 h)

  share     /export
            what others do in it was looked for everywhere within 2 h
  store     UNAVAILABLE: depot/cs/ at http://store:9000
            connection refused
            sent 3.0 MiB, received 0 B, 1,001 requests, 1 retry
  pending   1 file to upload, 1.0 GiB, 2 removals, oldest waits for 1 min 15 s
  adoption  running: 10,000 files found (3.0 GiB) in 1,234 directories, 56 left
            70 in the depot already, 1 in conflict, 8 to be read and compared
  cache     1,200 files in 1 directory
            1,100 here (5.0 GiB), 100 in the depot only

  uploading
    ██████████░░░░░░░░░░  50 %  1.0 GiB  a.qcow2

  problems
    KIND           FOR  TRIES  PATH  REASON
    upload  1 min 30 s      3  b\nc  connection refused
`
	var got strings.Builder
	drawStatus(&got, st, now)
	if got.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", got.String(), want)
	}
}

// A store that cannot copy parts costs a whole upload for every change.
func TestStatusSaysThatChangesAreSentWhole(t *testing.T) {
	for _, can := range []bool{true, false} {
		var got strings.Builder
		drawStatus(&got, cache.Status{Store: cache.StoreStatus{State: "on", Bucket: "b", Capabilities: cache.Capabilities{CopyPart: can}}}, time.Now())
		if said := strings.Contains(got.String(), "changed files are sent whole"); said == can {
			t.Errorf("copies parts: %v, and status says\n%s", can, got.String())
		}
	}
}

// A share that is gone is the first thing to see.
func TestStatusShowsThatTheShareIsGone(t *testing.T) {
	var got strings.Builder
	drawStatus(&got, cache.Status{CacheDir: "/export", Problems: []cache.Problem{
		{Path: ".depotfs/depot.json", Kind: "share", Reason: "the share is not mounted"},
	}}, time.Now())
	if !strings.Contains(got.String(), "/export\n           GONE: the share is not mounted\n") {
		t.Errorf("got:\n%s", got.String())
	}
}

func TestPrintableShowsNoControlCharacters(t *testing.T) {
	for name, want := range map[string]string{
		"plain":          "plain",
		"größe 漢字":       "größe 漢字",
		"a\x1b[31mred":   `a\x1b[31mred`,
		"tab\tnl\n":      `tab\tnl\n`,
		"bad \xff utf-8": `bad \xff utf-8`,
		"bidi \u202e x":  `bidi \u202e x`,
	} {
		if got := printable(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}
