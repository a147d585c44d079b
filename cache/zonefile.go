package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"depotfs/cache/journal"
	"depotfs/cache/share"
)

// zoneFile is <prefix>.depotfs/zones/<zone>.json, by which a zone has its name. Times are
// the store's.
type zoneFile struct {
	Format    int       `json:"format"`
	Zone      string    `json:"zone"`
	State     string    `json:"state"`    // one of the below
	Instance  string    `json:"instance"` // of the state directory, random
	Run       string    `json:"run"`      // of the daemon, random: a copied state directory has the same instance
	Host      string    `json:"host"`
	Version   string    `json:"version"`
	Region    string    `json:"region,omitempty"` // of CloudStack, as its mount was told
	Started   time.Time `json:"started"`
	Heartbeat time.Time `json:"heartbeat"`
	// Last is the number of the last batch in its journal when this was written, and
	// Cursors says of the others' how far it has applied them.
	Last    uint64            `json:"last"`
	Cursors map[string]uint64 `json:"cursors,omitempty"`
}

// States of a registration.
const (
	zoneRunning = "running"
	zoneEnded   = "ended"   // unmounted, or its store switched off
	zoneRemoved = "removed" // by a person; what it has told still counts, until all have heard it
)

const (
	zoneFormat  = 1
	maxZoneFile = 64 << 10 // bytes; a real one has some hundred, and 30 for each other zone
	maxZoneText = 256      // bytes of what is for people
)

var (
	errZoneNewer   = errors.New("written by a newer depotfs")
	errZoneDamaged = errors.New("damaged")
)

// zonesPrefix is what the keys of all registrations begin with.
func zonesPrefix(prefix string) string { return prefix + share.Private + "/zones/" }

func zoneKey(prefix, zone string) string { return zonesPrefix(prefix) + zone + ".json" }

// zoneOfKey tells whose registration a key is.
func zoneOfKey(prefix, key string) (zone string, ok bool) {
	rest, ok := strings.CutPrefix(key, zonesPrefix(prefix))
	if !ok {
		return "", false
	}
	zone, ok = strings.CutSuffix(rest, ".json")
	return zone, ok && journal.ValidZone(zone)
}

// decodeZone reads a registration that others may have written.
func decodeZone(b []byte, zone string) (zoneFile, error) {
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &version); err != nil || version.Format < 1 {
		return zoneFile{}, errZoneDamaged
	}
	if version.Format > zoneFormat {
		return zoneFile{}, fmt.Errorf("format %d: %w", version.Format, errZoneNewer)
	}
	var f zoneFile
	if err := json.Unmarshal(b, &f); err != nil || f.Zone != zone || f.Instance == "" {
		return zoneFile{}, errZoneDamaged
	}
	switch f.State {
	case zoneRunning, zoneEnded, zoneRemoved:
	default:
		return zoneFile{}, errZoneDamaged
	}
	for _, text := range []string{f.Instance, f.Run, f.Host, f.Version, f.Region} {
		if len(text) > maxZoneText {
			return zoneFile{}, errZoneDamaged
		}
	}
	return f, nil
}

// registration is a zoneFile as the depot has it. Without err and with an empty etag there
// is none.
type registration struct {
	file zoneFile
	etag string
	seen time.Time // when it was written, by the store's clock
	err  error     // why file cannot be understood
}

// readZone reads one registration; now is the store's time of the answer, zero if unknown.
func readZone(ctx context.Context, s Store, prefix, zone string) (r registration, now time.Time, err error) {
	key := zoneKey(prefix, zone)
	b, info, err := readSmall(ctx, s, key, "", maxZoneFile)
	if errors.Is(err, ErrNotFound) {
		return registration{}, time.Time{}, nil
	}
	if err != nil {
		return registration{}, time.Time{}, err
	}
	r = registration{etag: info.ETag, seen: info.Modified}
	if len(b) > maxZoneFile {
		r.err = errZoneDamaged
	} else {
		r.file, r.err = decodeZone(b, zone)
	}
	if r.seen.IsZero() {
		r.seen = r.file.Heartbeat
	}
	return r, info.Date, nil
}

// writeZone replaces the registration that was seen last, and where old is empty makes
// one: ErrChanged says that there is another one. A store without conditions just writes:
// the caller has looked a moment before.
func writeZone(ctx context.Context, s Store, caps Capabilities, prefix string, f zoneFile, old string) (etag string, err error) {
	f.Format = zoneFormat
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return "", err
	}
	b = append(b, '\n')
	o := PutOptions{ContentType: "application/json", CRC64: crcOf(b), HasCRC64: true}
	if caps.ConditionalPut {
		o.IfMatch, o.IfNoneMatch = old, old == ""
	}
	info, err := s.Put(ctx, zoneKey(prefix, f.Zone), bytes.NewReader(b), int64(len(b)), o)
	if err != nil {
		return "", fmt.Errorf("write %s: %w", zoneKey(prefix, f.Zone), err)
	}
	return info.ETag, nil
}
