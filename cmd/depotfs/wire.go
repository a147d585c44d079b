package main

import (
	"context"
	"errors"
	"time"

	"depotfs/cache"
	"depotfs/fs"
)

// openStore connects to the store, where a bucket is named, and asks it whether
// it is the right one. A store that was switched off is left alone.
func (m *mount) openStore(ctx context.Context, last mountRecord) error {
	cfg := m.tuning.config()
	if cfg.Bucket == "" {
		return nil
	}
	if m.heart != nil {
		since, off, err := m.heart.Disabled()
		if err != nil {
			return err
		}
		if off {
			warning := "the store stays off: it was disabled at " + since.Local().Format(time.DateTime) + "; depotfs enable switches it on"
			m.log.Warn(warning)
			m.tell(report{Warning: warning})
			return nil
		}
	}
	store, asker, err := m.tuning.open()
	if err != nil {
		return err
	}
	if !cfg.NoStoreCheck {
		warning, err := checkStore(ctx, asker, cfg, last)
		if warning != "" {
			m.log.Warn(warning)
			m.tell(report{Warning: warning})
		}
		if err == nil && warning == "" {
			err = m.askDepot(ctx, asker, last)
		}
		if err != nil {
			return err
		}
	}
	m.store = store
	m.tuning.opened(store)
	return nil
}

// askDepot finds out whether the depot would refuse this zone. A first mount fails then:
// most likely an option is wrong. Another one goes on with what is here, and says so.
func (m *mount) askDepot(ctx context.Context, asker cache.Store, last mountRecord) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	err := cache.CheckJoin(ctx, asker, m.heartConfig(), m.heart)
	if err == nil || !errors.Is(err, cache.ErrRejected) {
		return nil // whatever else it is, joining finds it too, and tries again
	}
	if last.Format == 0 {
		return err
	}
	warning := err.Error() + "; mounted with what is here, nothing is sent or told to other zones until that has changed"
	m.log.Warn(warning)
	m.tell(report{Warning: warning})
	return nil
}

// openHeart opens share and catalog.
func (m *mount) openHeart() error {
	rules, err := deleteRules(m.cfg.Deletes)
	if err != nil {
		return usagef("--deletes: %v", err)
	}
	cfg := m.heartConfig()
	cfg.Rules = rules
	if cfg.Now, err = clock(); err != nil {
		return err
	}
	heart, err := cache.New(cfg)
	if err != nil {
		return err
	}
	m.heart = heart
	m.closers = append(m.closers, heart)
	return nil
}

func (m *mount) heartConfig() cache.Config {
	return cache.Config{
		CacheDir:       m.places.cacheDir,
		StateDir:       m.places.stateDir,
		Zone:           m.cfg.Zone,
		Version:        buildVersion(),
		Prefix:         m.cfg.Prefix,
		DepotRegion:    m.cfg.DepotRegion,
		Deploy:         cache.Deploy(m.cfg.Deploy),
		CacheSize:      m.cfg.CacheSize,
		MinFree:        m.cfg.MinFree,
		Capacity:       m.cfg.Capacity,
		Settle:         m.cfg.Settle,
		ShareDeletes:   m.shareDeletes(),
		Brake:          &m.cfg.Brake,
		ScanInterval:   m.cfg.ScanInterval,
		ScanFull:       m.cfg.ScanFull,
		PollInterval:   m.cfg.PollInterval,
		ListInterval:   m.cfg.ListInterval,
		TrashRetention: trashRetention(m.cfg.TrashRetention),
		Limits: cache.Limits{
			UploadFiles: m.cfg.UploadFiles,
			UploadParts: m.cfg.UploadParts,
			Fetches:     m.cfg.Fetches,
			PartSize:    m.cfg.PartSize,
			CompareRate: compareRate(m.cfg.CompareLimit),
			ColdTimeout: m.cfg.ColdTimeout,
			MaxDirtyAge: m.cfg.MaxDirtyAge,
		},
		Log:    m.log,
		Notify: m.kernel,
	}
}

// trashRetention says "nothing is kept" in the heart's way, whose 0 is the default.
func trashRetention(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// compareRate says "no limit" in the heart's way, whose 0 is the default.
func compareRate(limit int64) int64 {
	if limit == 0 {
		return -1
	}
	return limit
}

// shareDeletes leaves "auto" to the heart, which goes by how the mount is used.
func (m *mount) shareDeletes() cache.ShareDeletes {
	if m.cfg.ShareDeletes == "auto" {
		return ""
	}
	return cache.ShareDeletes(m.cfg.ShareDeletes)
}

// openKernel makes the kernel's door. It mounts later: the heart needs it first,
// to say what changed.
func (m *mount) openKernel() error {
	kernel, err := fs.New(fs.Options{
		Mountpoint:  m.places.mountpoint,
		FsName:      sourcePrefix + m.places.stateDir,
		AllowOther:  m.cfg.AllowOther,
		Deploy:      cache.Deploy(m.cfg.Deploy),
		Passthrough: fs.Mode(m.cfg.Passthrough),
		Log:         m.log,
	})
	m.kernel = kernel
	return err
}
