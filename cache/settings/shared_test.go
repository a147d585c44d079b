package settings_test

import (
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"depotfs/cache/settings"
)

var noon = time.Unix(1_700_000_000, 0)

func TestAnnouncementsAddUp(t *testing.T) {
	var s settings.Shared
	s = s.With("a", noon, map[string]string{"upload-limit": "1MiB", "s3.endpoint": "https://h"})
	first := s.Seq
	s = s.With("b", noon, map[string]string{"upload-limit": ""}) // the same second
	if s.Seq <= first || s.Zone != "b" {
		t.Errorf("number %d follows %d", s.Seq, first)
	}
	if got := s.Since(first); !maps.Equal(got, map[string]string{"upload-limit": ""}) {
		t.Errorf("news: %v", got)
	}
	if got := s.Since(0); len(got) != 2 || got["s3.endpoint"] != "https://h" {
		t.Errorf("all: %v", got)
	}
	// The object was removed: what follows is news for all all the same.
	var removed settings.Shared
	if again := removed.With("a", noon.Add(time.Minute), nil); again.Seq <= s.Seq {
		t.Errorf("number %d follows %d", again.Seq, s.Seq)
	}
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := settings.Decode(b)
	if err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("read back as %+v, %v", got, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for text, says := range map[string]string{
		"":                                   "damaged",
		`[]`:                                 "damaged",
		`{"format":1}`:                       "no number",
		`{"format":1,"seq":-1,"zone":"a"}`:   "damaged",
		`{"format":1,"seq":1,"zone":"../a"}`: "no zone",
		`{"format":1,"seq":1,"zone":"a","values":{"A B":{"value":"1","seq":1}}}`:       "no name",
		`{"format":1,"seq":1,"zone":"a","values":{"k":{"value":"1","seq":2}}}`:         "number 2 of 1",
		`{"format":1,"seq":1,"zone":"a","values":{"k":{"value":"1\n","seq":1}}}`:       "no text",
		`{"format":1,"seq":1,"zone":"a","values":{"k":1}}`:                             "damaged",
		`{"format":1,"seq":1,"zone":"a","note":"` + strings.Repeat("x", 70<<10) + `"}`: "larger than",
	} {
		if _, err := settings.Decode([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.80s: %v, want %s", text, err, says)
		}
	}
	if _, err := settings.Decode([]byte(`{"format":2,"seq":"new"}`)); !errors.Is(err, settings.ErrNewer) {
		t.Errorf("a newer format: %v", err)
	}
}

// Whatever is read is within the bounds, and can be written and read again.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"format":1,"seq":7,"zone":"a","at":"2026-01-02T03:04:05Z","values":{"upload-limit":{"value":"1MiB","seq":7}}}`))
	f.Add([]byte(`{"format":2}`))
	f.Add([]byte(`{"format":1,"seq":18446744073709551615,"zone":"a","values":{"k":{"value":"\ufffd","seq":1}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := settings.Decode(b)
		if err != nil {
			return
		}
		for key, text := range s.Since(0) {
			if len(key) > 64 || len(text) > 256 || strings.ContainsAny(text, "\x00\n\x1b") {
				t.Errorf("%q is %q", key, text)
			}
		}
		out, err := s.Encode()
		if err != nil {
			t.Fatalf("encode what was read: %v", err)
		}
		again, err := settings.Decode(out)
		if err != nil || again.Seq != s.Seq || !reflect.DeepEqual(again.Values, s.Values) && len(s.Values) > 0 {
			t.Fatalf("read back as %+v, %v", again, err)
		}
	})
}
