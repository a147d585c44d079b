package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"depotfs/cache/journal"
)

// maxZones bounds how many registrations are read; people name zones by hand.
const maxZones = 1000

// zoneTable is what is known of the zones of the depot.
type zoneTable struct {
	run  string        // names this daemon's life
	wake chan struct{} // the depot was joined

	mu      sync.Mutex // guards below; a leaf
	others  map[string]zoneEntry
	warning string // of the region guard
}

// zoneEntry is another zone as its registration was read last.
type zoneEntry struct {
	Name   string
	Last   uint64    // number of its last batch
	Seen   time.Time // when its registration was written, by the store's clock
	State  string    // "" = its registration cannot be understood
	listed string    // entity tag in the last listing
	read   time.Time // when the file was read, by ours
	file   registration
}

func (z *zoneTable) init() {
	z.run, z.wake = newRun(), make(chan struct{}, 1)
	z.others = map[string]zoneEntry{}
}

// wakeUp has zoneLoop look: a depot was joined.
func (z *zoneTable) wakeUp() {
	select {
	case z.wake <- struct{}{}:
	default:
	}
}

// warn notes what the region guard has to say.
func (z *zoneTable) warn(warning string, log *slog.Logger) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.warning = warning; warning != "" {
		log.Warn(warning)
	}
}

// otherZones are the other zones that the depot knew when it was last asked, by name.
func (c *Cache) otherZones() []zoneEntry {
	c.zones.mu.Lock()
	defer c.zones.mu.Unlock()
	return slices.SortedFunc(maps.Values(c.zones.others), func(a, b zoneEntry) int { return cmp.Compare(a.Name, b.Name) })
}

// knowsZone says whether the depot has another zone of that name, as far as was seen.
func (c *Cache) knowsZone(name string) bool {
	c.zones.mu.Lock()
	defer c.zones.mu.Unlock()
	_, ok := c.zones.others[name]
	return ok
}

// alive says whether the zone has its name still at a time of the store's.
func (e *zoneEntry) alive(now time.Time) bool {
	return e.State == zoneRunning && now.Before(e.Seen.Add(zoneLease))
}

// zoneLoop keeps this zone's name, and looks which others there are.
func (c *Cache) zoneLoop(ctx context.Context) error {
	for {
		if d := c.depot.Load(); d != nil && d.joined() {
			c.tendZones(ctx, d)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.zones.wake:
		}
	}
}

// tendZones does that until ctx ends, d is switched off, or the name is lost. It says then
// that this zone has ended.
func (c *Cache) tendZones(ctx context.Context, d *depot) {
	work, done := d.use(ctx)
	defer done()
	most := maxZones // nothing is known at first
	for work.Err() == nil {
		err := c.lookAtZones(work, d, most, true)
		wait := zoneBeat
		switch {
		case work.Err() != nil || d.lost() != nil:
		case err != nil:
			wait = zoneRetry
			c.log.Warn("tell the depot that this zone is alive", "err", err)
			c.problems.add("zones", zoneKey("", c.zoneName()), "the depot cannot be told that this zone is alive: "+err.Error(), c.now())
		default:
			most = 1
			c.problems.clear("zones", zoneKey("", c.zoneName()))
		}
		if d.lost() != nil {
			<-work.Done()
			return
		}
		t := time.NewTimer(wait)
		select {
		case <-work.Done():
		case <-t.C:
		case <-d.beatNow:
		}
		t.Stop()
		if err != nil {
			_ = d.untilProbe(work) // a store that is down is asked by others
		}
	}
	c.sayEnded(ctx, d)
}

// sayEnded gives the name back: whoever takes it need not wait for the lease's end. That is
// a courtesy, so nobody waits long for it.
func (c *Cache) sayEnded(ctx context.Context, d *depot) {
	d.mu.Lock()
	leave := d.lease.lost == nil && !d.broken && !d.lapsedLocked()
	d.mu.Unlock()
	if !leave {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), zoneFarewell)
	defer cancel()
	caps := d.capabilities()
	if !caps.ConditionalPut {
		r, _, err := readZone(ctx, d.store, c.cfg.Prefix, c.zoneName())
		if err != nil || r.etag != d.ownTag() {
			return
		}
	}
	if _, err := writeZone(ctx, d.store, caps, c.cfg.Prefix, c.myZone(zoneEnded), d.ownTag()); err != nil && !errors.Is(err, ErrChanged) {
		c.log.Warn("tell the depot that this zone has ended", "err", err)
	}
}

