package cache

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	mrand "math/rand/v2"
	"sync"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/share"
)

// depot is a store that is switched on, with what we know of it. All work on it
// happens within use, so that it ends when the store is switched off.
type depot struct {
	store Store
	info  StoreInfo
	// probeKey is the object that is asked for to find out whether the store is back.
	probeKey string
	keys     keyLocks
	zeros    zeroObjects

	mu       sync.Mutex // guards below
	state    string     // connecting, on, unavailable, refused
	err      error
	id       string
	caps     Capabilities
	ready    chan struct{}                        // closed when the depot was joined
	broken   bool                                 // the breaker lets nobody through
	failures uint                                 // times that it broke without an answer in between
	closedTo time.Time                            // nobody asks before
	probing  bool                                 // somebody finds out whether the store is back
	news     broadcast                            // the breaker's state changed
	off      bool                                 // switched off or replaced, for good
	uses     map[*useMark]context.CancelCauseFunc // work under way
	idle     chan struct{}                        // closed when it is off and no work is under way any more
}

// depotFile is <prefix>.depotfs/depot.json: what makes a bucket and prefix a depot.
type depotFile struct {
	Format int    `json:"format"`
	ID     string `json:"id"`
	Region string `json:"region"`
}

const (
	depotFormat  = 1
	maxDepotFile = 64 << 10 // bytes; a real one has a hundred
)

func newDepot(s Store, info StoreInfo, probeKey string) *depot {
	d := &depot{info: info, probeKey: probeKey, state: "connecting", ready: make(chan struct{}),
		uses: map[*useMark]context.CancelCauseFunc{}, idle: make(chan struct{})}
	d.keys.init()
	d.news.init()
	d.store = breaker{lingering{s}, d}
	return d
}

