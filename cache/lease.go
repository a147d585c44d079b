package cache

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"strconv"
	"time"

	"depotfs/cache/catalog"
)

const (
	// zoneBeat is how often a zone says that it is alive (DESIGN 4).
	zoneBeat = time.Minute
	// zoneLease is how long after that its name is its own: three beats may be missed.
	zoneLease = 3 * zoneBeat
	// zoneLapse is when we count our own lease as over: early enough that what is begun
	// before it has ended when another may have the name.
	zoneLapse = zoneLease - zoneBeat/2
	// zoneRetry is after how long a beat that failed is tried again.
	zoneRetry = 10 * time.Second
	// zoneFarewell bounds how long the end of a mount waits for the store, which is heard out
	// for lingerTime more once it was asked.
	zoneFarewell = 2 * time.Second
	// zoneTries is how often a write that was overtaken is tried again at once.
	zoneTries = 4
)

// lease is what a zone knows of its own registration; guarded by depot.mu.
type lease struct {
	etag string    // of the last that was written
	beat time.Time // when the last write began
	lost error     // another one has the name: nothing is done any more, for good
}

// newRun names this daemon's life.
func newRun() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// instance names the state directory.
func (c *Cache) instance() string { return strconv.FormatUint(c.cat.Epoch(), 16) }

// taken says why a name cannot be had: its registration is another instance's, and alive.
func (r *registration) taken(zone, instance string, now time.Time) error {
	free := r.seen.Add(zoneLease)
	switch {
	case r.etag == "":
		return nil
	case errors.Is(r.err, errZoneNewer):
		return refusef("the registration of zone %q in the depot was written by a newer depotfs: use that version or newer (%v)", zone, r.err)
	case !now.Before(free):
		return nil
	case r.err != nil:
		return refusef("the registration of zone %q in the depot is damaged, and was written %v ago: it counts until %s",
			zone, now.Sub(r.seen).Round(time.Second), free.Local().Format(time.DateTime))
	case r.file.State != zoneRunning, r.file.Instance == instance:
		return nil
	}
	return refusef("the zone name %q is in use: a depotfs on host %s has it since %s, and was last heard of %v ago: "+
		"give this mount another name with --zone, or unmount that one; if it is gone for good, the name is free at %s",
		zone, r.file.Host, r.file.Started.Local().Format(time.DateTime), max(0, now.Sub(r.seen)).Round(time.Second), free.Local().Format(time.DateTime))
}

// zoneTime is the store's time: as it said in an answer, or else as far as it is known.
func (c *Cache) zoneTime(said time.Time) time.Time {
	if !said.IsZero() {
		return said
	}
	return time.Unix(0, c.storeNanos())
}

// mayRegister reads this zone's registration and says whether it can be replaced.
func (c *Cache) mayRegister(ctx context.Context, s Store) (registration, error) {
	r, now, err := readZone(ctx, s, c.cfg.Prefix, c.zoneName())
	if err != nil {
		return r, err
	}
	return r, r.taken(c.zoneName(), c.instance(), c.zoneTime(now))
}

// register takes the zone's name in the depot.
func (c *Cache) register(ctx context.Context, d *depot, caps Capabilities) error {
	for try := 0; ; try++ {
		old, err := c.mayRegister(ctx, d.store)
		if err != nil {
			return err
		}
		if old.etag != "" && old.err == nil && old.file.Instance != c.instance() {
			if err := c.followPredecessor(); err != nil {
				return err
			}
			c.log.Info("the zone's name was another state directory's", "zone", c.zoneName(), "host", old.file.Host, "state", old.file.State, "seen", old.seen)
		}
		began := time.Now()
		etag, err := writeZone(ctx, d.store, caps, c.cfg.Prefix, c.myZone(zoneRunning), old.etag)
		if errors.Is(err, ErrChanged) && try < zoneTries {
			continue
		}
		if err != nil {
			return err
		}
		d.mu.Lock()
		d.lease = lease{etag: etag, beat: began}
		d.mu.Unlock()
		return nil
	}
}

// myZone is this zone's registration as it is to be.
func (c *Cache) myZone(state string) zoneFile {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	f := zoneFile{Zone: c.zoneName(), State: state, Instance: c.instance(), Run: c.zones.run, Host: host, Version: c.cfg.Version, Region: c.cfg.DepotRegion,
		Started: c.since.Add(time.Duration(c.skew.Load())).UTC(), Heartbeat: time.Unix(0, c.storeNanos()).UTC().Truncate(time.Millisecond)}
	f.Last, f.Cursors = c.numbers()
	return f
}

