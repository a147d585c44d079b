package fetch_test

import (
	"testing"
	"time"

	"depotfs/cache/fetch"
)

func TestPatienceFollowsTheStore(t *testing.T) {
	l := fetch.NewLatency()
	if p := l.Patience(); p < time.Second {
		t.Errorf("%v with a store that nobody knows", p)
	}
	for _, tt := range []struct {
		takes, least, most time.Duration
	}{
		{time.Millisecond, 50 * time.Millisecond, time.Second},
		{200 * time.Millisecond, 400 * time.Millisecond, 2 * time.Second},
		{time.Minute, 5 * time.Second, 20 * time.Second},
		{20 * time.Millisecond, 50 * time.Millisecond, time.Second},
	} {
		for range 300 {
			l.Answered(tt.takes)
		}
		if p := l.Patience(); p < tt.least || p > tt.most {
			t.Errorf("answers in %v: patience %v, want %v to %v", tt.takes, p, tt.least, tt.most)
		}
	}
	// Few that are very late do not make the rest late.
	for i := range 300 {
		d := 20 * time.Millisecond
		if i%40 == 0 {
			d = 3 * time.Second
		}
		l.Answered(d)
	}
	if p := l.Patience(); p > time.Second {
		t.Errorf("patience %v for one straggler in 40", p)
	}
}

// Second requests stay a small share, whatever the store does.
func TestHedgesAreFew(t *testing.T) {
	l := fetch.NewLatency()
	hedges := 0
	const requests = 10_000
	for range requests {
		l.Asked()
		if l.Hedge() {
			hedges++
		}
	}
	if hedges > requests/15 || hedges < requests/30 {
		t.Errorf("%d second requests for %d", hedges, requests)
	}
}