// lookAtZones lists the zones, reads the registrations of at most so many that have
// changed, the longest unread first, and with beat says that this one is alive.
func (c *Cache) lookAtZones(ctx context.Context, d *depot, most int, beat bool) error {
	own, err := c.listZones(ctx, d)
	if err != nil {
		return err
	}
	if beat {
		if err := c.beat(ctx, d, own); err != nil {
			return err
		}
	}
	changed := slices.DeleteFunc(c.otherZones(), func(e zoneEntry) bool { return e.listed == e.file.etag })
	slices.SortStableFunc(changed, func(a, b zoneEntry) int { return a.read.Compare(b.read) })
	for _, e := range changed[:min(most, len(changed))] {
		if err := c.readOther(ctx, d, e); err != nil {
			return err
		}
	}
	if beat {
		c.forgetRemoved(ctx, d)
	}
	return nil
}

// listZones makes the table anew from a listing; own is the entity tag of this zone's
// registration.
func (c *Cache) listZones(ctx context.Context, d *depot) (own string, err error) {
	found := map[string]ObjectInfo{}
	err = d.store.List(ctx, ListQuery{Prefix: zonesPrefix(c.cfg.Prefix)}, func(p ListPage) error {
		for _, o := range p.Objects {
			zone, ok := zoneOfKey(c.cfg.Prefix, o.Key)
			switch {
			case !ok:
				c.log.Debug("no registration of a zone", "key", o.Key)
			case zone == c.zoneName():
				own = o.ETag
			case len(found) < maxZones:
				found[zone] = o
			}
		}
		return nil
	})
	d.report(err)
	if err != nil {
		return "", fmt.Errorf("list the zones: %w", err)
	}
	z := &c.zones
	z.mu.Lock()
	defer z.mu.Unlock()
	for zone := range z.others {
		if _, ok := found[zone]; !ok {
			delete(z.others, zone)
		}
	}
	for zone, o := range found {
		e := z.others[zone]
		e.Name, e.listed = zone, o.ETag
		if o.Modified.After(e.Seen) {
			e.Seen = o.Modified
		}
		if e.file.etag == "" {
			e.State = zoneRunning // until it is read
		}
		z.others[zone] = e
	}
	return own, nil
}

// readOther reads another zone's registration.
func (c *Cache) readOther(ctx context.Context, d *depot, e zoneEntry) error {
	r, _, err := readZone(ctx, d.store, c.cfg.Prefix, e.Name)
	d.report(err)
	if err != nil {
		return err
	}
	problem := zoneKey("", e.Name)
	if r.err != nil {
		c.problems.add("zones", problem, fmt.Sprintf("the registration of zone %s cannot be read: %v", e.Name, r.err), c.now())
	} else {
		c.problems.clear("zones", problem)
	}
	c.zones.mu.Lock()
	defer c.zones.mu.Unlock()
	if r.etag == "" { // it went between the listing and now
		delete(c.zones.others, e.Name)
		return nil
	}
	e.file, e.read = r, time.Now()
	e.Last, e.State, e.listed = r.file.Last, r.file.State, r.etag
	if r.seen.After(e.Seen) {
		e.Seen = r.seen
	}
	c.zones.others[e.Name] = e
	return nil
}

