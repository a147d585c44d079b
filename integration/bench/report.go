package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// machine says in one line on what the figures were taken.
func (b *bench) machine() string {
	var un unix.Utsname
	_ = unix.Uname(&un)
	with := "without passthrough"
	for _, c := range append(b.local.columns, b.cold.columns...) {
		if c.zone != nil && c.zone.passthrough {
			with = "with passthrough"
		}
	}
	return fmt.Sprintf("depotfs bench: %d CPUs, Linux %s, %s; file %v, cold object %v, image %v, upload %v, %d small files, %d rounds",
		runtime.NumCPU(), unix.ByteSliceToString(un.Release[:]), with, &b.opts.size, &b.opts.coldSize, &b.opts.imageSize, &b.opts.uploadSize, b.opts.files, b.opts.rounds)
}

// reported is the form of -json: all samples, so that others can compute what they like.
type reported struct {
	Machine  string            `json:"machine"`
	Rounds   int               `json:"rounds"`
	Sections []reportedSection `json:"sections"`
}

type reportedSection struct {
	Title     string        `json:"title"`
	Reference string        `json:"reference"` // the column that ratios refer to
	Rows      []reportedRow `json:"rows"`
}

type reportedRow struct {
	Name         string                  `json:"name"`
	Unit         string                  `json:"unit"`
	LessIsBetter bool                    `json:"less_is_better"`
	Columns      map[string]reportedCell `json:"columns"`
}

type reportedCell struct {
	Median  float64       `json:"median"`
	Ratio   float64       `json:"ratio,omitempty"` // above 1 is better
	Samples []float64     `json:"samples"`
	Traffic *traffic      `json:"traffic,omitempty"` // medians
	Bars    []reportedBar `json:"bars,omitempty"`
	Error   string        `json:"error,omitempty"`
}

// reportedBar is what became of a bar in one column.
type reportedBar struct {
	Bar   string  `json:"bar"`
	Value float64 `json:"value"`
	Met   bool    `json:"met"` // of others than depotfs: whether they would
}

func (b *bench) writeJSON(file string) error {
	out := reported{Machine: b.machine(), Rounds: b.opts.rounds}
	for _, s := range []*section{b.local, b.cold} {
		if len(s.rows) == 0 {
			continue
		}
		part := reportedSection{Title: s.title, Reference: s.columns[0].name}
		for _, r := range s.rows {
			line := reportedRow{Name: r.name, Unit: strings.TrimSpace(r.unit.name), LessIsBetter: r.unit.less, Columns: map[string]reportedCell{}}
			for _, c := range s.columns {
				if one := r.cell(c); !errors.Is(one.err, errNot) {
					line.Columns[c.name] = one.report(r, c)
				}
			}
			part.Rows = append(part.Rows, line)
		}
		out.Sections = append(out.Sections, part)
	}
	text, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

func (c *cell) report(row *row, col *column) reportedCell {
	u := row.unit
	r := reportedCell{Median: median(c.samples) / u.scale, Ratio: median(c.ratios), Samples: []float64{}}
	for _, v := range c.samples {
		r.Samples = append(r.Samples, v/u.scale)
	}
	if len(c.lines) > 0 {
		t := medianTraffic(c.lines)
		r.Traffic = &t
	}
	for _, b := range row.bars {
		if v, ok := b.in(col, c); ok {
			r.Bars = append(r.Bars, reportedBar{Bar: b.String(), Value: v, Met: b.met(v)})
		}
	}
	if c.err != nil {
		r.Error = c.err.Error()
	}
	return r
}
