package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// fakeSwitch is a heart whose store is on or off.
type fakeSwitch struct {
	on    bool
	since time.Time // not zero: it was disabled
	away  cache.Away
	fails error
}

func (h *fakeSwitch) Enable(context.Context, cache.Store, cache.StoreInfo, bool) (bool, error) {
	if h.fails != nil || h.on {
		return false, h.fails
	}
	h.on, h.since = true, time.Time{}
	return true, nil
}

func (h *fakeSwitch) Disable(context.Context) (bool, error) {
	was := h.on
	h.on, h.since = false, time.Now()
	return was, nil
}

func (h *fakeSwitch) Disabled() (time.Time, bool, error) { return h.since, !h.since.IsZero(), nil }
func (h *fakeSwitch) Away() cache.Away                   { return h.away }
func (h *fakeSwitch) Status(context.Context) (cache.Status, error) {
	return cache.Status{Pending: cache.PendingStatus{Files: 2, Bytes: 1 << 20}}, nil
}

func TestEnableAndDisableCommands(t *testing.T) {
	down := storetest.NewFaulty(storetest.NewMem())
	down.SetDown(true)
	up := storetest.NewMem()
	remote := cache.Away{Remote: 3, Bytes: 5 << 30, Listed: true}
	for _, test := range []struct {
		name   string
		heart  fakeSwitch
		bucket string
		asker  cache.Store
		args   []string
		code   int
		out    string // part of what is said
		err    string
		on     bool // afterwards
	}{
		{name: "enable", bucket: "b", asker: up, args: []string{"enable"}, out: "the store is on: bucket b at http://s; pending: 2 files", on: true},
		{name: "enable what is on", heart: fakeSwitch{on: true}, bucket: "b", asker: up, args: []string{"enable"}, out: "on already", on: true},
		{name: "enable without a bucket", args: []string{"enable"}, code: 1, err: "config set s3.bucket=NAME"},
		{name: "enable a store that is down", bucket: "b", asker: down, args: []string{"enable"}, code: 1, err: "nothing was changed"},
		{name: "enable the wrong depot", heart: fakeSwitch{fails: errors.New("another depot")}, bucket: "b", asker: up, args: []string{"enable"}, code: 1, err: "another depot; nothing was changed"},
		{name: "disable", heart: fakeSwitch{on: true, away: cache.Away{Listed: true}}, bucket: "b", args: []string{"disable"}, out: "off until depotfs enable"},
		{name: "disable with files away", heart: fakeSwitch{on: true, away: remote}, bucket: "b", args: []string{"disable"}, code: 1, err: "3 files are not here", on: true},
		{name: "disable with files away, and yes", heart: fakeSwitch{on: true, away: remote}, bucket: "b", args: []string{"disable", "--yes"}, out: "3 files are not here"},
		{name: "disable before the depot is listed", heart: fakeSwitch{on: true}, bucket: "b", args: []string{"disable"}, code: 1, err: "not listed to its end", on: true},
		{name: "disable what is off", heart: fakeSwitch{since: time.Now()}, bucket: "b", args: []string{"disable"}, out: "off already, since"},
		{name: "disable without a bucket", args: []string{"disable"}, out: "off already"},
		{name: "two mount points", bucket: "b", args: []string{"disable", "a", "b"}, code: 2, err: "one mount point"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := startDaemon(t, &fakeHeart{}, t.TempDir())
			heart := test.heart
			tune := newTestTuning(t)
			tune.now.Bucket, tune.now.Endpoint = test.bucket, "http://s"
			tune.connect = func(Config, cache.Store) (store, asker cache.Store, err error) { return up, test.asker, nil }
			*d.api.store = storeSwitch{heart: &heart, tuning: tune}
			code := d.command(t, test.args...)
			if code != test.code || !strings.Contains(d.out.String(), test.out) || !strings.Contains(d.err.String(), test.err) || (test.err == "") != (d.err.Len() == 0) {
				t.Errorf("exit %d, want %d:\n%s%s", code, test.code, d.out, d.err)
			}
			if heart.on != test.on {
				t.Errorf("the store is on: %v, want %v", heart.on, test.on)
			}
		})
	}
	if got := fmt.Sprint(awayText(cache.Away{Partial: 1, Bytes: 10})); !strings.Contains(got, "there may be more") {
		t.Errorf("got %s", got)
	}
}
