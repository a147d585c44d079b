package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
)

const (
	// newsGather is how long records are gathered before they are told: a second counts
	// from the change, and a tree that is deleted makes one batch and not hundreds.
	newsGather = 250 * time.Millisecond
	// newsLook is after how long newsLoop looks once more after it was woken: the
	// transaction that woke it may have taken longer than newsGather.
	newsLook = 2 * time.Second
)

const (
	// settingNewsSeq is the number of the last batch that the depot has from this zone.
	settingNewsSeq = "news-seq"
	// settingSealed is the batch that is being told: another try sends the same bytes.
	settingSealed = "news-sealed"
)

// sealed says which records a batch has, so that it is the same bytes at every try.
type sealed struct {
	Seq  uint64 `json:"seq"`
	Last uint64 `json:"last"` // number of its last record in the catalog
	Made int64  `json:"made"` // ns, the store's clock

	Seen map[string]uint64 `json:"seen,omitempty"` // what was heard before it (journal.Header)
}

// newsLoop tells other zones what this one did, in batches that are numbered without
// gaps. See doc.go, "Zones".
func (c *Cache) newsLoop(ctx context.Context) error {
	var failed uint32
	wait := time.Duration(0) // what was left by the run before
	look := time.NewTimer(newsLook)
	defer look.Stop()
	for {
		if wait == 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-c.newsWake:
				wait = newsGather
				look.Reset(newsLook)
			case <-look.C:
			}
		}
		if wait > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(wait):
			case <-c.newsNow:
			}
		}
		more, err := c.tellOn(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			failed++
			wait = min(backoff(failed, maxBackoff), 10*time.Second)
			c.problems.add("zones", "", "other zones cannot be told what was done here: "+err.Error(), c.now())
			c.log.Warn("write the change journal", "next", wait, "err", err)
		default:
			if failed > 0 {
				c.problems.clear("zones", "")
			}
			failed, wait = 0, 0
			if more {
				wait = time.Nanosecond
			}
		}
		c.changed.wake()
	}
}

// tellOn is tellBatch while a store is on.
func (c *Cache) tellOn(ctx context.Context) (more bool, err error) {
	d := c.depot.Load()
	if d == nil || !d.joined() {
		return false, nil // joining wakes the loop
	}
	ctx, done := d.use(ctx)
	defer done()
	if err := d.admit(ctx); err != nil {
		return false, err
	}
	more, err = c.tellBatch(ctx, d)
	if errors.Is(context.Cause(ctx), ErrOff) {
		return false, nil
	}
	return more, err
}

// tellBatch tells one batch; more says that there are records beyond it.
func (c *Cache) tellBatch(ctx context.Context, d *depot) (more bool, err error) {
	s, err := c.seal(ctx, d)
	if err != nil || s == nil {
		return false, err
	}
	b, n, more, err := c.batch(s)
	if err != nil {
		return false, err
	}
	if n == 0 { // nothing of it could be understood
		return more, c.forgetNews(s, s.Seq-1)
	}
	// What others hear of must be true here after a power cut too, and the batch be sealed.
	if err := c.cat.Sync(ctx); err != nil {
		return false, err
	}
	key := journal.Key(c.cfg.Prefix, c.zoneName(), s.Seq)
	_, err = d.store.Put(ctx, key, bytesAt(b), int64(len(b)), PutOptions{ContentType: "text/plain", IfNoneMatch: true, CRC64: crcOf(b), HasCRC64: true})
	if errors.Is(err, ErrChanged) {
		err = c.alreadyTold(ctx, d, key, b)
		if errors.Is(err, errOthersBatch) {
			c.log.Warn("the journal has a batch of this zone's name that is not ours; ours follows behind it", "key", key)
			return true, c.unseal(ctx, d)
		}
	}
	d.report(err)
	if err != nil {
		return false, fmt.Errorf("put %s: %w", key, err)
	}
	c.log.Debug("told other zones", "batch", s.Seq, "records", n)
	return more, c.forgetNews(s, s.Seq)
}

// forgetNews drops the records of a batch that the depot has; last is the number of the
// last batch that it has now.
func (c *Cache) forgetNews(s *sealed, last uint64) error {
	return c.cat.Update(func(tx *catalog.Tx) error {
		var told []uint64
		if err := tx.EachNews(0, func(n uint64, _ []byte) bool {
			if n <= s.Last {
				told = append(told, n)
			}
			return n < s.Last
		}); err != nil {
			return err
		}
		for _, n := range told {
			if err := tx.DeleteNews(n); err != nil {
				return err
			}
		}
		return errors.Join(tx.DeleteSetting(settingSealed), tx.PutSetting(settingNewsSeq, []byte(strconv.FormatUint(last, 10))))
	})
}