// numbers are that of the last batch that this zone has written, and those of the last ones
// of the others that it has applied. What cannot be read counts as none.
func (c *Cache) numbers() (last uint64, cursors map[string]uint64) {
	cursors = map[string]uint64{}
	err := c.cat.View(func(tx *catalog.Tx) error {
		v, err := tx.Setting(settingNewsSeq)
		if err == nil {
			last, _ = strconv.ParseUint(string(v), 10, 64)
		} else if !errors.Is(err, catalog.ErrNotFound) {
			return err
		}
		return tx.EachSetting(settingCursor, func(name string, v []byte) bool {
			if n, err := strconv.ParseUint(string(v), 10, 64); err == nil {
				cursors[name[len(settingCursor):]] = n
			}
			return true
		})
	})
	if err != nil {
		c.log.Error("read how far the journals were read", "err", err)
	}
	delete(cursors, c.zoneName())
	return last, cursors
}

// followPredecessor forgets where this zone's own journal ends: another state directory
// has written to it since, if this one ever has. What it told is read as that of others is.
func (c *Cache) followPredecessor() error {
	return c.cat.Update(func(tx *catalog.Tx) error {
		v, err := tx.Setting(settingNewsSeq)
		if errors.Is(err, catalog.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return errors.Join(tx.PutSetting(settingCursor+c.zoneName(), v), tx.DeleteSetting(settingNewsSeq), tx.DeleteSetting(settingOwnBefore))
	})
}

// beat says that this zone is alive; current is the tag of its registration in a listing
// that was just made, "" if there was none.
func (c *Cache) beat(ctx context.Context, d *depot, current string) error {
	for try := 0; ; try++ {
		tag := d.ownTag()
		if current != tag {
			r, _, err := readZone(ctx, d.store, c.cfg.Prefix, c.zoneName())
			if err != nil {
				return err
			}
			if err := c.stillOurs(&r); err != nil {
				c.loseName(d, err)
				return err
			}
			if r.etag == "" || r.file.State == zoneRemoved {
				c.log.Warn("this zone's registration was removed from the depot, and is made again", "zone", c.zoneName())
			}
			tag = r.etag
		}
		began := time.Now()
		etag, err := writeZone(ctx, d.store, d.capabilities(), c.cfg.Prefix, c.myZone(zoneRunning), tag)
		if errors.Is(err, ErrChanged) && try < zoneTries {
			current = "?" // no tag
			continue
		}
		if err != nil {
			return err
		}
		d.mu.Lock()
		d.lease.etag, d.lease.beat = etag, began
		d.mu.Unlock()
		d.news.wake()
		return nil
	}
}

// stillOurs says whether a registration under our name was written by this daemon, or by
// nobody.
func (c *Cache) stillOurs(r *registration) error {
	if r.etag == "" || r.err == nil && r.file.Instance == c.instance() && r.file.Run == c.zones.run {
		return nil
	}
	what := "a depotfs on host " + r.file.Host + ", which was mounted at " + r.file.Started.Local().Format(time.DateTime) + ","
	if r.err != nil {
		what = "something whose registration is " + r.err.Error()
	}
	return refusef("%s has taken the zone name %q: nothing is sent, fetched or told to other zones from here any more. "+
		"Unmount one of the two, or give it another name with --zone; then mount this one again", what, c.zoneName())
}

// loseName stops all work on the depot, for as long as this store is set.
func (c *Cache) loseName(d *depot, err error) {
	c.log.Error("the zone's name is lost", "zone", c.zoneName(), "err", err)
	d.mu.Lock()
	d.lease.lost = err
	d.state, d.err = "refused", err
	for _, cancel := range d.uses {
		cancel(err)
	}
	d.mu.Unlock()
	d.news.wake()
	c.changed.wake()
}

// ownTag is the entity tag of the registration as we wrote it.
func (d *depot) ownTag() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lease.etag
}

// lost is why nothing may be done on the depot any more.
func (d *depot) lost() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lease.lost
}

func (d *depot) capabilities() Capabilities {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.caps
}

// lapsedLocked says whether another zone may have taken our name: we have not said for
// long that we are alive. A machine that slept knows it by the wall clock alone.
func (d *depot) lapsedLocked() bool {
	b := d.lease.beat
	return !b.IsZero() && (time.Since(b) >= zoneLapse || time.Now().Round(0).Sub(b.Round(0)) >= zoneLapse)
}

// untilRegistered waits while the name may be another zone's, and for good once it is.
func (d *depot) untilRegistered(ctx context.Context) error {
	for {
		d.mu.Lock()
		news := d.news.wait()
		lapsed, lost := d.lapsedLocked(), d.lease.lost
		d.mu.Unlock()
		switch {
		case lost != nil:
			<-ctx.Done()
			return ctx.Err()
		case !lapsed:
			return ctx.Err()
		}
		select {
		case d.beatNow <- struct{}{}:
		default:
		}
		if err := pauseUntil(ctx, 0, news); err != nil {
			return err
		}
	}
}
