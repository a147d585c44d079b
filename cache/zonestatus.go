package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"depotfs/cache/journal"
)

// ZoneStatus is what `depotfs zones` shows of one zone.
type ZoneStatus struct {
	Zone        string    `json:"zone"`
	State       string    `json:"state"` // this, alive, silent, ended, removed, unreadable
	Error       string    `json:"error,omitempty"`
	Host        string    `json:"host,omitempty"`
	Version     string    `json:"version,omitempty"`
	Region      string    `json:"region,omitempty"`
	Started     time.Time `json:"started"`
	Seen        time.Time `json:"seen"` // when it said last that it is alive, by the store's clock
	SeenSeconds float64   `json:"seen_seconds"`
	LastBatch   uint64    `json:"last_batch"` // of its journal
	Behind      ZoneLag   `json:"behind"`     // what it has told and this zone has not applied
	Waiting     ZoneLag   `json:"waiting"`    // what this zone has told and it has not applied
}

// ZoneLag is how far one zone is behind another.
type ZoneLag struct {
	Batches int64   `json:"batches"`
	Records int64   `json:"records"` // -1: so many batches that they were not counted
	Seconds float64 `json:"seconds"` // since the first of these was told

	last uint64 // number of the last batch that there is; 0: none was listed
}

// ZonesStatus is what is known of all other zones without asking.
type ZonesStatus struct {
	Alive       int     `json:"alive"`        // others that are mounted
	Silent      int     `json:"silent"`       // others that have not said so for longer than 3 minutes
	Ended       int     `json:"ended"`        // others that were unmounted
	Behind      int64   `json:"behind"`       // batches that others have told and this zone has not applied
	Waiting     int64   `json:"waiting"`      // batches that this zone has told and the furthest behind has not applied
	BeatSeconds float64 `json:"beat_seconds"` // since this zone has said that it is alive; 0: never
	Warning     string  `json:"warning,omitempty"`
}

// Words for the states of zones.
const (
	zoneThis       = "this"
	zoneAlive      = "alive"
	zoneSilent     = "silent"
	zoneUnreadable = "unreadable"
)

// word says how a zone is at a time of the store's.
func (e *zoneEntry) word(now time.Time) string {
	switch {
	case e.file.err != nil:
		return zoneUnreadable
	case e.State != zoneRunning:
		return e.State
	case e.alive(now):
		return zoneAlive
	}
	return zoneSilent
}

// zonesStatus sums up the table.
func (c *Cache) zonesStatus() ZonesStatus {
	var s ZonesStatus
	now := c.zoneTime(time.Time{})
	last, cursors := c.numbers()
	for _, e := range c.otherZones() {
		switch e.word(now) {
		case zoneAlive:
			s.Alive++
		case zoneSilent:
			s.Silent++
		case zoneEnded:
			s.Ended++
		}
		s.Behind += lagOf(e.Last, cursors[e.Name])
		if e.State != zoneRemoved && e.file.etag != "" {
			s.Waiting = max(s.Waiting, lagOf(last, e.file.file.Cursors[c.zoneName()]))
		}
	}
	c.zones.mu.Lock()
	s.Warning = c.zones.warning
	c.zones.mu.Unlock()
	if d := c.depot.Load(); d != nil {
		d.mu.Lock()
		if !d.lease.beat.IsZero() {
			s.BeatSeconds = time.Since(d.lease.beat).Seconds()
		}
		d.mu.Unlock()
	}
	return s
}

// lagOf is how many batches a cursor is behind; it may be ahead of what is known.
func lagOf(last, cursor uint64) int64 {
	if cursor >= last {
		return 0
	}
	return int64(min(last-cursor, 1<<62))
}

// Zones asks the depot for all zones, this one first.
func (c *Cache) Zones(ctx context.Context) ([]ZoneStatus, error) {
	ctx, d, done, err := c.onDepot(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := c.lookAtZones(ctx, d, maxZones, false); err != nil {
		return nil, err
	}
	now := c.zoneTime(time.Time{})
	last, cursors := c.numbers()
	me := c.myZone(zoneRunning)
	d.mu.Lock()
	beat := d.lease.beat
	d.mu.Unlock()
	seen := now.Add(-time.Since(beat))
	all := []ZoneStatus{{Zone: me.Zone, State: zoneThis, Host: me.Host, Version: me.Version, Region: me.Region, Started: me.Started,
		Seen: seen.UTC(), SeenSeconds: now.Sub(seen).Seconds(), LastBatch: last}}
	for _, e := range c.otherZones() {
		f := e.file.file
		s := ZoneStatus{Zone: e.Name, State: e.word(now), Host: f.Host, Version: f.Version, Region: f.Region, Started: f.Started,
			Seen: e.Seen.UTC(), SeenSeconds: max(0, now.Sub(e.Seen).Seconds())}
		if e.file.err != nil {
			s.Error = e.file.err.Error()
		}
		if s.Behind, err = c.behind(ctx, d, e.Name, cursors[e.Name]); err != nil {
			return nil, err
		}
		s.LastBatch = max(e.Last, s.Behind.last)
		if heard := f.Cursors[me.Zone]; s.State != zoneRemoved && s.State != zoneUnreadable && heard < last {
			if s.Waiting, err = c.behind(ctx, d, me.Zone, heard); err != nil {
				return nil, err
			}
		}
		all = append(all, s)
	}
	slices.SortStableFunc(all[1:], func(a, b ZoneStatus) int { return cmp.Compare(a.Zone, b.Zone) })
	return all, nil
}

// maxCounted is of how many batches the records are counted, by reading their headers.
const maxCounted = 32

// behind lists what is in a zone's journal behind a batch.
func (c *Cache) behind(ctx context.Context, d *depot, zone string, after uint64) (ZoneLag, error) {
	q := ListQuery{Prefix: journal.Prefix(c.cfg.Prefix, zone)}
	if after > 0 {
		q.StartAfter = journal.Key(c.cfg.Prefix, zone, after)
	}
	var lag ZoneLag
	var first []ObjectInfo
	err := d.store.List(ctx, q, func(p ListPage) error {
		for _, o := range p.Objects {
			if _, seq, ok := journal.ParseKey(c.cfg.Prefix, o.Key); ok && seq > after {
				lag.Batches++
				lag.last = seq
				if len(first) < maxCounted {
					first = append(first, o)
				}
			}
		}
		return nil
	})
	if err != nil {
		return lag, fmt.Errorf("list the journal of zone %s: %w", zone, err)
	}
	if len(first) > 0 && !first[0].Modified.IsZero() {
		lag.Seconds = max(0, c.zoneTime(first[0].Date).Sub(first[0].Modified).Seconds())
	}
	if lag.Batches > int64(len(first)) {
		lag.Records = -1
		return lag, nil
	}
	for _, o := range first {
		n, err := recordsOf(ctx, d.store, o)
		if err != nil {
			return lag, err
		}
		lag.Records += n
	}
	return lag, nil
}

// recordsOf is how many records a batch has; one that cannot be read counts as one.
func recordsOf(ctx context.Context, s Store, o ObjectInfo) (int64, error) {
	body, _, err := s.Get(ctx, o.Key, 0, journal.HeaderSize, o.ETag)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrChanged) { // trimmed meanwhile
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", o.Key, err)
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", o.Key, err)
	}
	_, n, err := journal.DecodeHeader(b)
	if err != nil {
		return 1, nil
	}
	return int64(n), nil
}
