package cache

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"depotfs/cache/journal"
)

const (
	// pollIdle is the longest time between two looks at the other zones' journals while
	// nothing happens anywhere (DESIGN 4).
	pollIdle = 10 * time.Second
	// pollCalm is how long nothing must have happened before looks become rarer.
	pollCalm = 30 * time.Second
	// missedBatch is how long a gap in the numbers may last. There is none in a journal that
	// its zone alone writes to; what is missing was removed by somebody, and does not come back.
	missedBatch = time.Minute
)

// settingCursor begins the name of the setting with the number of the last batch of a zone
// that was applied.
const settingCursor = "cursor/"

// listener is what listenLoop knows of other zones; it alone uses it, but for the channels
// and stranger.
type listener struct {
	asked  chan chan error      // refreshNow, waiting for an answer
	nudged chan struct{}        // somebody missed something: look soon
	woken  chan struct{}        // the store said that there is something (wake.go)
	gaps   map[string]time.Time // zone -> since when its next batch is missing and later ones are there

	stranger atomic.Bool // it said so of a zone that was not known: look which there are

	early map[string]time.Time // zone -> since when its next batch waits for those of others
	began sync.Map             // zone -> uint64, the batch that was last begun to be applied: also newsLoop's
}

func (l *listener) init() {
	l.asked, l.nudged, l.woken = make(chan chan error), make(chan struct{}, 1), make(chan struct{}, 1)
	l.gaps, l.early = map[string]time.Time{}, map[string]time.Time{}
}

// listenLoop reads what the other zones did, and applies it in order.
func (c *Cache) listenLoop(ctx context.Context) error {
	interval, busyAt := c.cfg.PollInterval, c.now()
	var last time.Time
	for {
		answers, err := c.awaitTurn(ctx, interval, last)
		if err != nil {
			return err
		}
		n, err := c.listenOn(ctx, len(answers) > 0)
		last = time.Now()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, a := range answers {
			a <- err // has room
		}
		switch now := c.now(); {
		case err != nil:
			c.problems.add("zones", "", "what other zones did cannot be read: "+err.Error(), now)
			c.log.Warn("read the change journals", "err", err)
			interval = min(2*interval, max(pollIdle, c.cfg.PollInterval))
		case n > 0:
			interval, busyAt = c.cfg.PollInterval, now
		case now.Sub(busyAt) > pollCalm:
			interval = min(interval+c.cfg.PollInterval, max(pollIdle, c.cfg.PollInterval))
		default:
			interval = c.cfg.PollInterval
		}
	}
}

// listenOn looks once at all journals while a store is on, and returns how many batches
// were applied. all: also at which zones there are.
func (c *Cache) listenOn(ctx context.Context, all bool) (n int, err error) {
	d := c.depot.Load()
	if d == nil || !d.joined() || d.lost() != nil || !c.listed.Load() || c.gone.Load() {
		if all {
			return 0, c.whyDeaf(d)
		}
		return 0, nil
	}
	ctx, done := d.use(ctx)
	defer done()
	if err := d.admit(ctx); err != nil {
		return 0, err
	}
	n, err = c.listen(ctx, d, all)
	if errors.Is(context.Cause(ctx), ErrOff) {
		return n, nil
	}
	if err == nil {
		c.problems.clear("zones", "")
	}
	return n, err
}

// whyDeaf is why journals cannot be read now.
func (c *Cache) whyDeaf(d *depot) error {
	switch {
	case d == nil:
		return ErrOff
	case c.gone.Load():
		return ErrMarker
	case !d.joined(), d.lost() != nil:
		return d.whyNot()
	}
	return fmt.Errorf("the depot's names are still being listed: %w", ErrUnavailable)
}

func (c *Cache) listen(ctx context.Context, d *depot, all bool) (n int, err error) {
	if unknown := c.listening.stranger.Swap(false); all || unknown { // zoneLoop does it now and then
		if _, err := c.listZones(ctx, d); err != nil {
			return 0, err
		}
	}
	zones := []string{c.zoneName()}
	for _, e := range c.otherZones() {
		zones = append(zones, e.Name)
	}
	for {
		var errs []error
		heard, early := 0, false
		for _, zone := range zones {
			m, err := c.listenTo(ctx, d, zone)
			heard += m
			switch {
			case errors.Is(err, errTooEarly):
				early = true
			case err != nil:
				errs = append(errs, fmt.Errorf("zone %s: %w", zone, err))
			}
			if ctx.Err() != nil {
				break
			}
		}
		n += heard
		if !early || heard == 0 || ctx.Err() != nil {
			return n, errors.Join(errs...)
		}
	}
}

// listenTo applies what is new in one zone's journal. This zone's own counts as far as
// an earlier state directory has told it.
func (c *Cache) listenTo(ctx context.Context, d *depot, zone string) (n int, err error) {
	for {
		m, caught, err := c.listenOnce(ctx, d, zone)
		n += m
		if err != nil || !caught {
			return n, err
		}
	}
}

