package main

import (
	"context"
	"time"

	"depotfs/cache"
	"depotfs/fs"
	"depotfs/s3store"
)

// openStore connects to the store, where a bucket is named, and asks it whether
// it is the right one. A store that was switched off is left alone.
func (m *mount) openStore(ctx context.Context, last mountRecord) error {
	if m.cfg.Bucket == "" {
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
	store, asker, err := m.openStores()
	if err != nil {
		return err
	}
	if !m.cfg.NoStoreCheck {
		warning, err := checkStore(ctx, asker, m.cfg, last)
		if warning != "" {
			m.log.Warn(warning)
			m.tell(report{Warning: warning})
		}
		if err != nil {
			return err
		}
	}
	m.store = store
	return nil
}

// noRetry is s3store's word for it; its 0 is the default.
const noRetry = -1

func (m *mount) s3Config() s3store.Config {
	retries := m.cfg.MaxErrorRetry
	if retries == 0 {
		retries = noRetry
	}
	return s3store.Config{
		Bucket:         m.cfg.Bucket,
		Endpoint:       m.cfg.Endpoint,
		Region:         m.cfg.Region,
		PathStyle:      &m.cfg.PathStyle,
		UseHTTPS:       m.cfg.UseHTTPS,
		AccessKey:      s3store.Secret(m.cfg.AccessKey),
		SecretKey:      s3store.Secret(m.cfg.SecretKey),
		ConnectTimeout: m.cfg.ConnectTimeout,
		SocketTimeout:  m.cfg.SocketTimeout,
		MaxErrorRetry:  retries,
		UploadLimit:    m.cfg.UploadLimit,
		DownloadLimit:  m.cfg.DownloadLimit,
		UserAgent:      "depotfs/" + buildVersion(),
		Log:            m.log,
	}
}

// openHeart opens share and catalog.
func (m *mount) openHeart() error {
	heart, err := cache.New(cache.Config{
		CacheDir:     m.places.cacheDir,
		StateDir:     m.places.stateDir,
		Zone:         m.cfg.Zone,
		Prefix:       m.cfg.Prefix,
		DepotRegion:  m.cfg.DepotRegion,
		Deploy:       cache.Deploy(m.cfg.Deploy),
		CacheSize:    m.cfg.CacheSize,
		MinFree:      m.cfg.MinFree,
		Capacity:     m.cfg.Capacity,
		Settle:       m.cfg.Settle,
		ShareDeletes: m.shareDeletes(),
		ScanInterval: m.cfg.ScanInterval,
		ScanFull:     m.cfg.ScanFull,
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
	})
	if err != nil {
		return err
	}
	m.heart = heart
	m.closers = append(m.closers, heart)
	return nil
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
