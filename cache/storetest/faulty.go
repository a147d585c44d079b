package storetest

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"depotfs/cache"
)

// Op names a kind of request as in cache.StoreUsage.Requests; Any is all of them.
type Op string

// The kinds of request. Bucket is Probe.
const (
	Any         Op = ""
	Get         Op = "get"
	Put         Op = "put"
	Head        Op = "head"
	List        Op = "list"
	Delete      Op = "delete"
	Copy        Op = "copy"
	PutPart     Op = "part"
	CopyPart    Op = "part-copy"
	Create      Op = "create"
	Complete    Op = "complete"
	Abort       Op = "abort"
	ListParts   Op = "list-parts"
	ListUploads Op = "list-uploads"
	Bucket      Op = "bucket"
)

// Faulty passes requests on to a store and does to them what was injected.
// It is safe for concurrent use. Faults are tried in the order of injection;
// every request meets at most one.
type Faulty struct {
	store cache.Store
	down  atomic.Bool

	mu     sync.Mutex
	faults []*Fault   // guarded by mu
	calls  map[Op]int // guarded by mu: all but those between zones
	zones  map[Op]int // guarded by mu: those between zones
}

var _ cache.Store = (*Faulty)(nil)

// NewFaulty makes a faulty front of s without faults.
func NewFaulty(s cache.Store) *Faulty {
	return &Faulty{store: s, calls: make(map[Op]int), zones: make(map[Op]int)}
}

// SetDown makes every request, and every body that is being read, fail with
// ErrUnavailable until it is called with false. Requests that are inside the
// store already are not touched.
func (f *Faulty) SetDown(down bool) { f.down.Store(down) }

// Inject adds faults.
func (f *Faulty) Inject(faults ...*Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, faults...)
}

// Clear removes all faults that are left.
func (f *Faulty) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = nil
}

// Pending says how many faults have not struck as often as they should.
// Faults that strike for ever do not count.
func (f *Faulty) Pending() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, x := range f.faults {
		if x.left > 0 {
			n++
		}
	}
	return n
}

// Calls says how many requests of a kind have come, those that failed included, and those
// BetweenZones not.
func (f *Faulty) Calls(op Op) int { return f.count(op, f.calls) }

// ZoneCalls is Calls for those BetweenZones alone.
func (f *Faulty) ZoneCalls(op Op) int { return f.count(op, f.zones) }

func (f *Faulty) count(op Op, calls map[Op]int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if op != Any {
		return calls[op]
	}
	n := 0
	for _, c := range calls {
		n += c
	}
	return n
}

// begin counts a request, takes its fault and does what comes before the
// request itself. The fault is never nil.
func (f *Faulty) begin(ctx context.Context, op Op, key string) (*Fault, error) {
	f.mu.Lock()
	if BetweenZones(key) {
		f.zones[op]++
	} else {
		f.calls[op]++
	}
	x := &Fault{}
	if i := slices.IndexFunc(f.faults, func(x *Fault) bool { return x.strikes(op, key) }); i >= 0 {
		x = f.faults[i]
		if x.left == 0 {
			f.faults = slices.Delete(f.faults, i, i+1)
		}
	}
	f.mu.Unlock()
	if err := f.unavailable(op, key); err != nil {
		return x, err
	}
	if x.before != nil {
		if err := x.before(ctx, key); err != nil {
			return x, fmt.Errorf("%s %q: %w", op, key, err)
		}
		if err := f.unavailable(op, key); err != nil {
			return x, err
		}
	}
	if x.err != nil && !x.late {
		return x, fmt.Errorf("%s %q: %w", op, key, x.err)
	}
	return x, nil
}

func (f *Faulty) unavailable(op Op, key string) error {
	if f.down.Load() {
		return fmt.Errorf("%s %q: switched off by the test: %w", op, key, cache.ErrUnavailable)
	}
	return nil
}

// end replaces the answer of a request whose answer is to be lost, and does what comes
// before any.
func (x *Fault) end(op Op, key string, err error) error {
	if err == nil && x.then != nil {
		x.then()
	}
	if err == nil && x.late {
		return fmt.Errorf("%s %q: answer lost: %w", op, key, x.err)
	}
	return err
}

// faultyBody is a body on its way from the store.
type faultyBody struct {
	io.ReadCloser
	f   *Faulty
	x   *Fault
	key string
	pos int64
}

func (b *faultyBody) Read(p []byte) (int, error) {
	if b.f.down.Load() {
		return 0, io.ErrUnexpectedEOF
	}
	if b.x.cut {
		if b.pos >= b.x.at {
			if n, err := b.ReadCloser.Read(make([]byte, 1)); n == 0 && err != nil {
				return 0, err // it ends here anyway
			}
			return 0, io.ErrUnexpectedEOF
		}
		p = p[:min(int64(len(p)), b.x.at-b.pos)]
	}
	n, err := b.ReadCloser.Read(p)
	b.x.damage(p[:n], b.pos)
	b.pos += int64(n)
	return n, err
}

// damagedBody is a body on its way to the store.
type damagedBody struct {
	io.ReaderAt
	x *Fault
}

func (b damagedBody) ReadAt(p []byte, off int64) (int, error) {
	n, err := b.ReaderAt.ReadAt(p, off)
	b.x.damage(p[:n], off)
	return n, err
}

// body prepares a body for sending; a cut body ends the request here, after
// the bytes before the cut were read.
func (x *Fault) body(op Op, key string, body io.ReaderAt, size int64) (io.ReaderAt, error) {
	if x.cut && x.at < size {
		if _, err := io.Copy(io.Discard, io.NewSectionReader(body, 0, x.at)); err != nil {
			return nil, fmt.Errorf("%s %q: read body: %w", op, key, err)
		}
		return nil, fmt.Errorf("%s %q: connection cut after %d bytes: %w", op, key, x.at, cache.ErrUnavailable)
	}
	if x.corrupt {
		return damagedBody{body, x}, nil
	}
	return body, nil
}
