package main

import (
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// value is one setting of a Config: how its text is read and shown.
type value interface {
	// set reads text; dir is what relative paths are relative to. An error says
	// how to write it, without the name of the setting.
	set(text, dir string) error
	// show is the text for people; what set reads, except for secrets.
	show() string
	// json is the same for scripts: sizes in bytes, durations in seconds.
	json() any
}

// secret is a string that no print, log or JSON shows.
type secret string

const masked = "***"

// Format implements fmt.Formatter: it looks the same with every verb.
func (s secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.show()) }

// MarshalText keeps it out of JSON, YAML and slog.
func (s secret) MarshalText() ([]byte, error) { return []byte(s.show()), nil }

func (s secret) show() string {
	if s == "" {
		return ""
	}
	return masked
}

type secretValue struct{ p *secret }

func (v secretValue) set(text, _ string) error { *v.p = secret(text); return nil }
func (v secretValue) show() string             { return v.p.show() }
func (v secretValue) json() any                { return v.p.show() }

type textValue struct{ p *string }

func (v textValue) set(text, _ string) error { *v.p = text; return nil }
func (v textValue) show() string             { return *v.p }
func (v textValue) json() any                { return *v.p }

// pathValue keeps absolute, clean paths.
type pathValue struct{ p *string }

func (v pathValue) set(text, dir string) error {
	if strings.ContainsRune(text, 0) {
		return fmt.Errorf("a path holds no zero bytes")
	}
	if text != "" && !filepath.IsAbs(text) {
		text = filepath.Join(dir, text)
	}
	*v.p = text
	if text != "" {
		*v.p = filepath.Clean(text)
	}
	return nil
}
func (v pathValue) show() string { return *v.p }
func (v pathValue) json() any    { return *v.p }

type choiceValue struct {
	p     *string
	words []string
}

func (v choiceValue) set(text, _ string) error {
	if !slices.Contains(v.words, text) {
		return fmt.Errorf("%q is none of %s", text, strings.Join(v.words, ", "))
	}
	*v.p = text
	return nil
}
func (v choiceValue) show() string { return *v.p }
func (v choiceValue) json() any    { return *v.p }

type boolValue struct{ p *bool }

func (v boolValue) set(text, _ string) error {
	switch strings.ToLower(text) {
	case "true", "yes", "on", "1":
		*v.p = true
	case "false", "no", "off", "0":
		*v.p = false
	default:
		return fmt.Errorf("%q is neither true nor false", text)
	}
	return nil
}
func (v boolValue) show() string { return strconv.FormatBool(*v.p) }
func (v boolValue) json() any    { return *v.p }

// countValue holds whole numbers of at least min.
type countValue struct {
	p   *int
	min int
}

func (v countValue) set(text, _ string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < v.min || n > 1<<16 {
		return fmt.Errorf("%q is no whole number from %d to %d", text, v.min, 1<<16)
	}
	*v.p = n
	return nil
}
func (v countValue) show() string { return strconv.Itoa(*v.p) }
func (v countValue) json() any    { return *v.p }

// sizeValue holds bytes; with rate, bytes per second.
type sizeValue struct {
	p    *int64
	rate bool
}

func (v sizeValue) set(text, _ string) error {
	digits := text
	if v.rate {
		digits = strings.TrimSuffix(text, "/s")
	}
	n, err := humanize.ParseBytes(digits)
	if err != nil || n > math.MaxInt64 || strings.HasPrefix(digits, "-") {
		return fmt.Errorf("%q is no size: write it like 500GiB or 1.5TB", text)
	}
	*v.p = int64(n)
	return nil
}

func (v sizeValue) show() string {
	text := exactSize(*v.p)
	if v.rate && *v.p != 0 {
		text += "/s"
	}
	return text
}

func (v sizeValue) json() any { return *v.p }

// exactSize writes a size with the largest binary unit that loses nothing.
func exactSize(n int64) string {
	units := []string{"", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	u := 0
	for n != 0 && n%1024 == 0 && u < len(units)-1 {
		n, u = n/1024, u+1
	}
	return strconv.FormatInt(n, 10) + units[u]
}

type durationValue struct {
	p   *time.Duration
	min time.Duration
}

func (v durationValue) set(text, _ string) error {
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return fmt.Errorf("%q is no duration: write it with its unit, like 50s, 10m or 1h30m", text)
	case d < v.min:
		return fmt.Errorf("%q is too short: at least %v", text, v.min)
	}
	*v.p = d
	return nil
}
func (v durationValue) show() string { return shortDuration(*v.p) }
func (v durationValue) json() any    { return v.p.Seconds() }

// optionalDuration is a duration with an "unset" of its own (nil): 0s means now.
type optionalDuration struct{ p **time.Duration }

func (v optionalDuration) set(text, dir string) error {
	if text == "" {
		*v.p = nil
		return nil
	}
	var d time.Duration
	if err := (durationValue{&d, 0}).set(text, dir); err != nil {
		return err
	}
	*v.p = &d
	return nil
}

func (v optionalDuration) show() string {
	if *v.p == nil {
		return ""
	}
	return shortDuration(**v.p)
}

func (v optionalDuration) json() any {
	if *v.p == nil {
		return nil
	}
	return (*v.p).Seconds()
}

// shortDuration is time.Duration's text without its trailing zeros: 1h, not 1h0m0s.
func shortDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
