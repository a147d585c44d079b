package cache

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
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
	line  *replaceable // below it: the settings that are in force
	// probeKey is the object that is asked for to find out whether the store is back.
	probeKey string
	keys     keyLocks
	zeros    zeroObjects

	mu       sync.Mutex // guards below
	info     StoreInfo
	state    string // connecting, on, unavailable, refused
	err      error
	id       string
	caps     Capabilities
	ready    chan struct{}                        // closed when the depot was joined
	broken   bool                                 // the breaker lets nobody through
	failures uint                                 // times that it broke without an answer in between
	closedTo time.Time                            // nobody asks before
	probing  bool                                 // somebody finds out whether the store is back
	news     broadcast                            // the breaker's state changed
	renewed  broadcast                            // ReplaceStore has other settings in force
	renewals int                                  // how often it had
	off      bool                                 // switched off or replaced, for good
	uses     map[*useMark]context.CancelCauseFunc // work under way
	idle     chan struct{}                        // closed when it is off and no work is under way any more
	lease    lease

	beatNow chan struct{} // somebody waits until this zone has said that it is alive
}

// depotFile is <prefix>.depotfs/depot.json: what makes a bucket and prefix a depot.
type depotFile struct {
	Format int    `json:"format"`
	ID     string `json:"id"`
	Region string `json:"region"`
	etag   string // of what was read
}

const (
	depotFormat  = 1
	maxDepotFile = 64 << 10 // bytes; a real one has a hundred
)

func newDepot(s Store, info StoreInfo, probeKey string) *depot {
	d := &depot{info: info, probeKey: probeKey, state: "connecting", ready: make(chan struct{}), beatNow: make(chan struct{}),
		uses: map[*useMark]context.CancelCauseFunc{}, idle: make(chan struct{})}
	d.keys.init()
	d.news.init()
	d.renewed.init()
	d.line = newReplaceable(s)
	d.store = breaker{lingering{d.line}, d}
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
		renewed := d.renewed.wait()
		err := c.join(ctx, d)
		if err == nil {
			c.log.Info("depot joined", "bucket", d.named().Bucket, "prefix", c.cfg.Prefix, "id", d.id)
			c.loadQueue()
			c.brake.wakeUp()
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
		c.log.Warn("depot not usable", "bucket", d.named().Bucket, "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-renewed:
			wait = time.Second
		case <-time.After(jitter(wait)):
		}
	}
}

// join reads or makes depot.json and checks that it is the depot that this zone
// and this share belong to; then probes what the store does, and takes the zone's name.
func (c *Cache) join(ctx context.Context, d *depot) error {
	if d.joined() {
		return nil
	}
	f, err := readDepotFile(ctx, d.store, c.cfg.Prefix)
	if errors.Is(err, ErrNotFound) {
		f, err = c.makeDepotFile(ctx, d)
	}
	if err != nil {
		return err
	}
	warning, err := c.checkDepot(f)
	if err != nil {
		return err
	}
	if _, err := c.mayRegister(ctx, d.store); err != nil {
		return err
	}
	caps, err := d.store.Probe(ctx, c.cfg.Prefix+share.Private+"/probe/"+c.zoneName()+"/")
	if err != nil {
		return fmt.Errorf("probe the store: %w", err)
	}
	caps.ClockSkew -= time.Until(c.now()) // it was measured by the machine's clock
	if err := c.rememberDepot(f.ID); err != nil {
		return err
	}
	if err := c.rememberSkew(caps.ClockSkew); err != nil {
		return err
	}
	if err := c.nameRegion(ctx, d, caps, f); err != nil {
		return err
	}
	if err := c.register(ctx, d, caps); err != nil {
		return err
	}
	if err := c.noteEnds(ctx, d.store); err != nil { // nothing is listed before it is joined
		return err
	}
	c.zones.warn(warning, c.log)
	d.learn(f.ID, caps)
	c.wakeTeller()
	c.zones.wakeUp()
	return nil
}

// learn notes which depot it is and what the store does: it is joined.
func (d *depot) learn(id string, caps Capabilities) {
	d.mu.Lock()
	d.id, d.caps = id, caps
	if !d.joined() {
		close(d.ready)
	}
	d.mu.Unlock()
	d.report(nil)
}

// named is what people are shown of the store.
func (d *depot) named() StoreInfo {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.info
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

func depotKey(prefix string) string { return prefix + share.Private + "/depot.json" }

func (c *Cache) depotKey() string { return depotKey(c.cfg.Prefix) }

func readDepotFile(ctx context.Context, s Store, prefix string) (depotFile, error) {
	var f depotFile
	key := depotKey(prefix)
	b, info, err := readSmall(ctx, s, key, "", maxDepotFile)
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(b, &f); err != nil || f.Format < 1 || f.ID == "" {
		return f, fmt.Errorf("%s in the bucket is damaged (%v): restore it, or use another prefix: %w", key, err, ErrRejected)
	}
	if f.Format > depotFormat {
		return f, fmt.Errorf("the depot has format %d and this depotfs knows up to %d: use a newer depotfs: %w", f.Format, depotFormat, ErrRejected)
	}
	f.etag = info.ETag
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
		return readDepotFile(ctx, d.store, c.cfg.Prefix)
	}
	if err != nil {
		return f, fmt.Errorf("make %s: %w", c.depotKey(), err)
	}
	return f, nil
}

const settingDepot = "depot-id"

// checkDepot refuses a depot that is not the one that this zone knows.
func (c *Cache) checkDepot(f depotFile) (warning string, err error) {
	known, err := c.setting(settingDepot)
	if err != nil {
		return "", err
	}
	if known != "" && known != f.ID {
		return "", fmt.Errorf("bucket and prefix hold the depot %s, this zone belongs to %s: nothing is sent or fetched until the settings name the right one: %w", f.ID, known, ErrRejected)
	}
	return checkRegion(f, c.cfg.DepotRegion, known != "")
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

// admit waits until the depot is joined, while the breaker lets nobody through, since work
// that is begun then would only wait in the middle, and while this zone's name may be
// another's.
func (d *depot) admit(ctx context.Context) error {
	select {
	case <-d.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := d.untilProbe(ctx); err != nil {
		return err
	}
	return d.untilRegistered(ctx)
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