// RemoveZone takes a zone off the list: nobody waits for it any more. What it has told
// still counts, and none of its files is touched. A zone that is alive is not removed.
func (c *Cache) RemoveZone(ctx context.Context, zone string) error {
	if !journal.ValidZone(zone) {
		return fmt.Errorf("%q is no name of a zone", zone)
	}
	if zone == c.zoneName() {
		return fmt.Errorf("zone %s is this mount's: remove it from another zone after it was unmounted for good", zone)
	}
	ctx, d, done, err := c.onDepot(ctx)
	if err != nil {
		return err
	}
	defer done()
	for try := 0; ; try++ {
		r, now, err := readZone(ctx, d.store, c.cfg.Prefix, zone)
		if err != nil {
			return err
		}
		now = c.zoneTime(now)
		free := r.seen.Add(zoneLease)
		switch {
		case r.etag == "":
			return fmt.Errorf("the depot knows no zone %s: depotfs zones lists those that it knows", zone)
		case errors.Is(r.err, errZoneNewer):
			return fmt.Errorf("the registration of zone %s: %w: remove it with that version or newer", zone, r.err)
		case r.file.State == zoneRemoved:
			return fmt.Errorf("zone %s is removed already; it is listed until all others have read what it told", zone)
		case r.file.State != zoneEnded && now.Before(free):
			return fmt.Errorf("zone %s is alive: it was heard of %v ago, on host %s. Unmount it first; if that machine is gone, its lease ends at %s",
				zone, max(0, now.Sub(r.seen)).Round(time.Second), r.file.Host, free.Local().Format(time.DateTime))
		}
		f := r.file
		f.Zone, f.State, f.Cursors = zone, zoneRemoved, nil // those of a damaged one are empty
		if f.Instance == "" {
			f.Instance = "unknown"
		}
		if f.Last, err = c.lastBatchOf(ctx, d, zone, f.Last); err != nil {
			return err
		}
		_, err = writeZone(ctx, d.store, d.capabilities(), c.cfg.Prefix, f, r.etag)
		if errors.Is(err, ErrChanged) && try < zoneTries {
			continue // it is back, or somebody else removes it
		}
		if err != nil {
			return err
		}
		c.log.Info("zone removed", "zone", zone, "host", f.Host, "seen", r.seen)
		if err := c.lookAtZones(ctx, d, maxZones, false); err != nil {
			return err
		}
		c.forgetRemoved(ctx, d)
		return nil
	}
}

// lastBatchOf is the number of the last batch in a zone's journal, which has at least
// those up to a number that is known.
func (c *Cache) lastBatchOf(ctx context.Context, d *depot, zone string, known uint64) (uint64, error) {
	lag, err := c.behind(ctx, d, zone, known)
	return max(known, lag.last), err
}

// forgetRemoved deletes the registrations of removed zones whose journals all others have
// read to the end.
func (c *Cache) forgetRemoved(ctx context.Context, d *depot) {
	others := c.otherZones()
	_, mine := c.numbers()
	for _, gone := range others {
		if gone.State != zoneRemoved || gone.listed != gone.file.etag || mine[gone.Name] < gone.Last {
			continue
		}
		if slices.ContainsFunc(others, func(e zoneEntry) bool {
			return e.State != zoneRemoved && e.file.file.Cursors[gone.Name] < gone.Last
		}) {
			continue
		}
		ifMatch := ""
		if d.capabilities().ConditionalDelete {
			ifMatch = gone.file.etag
		}
		if err := d.store.Delete(ctx, zoneKey(c.cfg.Prefix, gone.Name), ifMatch); err != nil {
			c.log.Warn("forget a removed zone", "zone", gone.Name, "err", err)
			continue
		}
		c.log.Info("all zones have read what a removed one told: it is forgotten", "zone", gone.Name)
		c.zones.mu.Lock()
		delete(c.zones.others, gone.Name)
		c.zones.mu.Unlock()
	}
}

// onDepot is for commands that ask the depot something: it must be there now.
func (c *Cache) onDepot(ctx context.Context) (context.Context, *depot, func(), error) {
	d := c.depot.Load()
	if d == nil {
		return ctx, nil, nil, ErrOff
	}
	if !d.joined() || d.lost() != nil {
		return ctx, nil, nil, d.whyNot()
	}
	ctx, done := d.use(ctx)
	return ctx, d, done, nil
}

// whyNot is why a depot is not joined.
func (d *depot) whyNot() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return d.err
	}
	return fmt.Errorf("the depot was not reached yet: %w", ErrUnavailable)
}