// listenOnce is listenTo until a checkpoint was applied: the cursor is another one then.
func (c *Cache) listenOnce(ctx context.Context, d *depot, zone string) (n int, caught bool, err error) {
	cursor, err := c.cursor(zone)
	if err != nil {
		return 0, false, err
	}
	end := uint64(math.MaxUint64)
	if zone == c.zoneName() {
		if end, err = c.ownBefore(ctx, d); err != nil || cursor >= end {
			return 0, false, err
		}
	}
	q := ListQuery{Prefix: journal.Prefix(c.cfg.Prefix, zone)}
	if cursor > 0 {
		q.StartAfter = journal.Key(c.cfg.Prefix, zone, cursor)
	}
	err = d.store.List(ctx, q, func(p ListPage) error {
		for _, o := range p.Objects {
			_, seq, ok := journal.ParseKey(c.cfg.Prefix, o.Key)
			if !ok || seq <= cursor || seq > end {
				continue
			}
			if seq != cursor+1 { // they were trimmed, or somebody removed them
				if caught, err = c.catchUp(ctx, d, zone, seq); err != nil {
					return err
				}
				if caught {
					return errEnough
				}
				if !c.passGap(zone, cursor, seq) {
					return nil
				}
			}
			if err := c.hear(ctx, d, zone, o); err != nil {
				return err
			}
			delete(c.listening.gaps, zone)
			cursor = seq
			n++
			if err := c.putSetting(settingCursor+zone, strconv.FormatUint(seq, 10)); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, errEnough):
		delete(c.listening.gaps, zone)
		n, err = n+1, nil
	case errors.Is(err, errTooEarly):
		d.report(nil)
		return n, caught, err
	}
	d.report(err)
	return n, caught, err
}

func (c *Cache) cursor(zone string) (uint64, error) {
	text, err := c.setting(settingCursor + zone)
	if err != nil || text == "" {
		return 0, err
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("setting %s%s: %w", settingCursor, zone, err)
	}
	return n, nil
}

// settingOwnBefore is the last batch of this zone's name that this state directory has not
// written: what an earlier one has told is news here.
const settingOwnBefore = "news-before"

func (c *Cache) ownBefore(ctx context.Context, d *depot) (uint64, error) {
	if _, err := c.lastTold(ctx, d); err != nil { // finds it, where nobody has yet
		return 0, err
	}
	text, err := c.setting(settingOwnBefore)
	if err != nil || text == "" {
		return 0, err
	}
	return strconv.ParseUint(text, 10, 64)
}

// passGap says whether a batch may be applied although those before it are missing.
func (c *Cache) passGap(zone string, cursor, seq uint64) bool {
	since, ok := c.listening.gaps[zone]
	if !ok {
		since = c.now()
		c.listening.gaps[zone] = since
	}
	if cursor > 0 && c.now().Sub(since) < missedBatch {
		return false
	}
	if cursor > 0 {
		c.problems.add("zones", "", fmt.Sprintf("batches %d to %d of the journal of zone %s are missing in the depot: what it told there is not known here until the depot is listed", cursor+1, seq-1, zone), c.now())
		c.relistWanted.Store(true)
		c.log.Error("part of a journal is missing", "zone", zone, "from", cursor+1, "to", seq-1)
	}
	return true
}

// hear applies one batch. What is damaged in it is reported and passed over.
func (c *Cache) hear(ctx context.Context, d *depot, zone string, o ObjectInfo) error {
	if o.Size > journal.MaxBatch {
		c.damagedBatch(zone, o.Key, fmt.Errorf("%d bytes are more than a batch has", o.Size))
		return nil
	}
	b, _, err := readSmall(ctx, d.store, o.Key, o.ETag, journal.MaxBatch)
	if err != nil {
		return err
	}
	h, records, bad, err := journal.DecodeBatch(b)
	if errors.Is(err, journal.ErrNewer) {
		return fmt.Errorf("%s: %w: use a newer depotfs: %w", o.Key, err, ErrRejected)
	}
	if err == nil && h.Zone != zone {
		err = fmt.Errorf("it is of zone %q", h.Zone)
	}
	if err != nil {
		c.damagedBatch(zone, o.Key, err)
		return nil
	}
	for _, err := range bad {
		c.damagedBatch(zone, o.Key, err)
	}
	_, seq, _ := journal.ParseKey(c.cfg.Prefix, o.Key)
	if err := c.tooEarly(zone, h.Seen); err != nil {
		return err
	}
	c.listening.began.Store(zone, seq)
	before, err := c.beforeListing(zone, seq)
	if err != nil {
		return err
	}
	for _, r := range records {
		if err := c.applyTold(ctx, d, r, before); err != nil {
			return fmt.Errorf("apply %s of %q: %w", r.Op, r.Path, err)
		}
	}
	c.log.Debug("heard of another zone", "zone", zone, "batch", h.Seq, "records", len(records))
	return nil
}

func (c *Cache) damagedBatch(zone, key string, err error) {
	c.problems.add("zones", "", "a change record of zone "+zone+" is damaged and was passed over ("+key+"): "+err.Error(), c.now())
	c.relistWanted.Store(true)
	c.log.Error("damaged change record", "zone", zone, "key", key, "err", err)
}

// Refresh reads the journals of the other zones now and returns when everything that was
// in them was applied.
func (c *Cache) Refresh(ctx context.Context) error { return c.refreshNow(ctx) }

func (c *Cache) refreshNow(ctx context.Context) error {
	if c.run.Load() == nil {
		return c.notRunning()
	}
	answer := make(chan error, 1)
	asked := c.listening.asked
	look := time.NewTicker(c.cfg.Limits.ColdTimeout)
	defer look.Stop()
	for {
		select {
		case asked <- answer:
			asked = nil
		case err := <-answer:
			return err
		case <-look.C: // who asks does not wait until a store that is down is up
			if d := c.depot.Load(); d != nil && d.isDown() {
				return fmt.Errorf("the store is down: %w", ErrUnavailable)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// listenSoon has the journals read soon: somebody missed something.
func (c *Cache) listenSoon() {
	select {
	case c.listening.nudged <- struct{}{}:
	default:
	}
}
