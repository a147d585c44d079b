package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"depotfs/cache"
)

// fakeDeletes has three held names, one hidden one, and remembers what it was asked.
type fakeDeletes struct {
	approved, discarded [][]string
}

func (f *fakeDeletes) EachHeldName(_ context.Context, path string, fn func(cache.HeldName) error) error {
	at := time.Now().Add(-time.Minute)
	for _, n := range []cache.HeldName{
		{Path: "template/tmpl/2/201", Kind: "held", Burst: 7, Type: "dir", Deleted: at},
		{Path: "template/tmpl/2/201/a\nb", Kind: "held", Burst: 7, Type: "file", Size: 2048, Deleted: at, Origin: "ber1", Note: "on its way"},
		{Path: "template/tmpl/2/202/x", Kind: "held", Burst: 9, Type: "file", Size: 1, Deleted: at},
		{Path: "volumes/x", Kind: "hidden", Type: "file", Deleted: at, Origin: "ber1"},
	} {
		if strings.HasPrefix(n.Path, path) {
			if err := fn(n); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *fakeDeletes) ApproveDeletes(_ context.Context, paths []string, _ func(cache.Progress)) ([]cache.NotDone, error) {
	f.approved = append(f.approved, paths)
	return nil, nil
}

func (f *fakeDeletes) DiscardDeletes(_ context.Context, paths []string, _ func(cache.Progress)) ([]cache.NotDone, error) {
	f.discarded = append(f.discarded, paths)
	return []cache.NotDone{{Path: "template/tmpl/2/202/x", Reason: "a new file has the name"}}, nil
}

func TestDeletesCommands(t *testing.T) {
	d := startDaemon(t, &fakeHeart{}, t.TempDir())
	fake := &fakeDeletes{}
	d.api.deletes.heart = fake
	if code := d.command(t, "deletes", "list"); code != 0 {
		t.Fatalf("list: exit %d: %s", code, d.err)
	}
	for _, want := range []string{"held: 2 deletes since", "held: 1 delete since", `template/tmpl/2/201/a\nb  on its way`, "ber1", "hidden here, and kept by the other zones: 1 name", "2.0 KiB"} {
		if !strings.Contains(d.out.String(), want) {
			t.Errorf("list does not say %q:\n%s", want, d.out)
		}
	}
	if code := d.command(t, "deletes", "list", "--json", d.mountpoint+"/template"); code != 0 {
		t.Fatalf("list --json: exit %d: %s", code, d.err)
	}
	var report struct {
		Held   []struct{ Path string }
		Hidden []struct{ Path string }
	}
	if err := json.Unmarshal([]byte(d.out.String()), &report); err != nil || len(report.Held) != 3 || len(report.Hidden) != 0 {
		t.Errorf("list --json: %v\n%s", err, d.out)
	}

	if code := d.command(t, "deletes", "approve"); code != 1 || !strings.Contains(d.err.String(), "3 names would be gone in every zone (2.0 KiB)") || len(fake.approved) > 0 {
		t.Errorf("approve without a word: exit %d, %q, asked %q", code, d.err, fake.approved)
	}
	if code := d.command(t, "deletes", "approve", "--yes", d.mountpoint+"/template/tmpl/2/201"); code != 0 || len(fake.approved) != 1 || !slices.Equal(fake.approved[0], []string{"template/tmpl/2/201"}) {
		t.Errorf("approve: exit %d, %q, asked %q", code, d.err, fake.approved)
	}
	if code := d.command(t, "deletes", "discard"); code != 1 || len(fake.discarded) != 1 || len(fake.discarded[0]) != 0 || !strings.Contains(d.err.String(), "deletes discard: "+d.mountpoint+"/template/tmpl/2/202/x: a new file has the name") {
		t.Errorf("discard: exit %d, %q, asked %q", code, d.err, fake.discarded)
	}
}

func TestBrakeOption(t *testing.T) {
	for text, want := range map[string]string{
		"off": "off", "OFF": "off", "3,10%,20,10m": "3,10%,20,10m", "4,20,1000,1h": "4,20%,1000,1h", " 1, 0%, 0, 1s": "1,0%,0,1s",
		"": "", "on": "", "3,10%,20": "", "0,10%,20,10m": "", "3,101%,20,10m": "", "3,10%,5000,10m": "", "3,x,20,10m": "", "3,10%,20,10": "", "3,10%,20,1ms": "",
	} {
		var b cache.Brake
		err := (brakeValue{&b}).set(text, "/")
		switch {
		case want == "" && err == nil:
			t.Errorf("%q was taken as %+v", text, b)
		case want != "" && (err != nil || (brakeValue{&b}).show() != want):
			t.Errorf("%q: got %q, %v; want %q", text, (brakeValue{&b}).show(), err, want)
		}
	}
}

func TestDeletesOption(t *testing.T) {
	for text, want := range map[string]string{
		"global": "global global", "origin": "origin origin", "template=origin": "origin ", "origin, snapshot=global": "origin global",
		"": "", "some": "", "template=some": "", "tempalte=origin": "", "=origin": "",
	} {
		rules, err := deleteRules(text)
		if (err != nil) != (want == "") {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if err == nil {
			if got := string(rules.Of("template/x").Deletes) + " " + string(rules.Of("snapshots/x").Deletes); got != want {
				t.Errorf("%q: got %q, want %q", text, got, want)
			}
		}
	}
}