// attachLoop joins the depot whenever a store was set, and then lists it.
func (c *Cache) attachLoop(ctx context.Context) error {
	var last *depot
	for {
		if d := c.depot.Load(); d != nil && d != last {
			last = d
			if err := c.attach(ctx, d); err != nil && ctx.Err() != nil {
				return ctx.Err()
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.newDepot:
		}
	}
}

// attach joins d and lists it; it tries again until that worked, ctx ends or the
// store is switched off. Only the error of one of these is returned.
func (c *Cache) attach(ctx context.Context, d *depot) error {
	ctx, done := d.use(ctx)
	defer done()
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		err := c.join(ctx, d)
		if err == nil {
			c.log.Info("depot joined", "bucket", d.info.Bucket, "prefix", c.cfg.Prefix, "id", d.id)
			c.loadQueue()
			err = c.importAll(ctx, d)
			if err == nil {
				c.sweepUploads(ctx, d)
				return nil
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d.refuse(err)
		c.log.Warn("depot not usable", "bucket", d.info.Bucket, "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(jitter(wait)):
		}
	}
}

// join reads or makes depot.json and checks that it is the depot that this zone
// and this share belong to; then probes what the store does.
func (c *Cache) join(ctx context.Context, d *depot) error {
	if d.joined() {
		return nil
	}
	f, err := c.readDepotFile(ctx, d)
	if errors.Is(err, ErrNotFound) {
		f, err = c.makeDepotFile(ctx, d)
	}
	if err != nil {
		return err
	}
	if err := c.checkDepot(f); err != nil {
		return err
	}
	caps, err := d.store.Probe(ctx, c.cfg.Prefix+share.Private+"/probe/"+c.zoneName()+"/")
	if err != nil {
		return fmt.Errorf("probe the store: %w", err)
	}
	if err := c.rememberDepot(f.ID); err != nil {
		return err
	}
	d.mu.Lock()
	d.id, d.caps = f.ID, caps
	d.mu.Unlock()
	d.report(nil)
	close(d.ready)
	return nil
}

func (c *Cache) zoneName() string {
	if c.cfg.Zone == "" {
		return "default"
	}
	return c.cfg.Zone
}

func (d *depot) joined() bool {
	select {
	case <-d.ready:
		return true
	default:
		return false
	}
}

func (c *Cache) depotKey() string { return c.cfg.Prefix + share.Private + "/depot.json" }

func (c *Cache) readDepotFile(ctx context.Context, d *depot) (depotFile, error) {
	var f depotFile
	body, _, err := d.store.Get(ctx, c.depotKey(), 0, -1, "")
	if err != nil {
		return f, fmt.Errorf("read %s: %w", c.depotKey(), err)
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, maxDepotFile))
	if err != nil {
		return f, fmt.Errorf("read %s: %w", c.depotKey(), err)
	}
	if err := json.Unmarshal(b, &f); err != nil || f.Format < 1 || f.ID == "" {
		return f, fmt.Errorf("%s in the bucket is damaged (%v): restore it, or use another prefix: %w", c.depotKey(), err, ErrRejected)
	}
	if f.Format > depotFormat {
		return f, fmt.Errorf("the depot has format %d and this depotfs knows up to %d: use a newer depotfs: %w", f.Format, depotFormat, ErrRejected)
	}
	return f, nil
}

func (c *Cache) makeDepotFile(ctx context.Context, d *depot) (depotFile, error) {
	var id [16]byte
	rand.Read(id[:])
	f := depotFile{Format: depotFormat, ID: hex.EncodeToString(id[:]), Region: c.cfg.DepotRegion}
	b, err := json.Marshal(f)
	if err != nil {
		return f, err
	}
	_, err = d.store.Put(ctx, c.depotKey(), bytes.NewReader(b), int64(len(b)), PutOptions{ContentType: "application/json", IfNoneMatch: true})
	if errors.Is(err, ErrChanged) { // another zone was faster
		return c.readDepotFile(ctx, d)
	}
	if err != nil {
		return f, fmt.Errorf("make %s: %w", c.depotKey(), err)
	}
	return f, nil
}

const settingDepot = "depot-id"

// checkDepot refuses a depot that is not the one that this zone knows.
func (c *Cache) checkDepot(f depotFile) error {
	if c.cfg.DepotRegion != "" && f.Region != "" && f.Region != c.cfg.DepotRegion {
		return fmt.Errorf("the depot belongs to the CloudStack region %q, this zone to %q: use another bucket or prefix: %w", f.Region, c.cfg.DepotRegion, ErrRejected)
	}
	known, err := c.setting(settingDepot)
	if err != nil {
		return err
	}
	if known != "" && known != f.ID {
		return fmt.Errorf("bucket and prefix hold the depot %s, this zone belongs to %s: nothing is sent or fetched until the settings name the right one: %w", f.ID, known, ErrRejected)
	}
	return nil
}

func (c *Cache) setting(name string) (string, error) {
	var v []byte
	err := c.cat.View(func(tx *catalog.Tx) error {
		var err error
		v, err = tx.Setting(name)
		if errors.Is(err, catalog.ErrNotFound) {
			return nil
		}
		return err
	})
	return string(v), err
}

func (c *Cache) putSetting(name, value string) error {
	return c.cat.Update(func(tx *catalog.Tx) error { return tx.PutSetting(name, []byte(value)) })
}

// refuse notes why the depot could not be joined.
func (d *depot) refuse(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state, d.err = "unavailable", err
	if errors.Is(err, ErrDenied) || errors.Is(err, ErrRejected) || errors.Is(err, ErrNotFound) {
		d.state = "refused"
	}
}

// admit waits until the depot is joined, and while the breaker lets nobody through:
// work that is begun then would only wait in the middle.
func (d *depot) admit(ctx context.Context) error {
	select {
	case <-d.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	return d.untilProbe(ctx)
}

// jitter spreads a wait by a quarter each way, so that zones do not ask in step.
func jitter(d time.Duration) time.Duration {
	return d - d/4 + mrand.N(d/2+1)
}

// backoff is how long to wait after the given number of failed attempts.
func backoff(attempts uint32, limit time.Duration) time.Duration {
	if attempts == 0 {
		return 0
	}
	d := time.Second << min(attempts-1, uint32(bits.Len64(uint64(limit/time.Second))))
	return jitter(min(d, limit))
}

// keyLocks makes sure that one key has one request that changes it at a time.
type keyLocks struct {
	mu sync.Mutex // guards m
	m  map[string]chan struct{}
}

func (k *keyLocks) init() { k.m = map[string]chan struct{}{} }

// lock waits for the key; ctx ends the wait.
func (k *keyLocks) lock(ctx context.Context, key string) (unlock func(), err error) {
	for {
		k.mu.Lock()
		held := k.m[key]
		if held == nil {
			mine := make(chan struct{})
			k.m[key] = mine
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				delete(k.m, key)
				k.mu.Unlock()
				close(mine)
			}, nil
		}
		k.mu.Unlock()
		select {
		case <-held:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
