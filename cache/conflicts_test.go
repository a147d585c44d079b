package cache_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"depotfs/cache"
)

const conflictRoot = "p/.depotfs/conflicts/"

func (e *env) conflictList() []cache.ConflictEntry {
	e.t.Helper()
	var all []cache.ConflictEntry
	if err := e.c.ConflictList(context.Background(), func(c cache.ConflictEntry) error { all = append(all, c); return nil }); err != nil {
		e.t.Fatalf("list conflicts: %v", err)
	}
	return all
}

func (e *env) conflictBytes(entry string) []byte {
	e.t.Helper()
	body, size, err := e.c.ConflictOpen(context.Background(), entry)
	if err != nil {
		e.t.Fatalf("open %s: %v", entry, err)
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil || int64(len(b)) != size {
		e.t.Fatalf("read %s: %d of %d bytes, %v", entry, len(b), size, err)
	}
	return b
}

// The loser is listed with the reason why it lost, and can be fetched and dropped by any
// zone, whoever won and whatever its path is.
func TestConflictsAreListed(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("a-directory-with-a-long-name/", 33)
	for name, tt := range map[string]struct {
		path   string
		theirs time.Duration // when theirs was finished
		ours   bool          // has the name
		why    string
	}{
		"theirs was earlier":       {"d/f", -time.Hour, true, "finished earlier"},
		"ours was earlier":         {"d/f", time.Hour, false, "finished earlier"},
		"a long path, ours loses":  {deep + "f", time.Hour, false, "finished earlier"},
		"a long path, theirs does": {deep + "f", -time.Hour, true, "finished earlier"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			theirs, ours := pattern(2, 2000), pattern(3, 3000)
			e.mkdirAll(filepath.Dir(tt.path))
			e.write(tt.path, pattern(1, 1000))
			e.flush()
			e.mem.SetClock(func() time.Time { return time.Now().Add(tt.theirs) })
			e.putAside("p/"+tt.path, theirs)
			e.mem.SetClock(time.Now)
			e.write(tt.path, ours)
			e.flush()
			winner, loser := theirs, ours
			if tt.ours {
				winner, loser = ours, theirs
			}
			e.mustRead(tt.path, winner)
			e.wantObject("p/"+tt.path, winner)
			all := e.conflictList()
			if len(all) != 1 || all[0].Path != tt.path || all[0].Zone != "z1" || all[0].Where != "depot" || all[0].Size != int64(len(loser)) ||
				!strings.Contains(all[0].Reason, tt.why) || time.Since(all[0].Kept) > time.Hour {
				t.Fatalf("conflicts are %+v", all)
			}
			if got := e.conflictBytes(all[0].Entry); !slices.Equal(got, loser) {
				t.Errorf("%d bytes, or other ones", len(got))
			}
			if st, err := e.c.Status(context.Background()); err != nil || st.Conflicts.Entries != 1 || st.Conflicts.Bytes != int64(len(loser)) {
				t.Errorf("status %+v, %v", st.Conflicts, err)
			}
			sum, left, err := e.c.ConflictDrop(context.Background(), []string{all[0].Entry, "z1/x/y"}, 0)
			if err != nil || sum.Entries != 1 || len(left) != 1 || left[0].Path != "z1/x/y" {
				t.Errorf("drop: %+v, %v, %v", sum, left, err)
			}
			if keys := e.mem.Keys(conflictRoot); len(keys) > 0 {
				t.Errorf("left %v", keys)
			}
			e.sweep(true)
			st, err := e.c.Status(context.Background())
			if err != nil || st.Conflicts.Entries != 0 {
				t.Errorf("status %+v, %v", st.Conflicts, err)
			}
		})
	}
}

// What could only be kept in the share is listed with the others.
func TestConflictsInTheShareAreListed(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	at := time.Now().Add(-time.Hour)
	for path, data := range map[string]string{"d/e/f": "the bytes", "d/g": ""} {
		full := filepath.Join(e.share, ".depotfs/conflicts", stamp(at), path)
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e.putAside(conflictRoot+"z2/"+stamp(time.Now())+"/h", pattern(1, 10)) // of an older version: no reason
	all := e.conflictList()
	if len(all) != 3 || all[0].Path != "h" || all[0].Zone != "z2" || all[1].Path != "d/e/f" || all[1].Where != "share" || all[1].Size != 9 || all[2].Path != "d/g" {
		t.Fatalf("conflicts are %+v", all)
	}
	if got := e.conflictBytes(all[1].Entry); string(got) != "the bytes" {
		t.Errorf("got %q", got)
	}
	for _, entry := range []string{"share:../../secret/x", "share:" + stamp(at) + "/../../lock", "share:x", "../depot.json/x", "share:" + stamp(at) + "/none"} {
		if _, _, err := e.c.ConflictOpen(context.Background(), entry); err == nil || !strings.Contains(err.Error(), "no such conflict") {
			t.Errorf("open %s: %v", entry, err)
		}
	}
	if sum, left, err := e.c.ConflictDrop(context.Background(), []string{all[1].Entry}, 0); err != nil || sum.Entries != 1 || sum.Bytes != 9 || len(left) > 0 {
		t.Errorf("drop: %+v, %v, %v", sum, left, err)
	}
	if sum, _, err := e.c.ConflictDrop(context.Background(), nil, 30*time.Minute); err != nil || sum.Entries != 1 {
		t.Errorf("drop by age: %+v, %v", sum, err)
	}
	if left, _ := os.ReadDir(filepath.Join(e.share, ".depotfs/conflicts")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	if all := e.conflictList(); len(all) != 1 || all[0].Path != "h" {
		t.Errorf("left %+v", all)
	}
}

// Conflicts go after 30 days, and the oldest when there are too many.
func TestConflictsExpire(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var kept []time.Time
	for i := range 40 {
		kept = append(kept, now.Add(-time.Duration(i)*day))
	}
	for _, tt := range []struct{ limit, stays, over int }{{100, 30, 0}, {30, 30, 0}, {10, 10, 20}, {0, 0, 30}} {
		stays, goes, over := cache.TooMany(slices.Clone(kept), now, tt.limit)
		if len(stays) != tt.stays || goes != 40-tt.stays || over != tt.over || len(stays) > 0 && !stays[len(stays)-1].Equal(now) {
			t.Errorf("limit %d: %d stay, %d go, %d were too many", tt.limit, len(stays), goes, over)
		}
	}
	e := newEnv(t)
	e.joined()
	for i := range 3 {
		e.mem.SetClock(func() time.Time { return now.Add(time.Duration(i) * 20 * day) })
		e.putAside(fmt.Sprintf("%sz%d/%s/f", conflictRoot, i, stamp(now)), pattern(1, 10))
	}
	old := filepath.Join(e.share, ".depotfs/conflicts", stamp(now))
	if err := os.MkdirAll(old+"/d", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(old+"/d/f", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(old, now, now.Add(-31*day)); err != nil {
		t.Fatal(err)
	}
	e.sweep(true)
	if keys := e.mem.Keys(conflictRoot); len(keys) != 2 || strings.Contains(keys[0], "/z0/") {
		t.Errorf("left %v", keys)
	}
	if _, err := os.Lstat(old); !os.IsNotExist(err) {
		t.Errorf("the file in the share stays: %v", err)
	}
}
