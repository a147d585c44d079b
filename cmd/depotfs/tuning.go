package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"depotfs/cache"
	"depotfs/cache/settings"
)

// tuned is what a change of settings needs of *cache.Cache.
type tuned interface {
	Setting(name string) (string, error)
	PutSettings(ctx context.Context, values map[string]string) error
	SetTransfers(t cache.Transfers) error
	SharedSettings(ctx context.Context) (settings.Shared, error)
	ShareSettings(ctx context.Context, s cache.Store, values map[string]string) (before, now settings.Shared, err error)
	StoreOn() bool
	ReplaceStore(ctx context.Context, s cache.Store, info cache.StoreInfo, record func(ctx context.Context, s cache.Store) error) error
	SetTrashRetention(d time.Duration)
}

// limited is a store whose transfer limits can be changed.
type limited interface{ SetLimits(upload, download int64) }

// tuning is the settings of a running mount, of which some can be changed.
type tuning struct {
	dir     string // the state directory
	heart   tuned  // nil until start
	connect func(cfg Config, old cache.Store) (store, asker cache.Store, err error)
	moved   func(Config) // told of another bucket or endpoint; may be nil
	log     *slog.Logger

	changing chan struct{} // held by who changes settings, or switches the store

	mu    sync.Mutex    // guards below
	base  Config        // as the mount was started
	now   Config        // with what was set since
	saved savedSettings // that
	store cache.Store   // nil: none was opened
	told  cache.SharedStatus
}

// settingPrefix begins the catalog's names of what earlier versions have set.
const settingPrefix = "config."

func newTuning(cfg Config, dir string, log *slog.Logger) *tuning {
	return &tuning{dir: dir, log: log, base: cfg, now: cfg, saved: savedSettings{Format: settingsFormat}.clone(),
		connect: connector{log}.connect, changing: make(chan struct{}, 1)}
}

// load takes up what was set in earlier mounts, as far as the settings file has it. What
// this version does not take is left out, and said.
func (t *tuning) load() error {
	saved, found, err := readSettings(t.dir)
	if err != nil || !found {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.takeLocked(saved)
	if len(t.saved.Set) > 0 {
		t.log.Info("what config set has set goes before the options of the mount", "keys", strings.Join(slices.Sorted(maps.Keys(t.saved.Set)), ", "))
	}
	return nil
}

// takeLocked has saved count, without what cannot; settings of the store count together.
func (t *tuning) takeLocked(saved savedSettings) {
	next, err := t.with(saved.Set)
	if err != nil {
		all := saved.Set
		saved.Set = map[string]string{}
		try := func(names ...string) {
			set := maps.Clone(saved.Set)
			for _, name := range names {
				set[name] = all[name]
			}
			n, err := t.with(set)
			if err != nil {
				t.log.Warn("what config set has set is left out", "keys", strings.Join(names, ", "), "err", err)
				return
			}
			next, saved.Set = n, set
		}
		next, _ = t.with(nil)
		var store []string
		for name := range all {
			switch o := optionCalled(name); {
			case o == nil || !o.live:
				t.log.Warn("what config set has set is left out", "keys", name, "err", "this depotfs cannot change it while it runs")
			case strings.HasPrefix(o.fileKey(), "s3."):
				store = append(store, name)
			default:
				try(name)
			}
		}
		if len(store) > 0 {
			try(store...)
		}
	}
	t.now, t.saved = next, saved
}

// start hands over the heart. What versions without a settings file have set is in its
// catalog.
func (t *tuning) start(heart tuned) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heart = heart
	saved := t.saved.clone()
	for _, name := range liveNames() {
		text, err := heart.Setting(settingPrefix + optionCalled(name).name)
		if err != nil {
			return fmt.Errorf("read the setting %s: %w", name, err)
		}
		if _, set := saved.Set[optionCalled(name).name]; text != "" && !set {
			saved.Set[optionCalled(name).name] = text
		}
	}
	if len(saved.Set) > len(t.saved.Set) {
		t.takeLocked(saved)
	}
	t.heart.SetTrashRetention(t.now.TrashRetention)
	return t.heart.SetTransfers(t.now.transfers())
}

// with is the configuration with some settings over those of the mount.
func (t *tuning) with(set map[string]string) (Config, error) {
	next := t.base
	next.origin = maps.Clone(t.base.origin)
	next.unfillStore()
	for i := range options {
		o := &options[i]
		text, ok := set[o.name]
		if !ok {
			continue
		}
		if err := o.at(&next).set(text, "/"); err != nil {
			return next, usagef("%s: %v", o.fileKey(), err)
		}
		was := o.at(&t.base).show()
		if was == "" {
			was = "not set"
		}
		next.origin[o.name] = "config set; was " + was
	}
	for name := range set {
		if o := optionCalled(name); o == nil || !o.live {
			return next, usagef("%s cannot be changed while running", printableKey(name))
		}
	}
	if _, ok := set["access-key"]; ok && set["session-token"] == "" { // that of the file is of the file's keys
		next.SessionToken, next.origin["session-token"] = "", "config set: none with its access key"
	}
	next.fillStore()
	if err := next.validate(); err != nil {
		return next, err
	}
	if next.Bucket != "" {
		if err := s3Config(next, nil).Validate(); err != nil {
			return next, usagef("%v", err)
		}
	}
	return next, next.transfers().Validate()
}

// lock lets one at a time change settings.
func (t *tuning) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case t.changing <- struct{}{}:
		return func() { <-t.changing }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// limitLocked has the store keep the limits; t.mu is held.
func (t *tuning) limitLocked() {
	if s, ok := t.store.(limited); ok {
		s.SetLimits(t.now.UploadLimit, t.now.DownloadLimit)
	}
}

// opened notes the store that is in force from now on.
func (t *tuning) opened(s cache.Store) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.store != nil && t.store != s {
		closeStore(t.store)
	}
	t.store = s
	t.limitLocked()
}

// open makes a store of the settings that are in force.
func (t *tuning) open() (store, asker cache.Store, err error) {
	t.mu.Lock()
	now, old := t.now, t.store
	t.mu.Unlock()
	return t.connect(now, old)
}

// config is the configuration that is in force.
func (t *tuning) config() Config {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now
}

// settings are for config show.
func (t *tuning) settings() []setting {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now.settings()
}

// describe adds the limits to a status.
func (t *tuning) describe(st *cache.Status) {
	t.mu.Lock()
	defer t.mu.Unlock()
	st.Limits.Upload, st.Limits.Download = t.now.UploadLimit, t.now.DownloadLimit
	st.Shared = t.told
	st.Shared.Applied = t.saved.Shared
}

// transfers are the limits that the heart keeps.
func (c *Config) transfers() cache.Transfers {
	return cache.Transfers{UploadFiles: c.UploadFiles, UploadParts: c.UploadParts, PartSize: c.PartSize}
}
