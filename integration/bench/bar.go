package main

import (
	"errors"
	"fmt"
	"strings"
)

// bar is a figure that depotfs has to reach in a row. The table shows it in all
// columns, with a verdict in those of depotfs.
type bar struct {
	limit float64
	least bool   // the figure must be the limit or more; otherwise the limit or less
	bytes bool   // it is a number of bytes
	what  string // what it counts or is a share of
	value func(c *column, one *cell) (float64, bool)
}

func (b bar) met(v float64) bool {
	if b.least {
		return v >= b.limit
	}
	return v <= b.limit
}

func (b bar) number(v float64) string {
	if b.bytes {
		return bytesText(int64(v))
	}
	return number(v)
}

// String is the bar as the table names it.
func (b bar) String() string {
	sign := "at most"
	if b.least {
		sign = "at least"
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", sign, b.number(b.limit), b.what))
}

// in is the figure in one column; false: there is none.
func (b bar) in(c *column, one *cell) (float64, bool) {
	if one == nil || one.err != nil || len(one.samples) == 0 {
		return 0, false
	}
	return b.value(c, one)
}

func (b bar) text(c *column, one *cell) string {
	v, ok := b.in(c, one)
	switch {
	case !ok:
		return ""
	case c.zone == nil: // others promise nothing
		return b.number(v)
	case b.met(v):
		return b.number(v) + " met"
	}
	return b.number(v) + " MISSED"
}

// ofSDK: as fast as the plain program, but for a share.
func ofSDK(limit float64) bar {
	return bar{limit: limit, least: true, what: "of the SDK program", value: func(_ *column, one *cell) (float64, bool) {
		return median(one.ratios), len(one.ratios) > 0
	}}
}

// inTrips: the row's time in round trips of the line.
func (b *bench) inTrips(limit float64) bar {
	return bar{limit: limit, what: "round trips", value: func(_ *column, one *cell) (float64, bool) {
		return median(one.samples) / b.opts.roundTrip.Seconds(), true
	}}
}

// own: the row's own figure, in its unit.
func own(limit float64, u unit) bar {
	return bar{limit: limit, what: u.name, value: func(_ *column, one *cell) (float64, bool) {
		return median(one.samples) / u.scale, true
	}}
}

// pulled: bytes that came over the line.
func pulled(limit int64) bar {
	return bar{limit: float64(limit), bytes: true, what: "pulled", value: func(_ *column, one *cell) (float64, bool) {
		return float64(medianTraffic(one.lines).Received), len(one.lines) > 0
	}}
}

// sent: bytes that went over the line.
func sent(limit int64, what string) bar {
	return bar{limit: float64(limit), bytes: true, what: strings.TrimSpace("sent " + what), value: func(_ *column, one *cell) (float64, bool) {
		return float64(medianTraffic(one.lines).Sent), len(one.lines) > 0
	}}
}

// finds: what runs found out under a name, divided by scale.
func finds(name string, limit, scale float64, what string) bar {
	return bar{limit: limit, what: what, value: func(_ *column, one *cell) (float64, bool) {
		return median(one.found[name]) / scale, len(one.found[name]) > 0
	}}
}

// findsBytes: the same for a number of bytes.
func findsBytes(name string, limit int64, what string) bar {
	b := finds(name, float64(limit), 1, what)
	b.bytes = true
	return b
}

// verdict counts the bars of depotfs and names those that it missed.
func (b *bench) verdict() (met int, missed []string) {
	for _, s := range []*section{b.local, b.cold} {
		for _, r := range s.rows {
			for _, bar := range r.bars {
				for _, c := range s.columns {
					if c.zone == nil {
						continue
					}
					one := r.cells[c]
					v, ok := bar.in(c, one)
					switch {
					case one != nil && errors.Is(one.err, errNot):
					case ok && bar.met(v):
						met++
					case ok:
						missed = append(missed, fmt.Sprintf("%s, %s: %s instead of %s", r.name, c.name, bar.number(v), bar))
					default:
						missed = append(missed, fmt.Sprintf("%s, %s: %s was not measured", r.name, c.name, bar))
					}
				}
			}
		}
	}
	return met, missed
}
