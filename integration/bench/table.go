package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// unit is what a row counts in.
type unit struct {
	name  string
	less  bool // less is better
	scale float64
}

var (
	perSecond  = unit{name: "/s", scale: 1}
	throughput = unit{name: "MiB/s", scale: 1 << 20}
	latency    = unit{name: "ms", less: true, scale: 1e-3}
	roundTrips = unit{name: "trips", less: true, scale: 1}
	memory     = unit{name: "MiB", less: true, scale: 1 << 20}
	seconds    = unit{name: "s", less: true, scale: 1}
	ofFile     = unit{name: "of the file", less: true, scale: 1}
)

// ratio says how good value is beside reference: above 1 is better.
func (u unit) ratio(value, reference float64) float64 {
	if u.less {
		return reference / value
	}
	return value / reference
}

func (u unit) text(value float64) string { return number(value/u.scale) + " " + u.name }

// number has three digits, or all before the point.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// median of an even count is the mean of the two in the middle.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	m := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[m]
	}
	return (sorted[m-1] + sorted[m]) / 2
}

// medianTraffic takes the median of each count.
func medianTraffic(all []traffic) traffic {
	of := func(field func(traffic) int64) int64 {
		values := make([]float64, 0, len(all))
		for _, t := range all {
			values = append(values, float64(field(t)))
		}
		return int64(median(values))
	}
	return traffic{
		Sent:     of(func(t traffic) int64 { return t.Sent }),
		Received: of(func(t traffic) int64 { return t.Received }),
		Requests: of(func(t traffic) int64 { return t.Requests }),
	}
}

func (c *cell) text(u unit) string {
	switch {
	case c == nil || errors.Is(c.err, errNot):
		return ""
	case c.err != nil:
		return "failed"
	case len(c.samples) == 0:
		return ""
	}
	text := u.text(median(c.samples))
	if len(c.ratios) > 0 {
		text += fmt.Sprintf(" %6.2f", median(c.ratios))
	}
	return text
}

// moved says in one cell what went over the line.
func (c *cell) moved() string {
	if c == nil || len(c.lines) == 0 {
		return ""
	}
	t := medianTraffic(c.lines)
	return fmt.Sprintf("%s in %d", bytesText(max(t.Received, t.Sent)), t.Requests)
}

func bytesText(n int64) string {
	switch {
	case n >= 10<<20:
		return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.0f KiB", float64(n)/(1<<10))
}

// table draws the sections: one table, whose reference column changes its meaning
// with the section.
func (b *bench) table(w io.Writer) {
	notes := slices.Clone(b.notes)
	var lines [][]string
	for _, s := range []*section{b.local, b.cold} {
		if len(s.rows) == 0 {
			continue
		}
		head := []string{strings.ToUpper(s.title)}
		for _, c := range s.columns {
			head = append(head, c.name)
		}
		lines = append(lines, nil, head)
		for _, r := range s.rows {
			line, moved := []string{r.name}, []string{"    moved, requests"}
			for _, c := range s.columns {
				one := r.cells[c]
				line, moved = append(line, one.text(r.unit)), append(moved, one.moved())
				if one != nil && one.err != nil && !errors.Is(one.err, errNot) {
					notes = append(notes, fmt.Sprintf("%s, %s: %v", r.name, c.name, one.err))
				}
			}
			lines = append(lines, line)
			if r.counted {
				lines = append(lines, moved)
			}
			for _, bar := range r.bars {
				line := []string{"    bar: " + bar.String()}
				for _, c := range s.columns {
					line = append(line, bar.text(c, r.cells[c]))
				}
				lines = append(lines, line)
			}
		}
	}
	print(w, lines)
	fmt.Fprintf(w, "\nMedians of %d. The second figure is the ratio to the first column in the same round: above 1 is better.\n", b.opts.rounds)
	if met, missed := b.verdict(); met+len(missed) > 0 {
		fmt.Fprintf(w, "Bars of depotfs: %d met, %d missed.\n", met, len(missed))
		for _, text := range missed {
			fmt.Fprintln(w, "MISSED:", text)
		}
	}
	for _, note := range notes {
		fmt.Fprintln(w, note)
	}
}

// print aligns cells: the first to the left, the others to the right.
func print(w io.Writer, lines [][]string) {
	var widths []int
	for _, line := range lines {
		for i, text := range line {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(text))
		}
	}
	for _, line := range lines {
		var row strings.Builder
		for i, text := range line {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text))
			if i == 0 {
				row.WriteString(text + pad)
				continue
			}
			row.WriteString("  " + pad + text)
		}
		fmt.Fprintln(w, strings.TrimRight(row.String(), " "))
	}
}
