package cache

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
)

// metaMade is the user metadata that says when, by the store's clock, and in which zone
// the version of an object was finished: "<ns> <zone>".
const metaMade = "depotfs-made"

// withMade adds metaMade. gen is the generation that the object will hold: another one than
// the base's is a version that this zone finishes with it.
func (c *Cache) withMade(meta map[string]string, rec *catalog.Inode, gen uint64) {
	m := moment{rec.MadeAt, rec.Origin}
	var err error
	switch {
	case isRegular(rec) && gen != rec.Base.Gen:
		m, err = c.ourMoment(rec)
	case !isRegular(rec) && m.at == 0: // as putSmall has it when it is there
		m = moment{c.whenDone(rec, max(rec.DirtySince, rec.FinishedAt)), c.zoneName()}
	}
	if err == nil && m.at > 0 && journal.ValidZone(m.zone) { // else a directory above has just gone, and the file with it
		meta[metaMade] = strconv.FormatInt(m.at, 10) + " " + m.zone
	}
}

// ourMoment is when this zone has finished what the depot lacks of a file (see made).
func (c *Cache) ourMoment(rec *catalog.Inode) (m moment, err error) {
	err = c.cat.View(func(tx *catalog.Tx) error {
		at, err := doneIn(tx, rec, c.finishedAt(rec))
		if err != nil {
			return err
		}
		_, paths, err := c.wantedIn(tx, rec)
		if err != nil {
			return err
		}
		m = moment{max(at, rec.MadeAt+1), c.zoneName()}
		for _, p := range paths { // as announceObject has it
			if m.at, err = afterGrave(tx, p, m.at); err != nil {
				return err
			}
			if rec.AttrAt == 0 {
				if m.at, err = afterKept(tx, p, isDir(rec), m.at); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return m, err
}

// madeOf reads metaMade.
func madeOf(info ObjectInfo) (moment, bool) {
	at, zone, ok := strings.Cut(info.Metadata[metaMade], " ")
	t, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil || t <= 0 || !journal.ValidZone(zone) {
		return moment{}, false
	}
	return moment{t, zone}, true
}

// finishOf is when the version under a key was finished, and where: as its zone told of
// it, as the object says, or when it was put.
func (c *Cache) finishOf(key, path string, info ObjectInfo) (moment, error) {
	r, err := c.heldAt(path)
	if err != nil {
		return moment{}, err
	}
	if r != nil && r.Op == journal.Put && r.Key == key && r.ETag == info.ETag {
		return momentOf(r), nil
	}
	m := momentOfObject(info)
	if m.zone != "" {
		c.learnTime(m.at)
	}
	return m, nil
}

// momentOfObject is when the version of an object was finished, as the object says, or when it
// was put, by nobody known.
func momentOfObject(info ObjectInfo) moment {
	if m, ok := madeOf(info); ok {
		return m
	}
	return moment{at: nanosOf(info.Modified)}
}

// withMoment is the record of a version whose object is about to be told of: when it was
// finished, and where, is asked of the object where nothing but a listing is known of it. It
// is no version of this zone, which only copies it.
func (c *Cache) withMoment(ctx context.Context, d *depot, rec *catalog.Inode, o catalog.Object) (*catalog.Inode, error) {
	if !c.tells() || rec.MadeAt != 0 || rec.Origin != "" {
		return rec, nil
	}
	info, err := d.store.Head(ctx, o.Key)
	d.report(err)
	if errors.Is(err, ErrNotFound) || err == nil && info.ETag != o.ETag {
		return rec, nil // the copy fails, and says so
	}
	if err != nil {
		return nil, fmt.Errorf("ask when %s was made: %w", o.Key, err)
	}
	m := momentOfObject(info)
	return c.change(rec.Ino, func(_ *catalog.Tx, r *catalog.Inode) error {
		if r.MadeAt == 0 && r.Origin == "" && r.Base == rec.Base {
			r.MadeAt, r.Origin = m.at, m.zone
		}
		return nil
	})
}

func nanosOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