// seal decides which records the next batch has; nil: there are none.
func (c *Cache) seal(ctx context.Context, d *depot) (*sealed, error) {
	text, err := c.setting(settingSealed)
	if err != nil {
		return nil, err
	}
	if text != "" {
		s := &sealed{}
		if err := json.Unmarshal([]byte(text), s); err != nil {
			return nil, errors.Join(fmt.Errorf("setting %s: %w", settingSealed, err), catalog.ErrDamaged)
		}
		return s, nil
	}
	s := &sealed{Made: c.storeNanos()}
	size, count := 0, 0
	if err := c.cat.View(func(tx *catalog.Tx) error {
		return tx.EachNews(0, func(n uint64, b []byte) bool {
			if size += len(b); count > 0 && !journal.Fits(count+1, size) {
				return false
			}
			count++
			s.Last = n
			return true
		})
	}); err != nil || count == 0 {
		return nil, err
	}
	last, err := c.lastTold(ctx, d)
	if err != nil {
		return nil, err
	}
	s.Seq = last + 1
	if s.Seen, err = c.seen(); err != nil {
		return nil, err
	}
	return s, c.putSealed(s)
}

func (c *Cache) putSealed(s *sealed) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return c.putSetting(settingSealed, string(b))
}

// lastTold is the number of the last batch of this zone. Without a setting the state
// directory is new: the depot is asked what an earlier one has told.
func (c *Cache) lastTold(ctx context.Context, d *depot) (uint64, error) {
	text, err := c.setting(settingNewsSeq)
	if err != nil {
		return 0, err
	}
	if text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return 0, errors.Join(fmt.Errorf("setting %s: %w", settingNewsSeq, err), catalog.ErrDamaged)
		}
		return n, nil
	}
	return c.endOfJournal(ctx, d, 0)
}

// endOfJournal lists this zone's batches behind one that is known.
func (c *Cache) endOfJournal(ctx context.Context, d *depot, after uint64) (uint64, error) {
	q := ListQuery{Prefix: journal.Prefix(c.cfg.Prefix, c.zoneName())}
	if after > 0 {
		q.StartAfter = journal.Key(c.cfg.Prefix, c.zoneName(), after)
	}
	last := after
	err := d.store.List(ctx, q, func(p ListPage) error {
		for _, o := range p.Objects {
			if _, n, ok := journal.ParseKey(c.cfg.Prefix, o.Key); ok {
				last = max(last, n)
			}
		}
		return nil
	})
	d.report(err)
	if err != nil {
		return 0, fmt.Errorf("list the journal of this zone: %w", err)
	}
	return last, c.putEnd(after, last)
}

// putEnd records where this zone's own journal ends: what is in it behind the batches up to
// after was told by others under its name, and is read as news. In one step, and before
// the first batch is told: what this state directory tells is no news to it.
func (c *Cache) putEnd(after, last uint64) error {
	own, err := c.cursor(c.zoneName())
	if err != nil {
		return err
	}
	return c.cat.Update(func(tx *catalog.Tx) error {
		text := []byte(strconv.FormatUint(last, 10))
		err := errors.Join(tx.PutSetting(settingNewsSeq, text), tx.PutSetting(settingOwnBefore, text))
		if err == nil && after > own {
			err = tx.PutSetting(settingCursor+c.zoneName(), []byte(strconv.FormatUint(after, 10)))
		}
		return err
	})
}

// unseal gives up a batch whose number another one has, for one behind all there are.
func (c *Cache) unseal(ctx context.Context, d *depot) error {
	last, err := c.lastTold(ctx, d)
	if err != nil {
		return err
	}
	if _, err := c.endOfJournal(ctx, d, last); err != nil {
		return err
	}
	return c.cat.Update(func(tx *catalog.Tx) error { return tx.DeleteSetting(settingSealed) })
}

// batch encodes the records of a sealed batch.
func (c *Cache) batch(s *sealed) (b []byte, count int, more bool, err error) {
	var records []journal.Record
	if err := c.cat.View(func(tx *catalog.Tx) error {
		return tx.EachNews(0, func(n uint64, line []byte) bool {
			if n > s.Last {
				more = true
				return false
			}
			r, derr := journal.Decode(line)
			if derr != nil {
				c.log.Error("a change record in the catalog is damaged; other zones are not told", "number", n, "err", derr)
				return true
			}
			records = append(records, r)
			return true
		})
	}); err != nil {
		return nil, 0, false, err
	}
	b, err = journal.EncodeBatch(journal.Header{Zone: c.zoneName(), Seq: s.Seq, Made: s.Made, Epoch: strconv.FormatUint(c.cat.Epoch(), 16), Seen: s.Seen}, records)
	return b, len(records), more, err
}

// errOthersBatch says that the batch under our number is not ours.
var errOthersBatch = errors.New("another batch has this number")

// alreadyTold compares the batch under our number with ours: the answer to an earlier
// try may have been lost.
func (c *Cache) alreadyTold(ctx context.Context, d *depot, key string, ours []byte) error {
	there, _, err := readSmall(ctx, d.store, key, "", journal.MaxBatch)
	if err != nil {
		return err
	}
	if !bytes.Equal(there, ours) {
		return errOthersBatch
	}
	return nil
}
