package fetch

import (
	"slices"
	"time"
)

const (
	// samples is how many first bytes the patience is computed from.
	samples = 128
	// fewSamples are too few to judge by.
	fewSamples = 16
	// lateFactor times what nineteen in twenty take is late.
	lateFactor = 3
	// firstPatience is the patience with a store that is not known yet.
	firstPatience = 2 * time.Second
	// leastPatience: a machine that is busy for a while is not a slow store.
	leastPatience = 100 * time.Millisecond
	// mostPatience: whatever the store is used to, a reader is not left waiting longer
	// for a request that may be lost.
	mostPatience = 10 * time.Second
	// hedgeShare is how many second requests there may be per request, and hedgeBurst
	// how many at once after a long time without.
	hedgeShare = 0.05
	hedgeBurst = 8
)

// Latency knows how long it takes to the first byte. It belongs to its owner's lock.
type Latency struct {
	ring    [samples]time.Duration
	n       int
	stale   int           // samples since patience was computed
	late    time.Duration // 0: too few samples
	allowed float64
}

// NewLatency knows nothing and allows a burst.
func NewLatency() *Latency { return &Latency{allowed: hedgeBurst} }

// Asked counts a request, which earns a share of a second one.
func (l *Latency) Asked() { l.allowed = min(l.allowed+hedgeShare, hedgeBurst) }

// Answered notes how long a first byte took.
func (l *Latency) Answered(d time.Duration) {
	l.ring[l.n%samples] = d
	l.n++
	if l.stale++; l.n < fewSamples || l.stale < fewSamples && l.late > 0 {
		return
	}
	l.stale = 0
	sorted := slices.Clone(l.ring[:min(l.n, samples)])
	slices.Sort(sorted)
	l.late = min(max(lateFactor*sorted[len(sorted)*19/20], leastPatience), mostPatience)
}

// Patience is how long to wait for a first byte before asking a second time.
func (l *Latency) Patience() time.Duration {
	if l.late == 0 {
		return firstPatience
	}
	return l.late
}

// Hedge asks for leave to ask a second time.
func (l *Latency) Hedge() bool {
	if l.allowed < 1 {
		return false
	}
	l.allowed--
	return true
}
