package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// A depot belongs to one CloudStack region: ids in paths are numbers of its database, and
// two clouds would both own template/tmpl/2/201. Where the depot has a region's name and a
// zone another one, the zone stays out. A depot that has none gets that of the first zone
// that names one. A zone that names none stays out of a depot that has one, unless it
// belonged to it already: then it is told.

// checkRegion says whether a zone may join a depot; member: it has been there before. A
// warning says that it may, and what a person should do.
func checkRegion(f depotFile, region string, member bool) (warning string, err error) {
	switch {
	case f.Region == region, f.Region == "":
		return "", nil
	case region != "":
		return "", refusef("the depot belongs to the CloudStack region %q, this zone to %q: use another bucket or prefix", f.Region, region)
	case member:
		return fmt.Sprintf("the depot belongs to the CloudStack region %q and this mount names none: say --depot-region %s if that is its region, else unmount it and use another bucket or prefix", f.Region, f.Region), nil
	}
	return "", refusef("the depot belongs to the CloudStack region %q and this mount names none: say --depot-region %s if that is its region, else use another bucket or prefix", f.Region, f.Region)
}

// refusal is why a zone may not join a depot: an ErrRejected in the depot's words.
type refusal string

// Error implements error.
func (r refusal) Error() string { return string(r) }

// Unwrap makes it an ErrRejected.
func (refusal) Unwrap() error { return ErrRejected }

func refusef(format string, args ...any) error { return refusal(fmt.Sprintf(format, args...)) }

// nameRegion gives a depot that has no region the one of this zone.
func (c *Cache) nameRegion(ctx context.Context, d *depot, caps Capabilities, f depotFile) error {
	if f.Region != "" || c.cfg.DepotRegion == "" {
		return nil
	}
	f.Region = c.cfg.DepotRegion
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	o := PutOptions{ContentType: "application/json", CRC64: crcOf(b), HasCRC64: true}
	if caps.ConditionalPut {
		o.IfMatch = f.etag
	}
	_, err = d.store.Put(ctx, c.depotKey(), bytes.NewReader(b), int64(len(b)), o)
	if errors.Is(err, ErrChanged) {
		return fmt.Errorf("another zone has just named the depot's region: %w", ErrUnavailable) // looked at anew in a moment
	}
	if err != nil {
		return fmt.Errorf("name the depot's region: %w", err)
	}
	c.log.Info("the depot belongs to this zone's CloudStack region from now on", "region", f.Region)
	return nil
}

// CheckJoin says, before anything is changed anywhere, whether a depot would refuse a
// mount with these settings: the error wraps ErrRejected then. state is what the state
// directory knows; nil is a new one.
func CheckJoin(ctx context.Context, s Store, cfg Config, state *Cache) error {
	f, err := readDepotFile(ctx, s, cfg.Prefix)
	if errors.Is(err, ErrNotFound) {
		return nil // it will be made
	}
	if err != nil {
		return err
	}
	if state != nil {
		if _, err := state.checkDepot(f); err != nil {
			return err
		}
		_, err = state.mayRegister(ctx, s)
		return err
	}
	if _, err := checkRegion(f, cfg.DepotRegion, false); err != nil {
		return err
	}
	r, now, err := readZone(ctx, s, cfg.Prefix, cfg.Zone)
	if err != nil {
		return err
	}
	if now.IsZero() {
		now = time.Now()
	}
	return r.taken(cfg.Zone, "", now)
}
