// Package settings is the format of the settings that one zone announces to all zones of a
// depot, <prefix>.depotfs/settings.json. It does no I/O.
//
// The object comes from a bucket that others can write to: it is bounded, and one that is
// not understood as a whole is refused. Which settings may be announced is the reader's to
// check; none of them is a secret.
package settings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"time"
	"unicode"
)

// Shared is what was announced so far. Numbers grow from one announcement to the next, so
// that a zone takes up each once; a value has that of the announcement that it came with.
type Shared struct {
	Format int              `json:"format"`
	Seq    uint64           `json:"seq"`
	Zone   string           `json:"zone"` // who made the last one
	At     time.Time        `json:"at"`   // when, by the store's clock
	Values map[string]Value `json:"values"`
}

// Value is one setting. An empty text gives up what was announced before.
type Value struct {
	Text string `json:"value"`
	Seq  uint64 `json:"seq"`
}

// Limits of the format. An announcement has some ten short values.
const (
	Format    = 1
	MaxSize   = 64 << 10 // bytes of the object
	maxValues = 64
	maxText   = 256 // so that all of them fit, whatever has to be escaped
)

var (
	keyName  = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,63}$`)
	zoneName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
)

// ErrNewer: the format is of a later depotfs.
var ErrNewer = errors.New("announced by a newer depotfs")

// Decode reads an object.
func Decode(b []byte) (Shared, error) {
	var s Shared
	if len(b) > MaxSize {
		return s, fmt.Errorf("larger than %d bytes", MaxSize)
	}
	var format struct {
		Format int `json:"format"`
	}
	if json.Unmarshal(b, &format) != nil || format.Format < 1 {
		return s, errors.New("damaged: no announcement of settings")
	}
	if format.Format > Format {
		return s, fmt.Errorf("format %d, this depotfs knows up to %d: %w", format.Format, Format, ErrNewer)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return Shared{}, errors.New("damaged: no announcement of settings")
	}
	if err := s.check(); err != nil {
		return Shared{}, err
	}
	return s, nil
}

// Encode makes the object.
func (s Shared) Encode() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(s)
	return b.Bytes(), err
}

func (s Shared) check() error {
	switch {
	case s.Seq == 0:
		return errors.New("damaged: it has no number")
	case !zoneName.MatchString(s.Zone):
		return errors.New("damaged: it names no zone")
	case len(s.Values) > maxValues:
		return fmt.Errorf("damaged: more than %d values", maxValues)
	}
	for key, v := range s.Values {
		switch {
		case !keyName.MatchString(key):
			return errors.New("damaged: a key is no name of a setting")
		case v.Seq == 0 || v.Seq > s.Seq:
			return fmt.Errorf("damaged: %s has the number %d of %d", key, v.Seq, s.Seq)
		case len(v.Text) > maxText || strings.ContainsFunc(v.Text, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }):
			return fmt.Errorf("damaged: the value of %s is no text", key)
		}
	}
	return nil
}

// Since returns the values that were announced after number seq.
func (s Shared) Since(seq uint64) map[string]string {
	out := map[string]string{}
	for key, v := range s.Values {
		if v.Seq > seq {
			out[key] = v.Text
		}
	}
	return out
}

// With is s after another announcement. Its number is greater than that of any before, also
// where the object was removed meanwhile, as long as there is less than one a second.
func (s Shared) With(zone string, at time.Time, values map[string]string) Shared {
	next := Shared{Format: Format, Seq: s.Seq + 1, Zone: zone, At: at.UTC(), Values: maps.Clone(s.Values)}
	if unix := at.Unix(); unix > 0 {
		next.Seq = max(next.Seq, uint64(unix))
	}
	if next.Values == nil {
		next.Values = map[string]Value{}
	}
	for key, text := range values {
		next.Values[key] = Value{Text: text, Seq: next.Seq}
	}
	return next
}
