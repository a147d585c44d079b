package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"

	"depotfs/cache"
)

// tuned is what a change of settings needs of *cache.Cache.
type tuned interface {
	Setting(name string) (string, error)
	PutSettings(ctx context.Context, values map[string]string) error
	Transfers() cache.Transfers
	SetTransfers(t cache.Transfers) error
}

// limited is a store whose transfer limits can be changed.
type limited interface{ SetLimits(upload, download int64) }

// tuning is the settings of a running mount, of which some can be changed.
type tuning struct {
	heart tuned
	log   *slog.Logger

	mu    sync.Mutex        // guards below; held for one change at a time
	base  Config            // as the mount was started
	now   Config            // with what was set since
	set   map[string]string // that, by name of the option
	store limited           // nil: none, or one without limits
}

// settingPrefix begins the catalog's names of what config set has set.
const settingPrefix = "config."

func newTuning(cfg Config, log *slog.Logger) *tuning {
	return &tuning{log: log, base: cfg, now: cfg, set: map[string]string{}}
}

// start takes up what was set in earlier mounts. What this version does not take is
// left out, and said.
func (t *tuning) start(heart tuned) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heart = heart
	set := map[string]string{}
	for _, name := range liveNames() {
		text, err := heart.Setting(settingPrefix + name)
		if err != nil {
			return fmt.Errorf("read the setting %s: %w", name, err)
		}
		if text == "" {
			continue
		}
		set[name] = text
		if _, err := t.with(set); err != nil {
			t.log.Warn("a setting of config set is left out", "key", name, "value", text, "err", err)
			delete(set, name)
		}
	}
	next, err := t.with(set)
	if err != nil {
		return err
	}
	return t.apply(next, set)
}

// with is the configuration with some settings over those of the mount.
func (t *tuning) with(set map[string]string) (Config, error) {
	next := t.base
	next.origin = maps.Clone(t.base.origin)
	for name, text := range set {
		o := optionCalled(name)
		if err := o.at(&next).set(text, "/"); err != nil {
			return next, usagef("%s: %v", name, err)
		}
		next.origin[name] = "config set; was " + o.at(&t.base).show()
	}
	if err := next.validate(); err != nil {
		return next, err
	}
	return next, next.transfers().Validate()
}

// apply makes next the settings that are in force.
func (t *tuning) apply(next Config, set map[string]string) error {
	if err := t.heart.SetTransfers(next.transfers()); err != nil {
		return err
	}
	t.now, t.set = next, set
	if t.store != nil {
		t.store.SetLimits(next.UploadLimit, next.DownloadLimit)
	}
	return nil
}

// change is `depotfs config set`.
func (t *tuning) change(ctx context.Context, req pathsRequest, out *stream) error {
	changes, err := parseChanges(req.Set)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	set, record := maps.Clone(t.set), map[string]string{}
	for _, ch := range changes {
		record[settingPrefix+ch.option.name] = ch.text
		if set[ch.option.name] = ch.text; ch.text == "" {
			delete(set, ch.option.name)
		}
	}
	next, err := t.with(set)
	if err != nil {
		return fmt.Errorf("%w; nothing was changed", err)
	}
	if err := t.heart.PutSettings(ctx, record); err != nil {
		return fmt.Errorf("record the settings: %w; nothing was changed", err)
	}
	was := t.now
	if err := t.apply(next, set); err != nil {
		return err
	}
	for _, ch := range changes {
		before, after := ch.option.at(&was).show(), ch.option.at(&next).show()
		t.log.Info("setting changed", "key", ch.option.name, "from", before, "to", after)
		out.send(event{Said: fmt.Sprintf("%s is %s, was %s", ch.option.fileKey(), after, before)})
	}
	return nil
}

// manage has a store, which takes the place of a former one, follow the limits.
func (t *tuning) manage(s cache.Store) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ok bool
	if t.store, ok = s.(limited); ok {
		t.store.SetLimits(t.now.UploadLimit, t.now.DownloadLimit)
	}
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
}

// transfers are the limits that the heart keeps.
func (c *Config) transfers() cache.Transfers {
	return cache.Transfers{UploadFiles: c.UploadFiles, UploadParts: c.UploadParts, PartSize: c.PartSize}
}
