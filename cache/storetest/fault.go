package storetest

import (
	"context"
	"strings"

	"depotfs/cache"
)

// Fault is one thing that goes wrong with one request (see Times). A Fault
// must not be changed after it was injected, nor injected twice. One that is not limited
// to keys (see On) spares the registrations of zones, for which requests come by themselves.
type Fault struct {
	op     Op
	part   string
	skip   int // matching requests that pass first
	left   int // how often it still strikes; negative = for ever
	before func(ctx context.Context, key string) error
	then   func()

	err     error // answered instead of (or, when late, after) the request
	late    bool
	cut     bool // the body ends at at
	corrupt bool // the byte at at is another one
	at      int64
}

// Fail answers err instead of passing the request on.
func Fail(op Op, err error) *Fault { return &Fault{op: op, left: 1, err: err} }

// LoseAnswer passes the request on and then answers ErrUnavailable although it
// succeeded.
func LoseAnswer(op Op) *Fault {
	return &Fault{op: op, left: 1, err: cache.ErrUnavailable, late: true}
}

// Delay holds the request until gate is closed (or gives a value) or its ctx ends.
func Delay(op Op, gate <-chan struct{}) *Fault {
	return Before(op, func(ctx context.Context, _ string) error {
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// Before runs fn ahead of the request, which gets fn's error or goes on. fn is
// called in the request's own goroutine and may use the store.
func Before(op Op, fn func(ctx context.Context, key string) error) *Fault {
	return &Fault{op: op, left: 1, before: fn}
}

// Then runs fn between the success of the request and its answer.
func Then(op Op, fn func()) *Fault { return &Fault{op: op, left: 1, then: fn} }

// Cut ends the body after n bytes: a Get's reader answers io.ErrUnexpectedEOF,
// a Put or PutPart stores nothing and answers ErrUnavailable. Bodies of n or
// fewer bytes pass.
func Cut(op Op, n int64) *Fault { return &Fault{op: op, left: 1, cut: true, at: n} }

// Corrupt inverts the byte number n of the body, counted from the body's start.
func Corrupt(op Op, n int64) *Fault { return &Fault{op: op, left: 1, corrupt: true, at: n} }

// On limits the fault to keys (List, ListUploads: prefixes) that contain part.
func (x *Fault) On(part string) *Fault {
	x.part = part
	return x
}

// After lets n matching requests pass first.
func (x *Fault) After(n int) *Fault {
	x.skip = n
	return x
}

// Times makes the fault strike n requests one after another, not one.
func (x *Fault) Times(n int) *Fault {
	x.left = n
	return x
}

// Always makes the fault strike until Faulty.Clear.
func (x *Fault) Always() *Fault {
	x.left = -1
	return x
}

// strikes decides on one request and counts it. Faulty.mu is held.
func (x *Fault) strikes(op Op, key string) bool {
	if x.op != Any && x.op != op || !strings.Contains(key, x.part) || x.part == "" && strings.Contains("/"+key, "/.depotfs/zones/") {
		return false
	}
	if x.skip > 0 {
		x.skip--
		return false
	}
	if x.left > 0 {
		x.left--
	}
	return true
}

// damage inverts the byte of p, which lies at off, that the fault names.
func (x *Fault) damage(p []byte, off int64) {
	if i := x.at - off; x.corrupt && i >= 0 && i < int64(len(p)) {
		p[i] ^= 0xff
	}
}
