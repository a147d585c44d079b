package main

import (
	"log/slog"

	"depotfs/cache"
	"depotfs/s3store"
)

// connector makes stores of settings.
type connector struct{ log *slog.Logger }

// connect makes a store of cfg twice: for work, and to ask it whether it is there. The
// question must not be drawn out by the retries that are right for work. The first goes on
// with the counters and limits of old, where there is one.
func (k connector) connect(cfg Config, old cache.Store) (store, asker cache.Store, err error) {
	patient := s3Config(cfg, k.log)
	if former, ok := old.(*s3store.Store); ok {
		store, err = former.Renew(patient)
	} else {
		store, err = s3store.New(patient)
	}
	if err != nil {
		return nil, nil, usagef("%v", err)
	}
	impatient := patient
	impatient.MaxErrorRetry = noRetry
	if asker, err = s3store.New(impatient); err != nil {
		return nil, nil, usagef("%v", err)
	}
	return store, asker, nil
}

// noRetry is s3store's word for it; its 0 is the default.
const noRetry = -1

func s3Config(cfg Config, log *slog.Logger) s3store.Config {
	retries := cfg.MaxErrorRetry
	if retries == 0 {
		retries = noRetry
	}
	return s3store.Config{
		Bucket:         cfg.Bucket,
		Endpoint:       cfg.Endpoint,
		Region:         cfg.Region,
		PathStyle:      &cfg.PathStyle,
		UseHTTPS:       cfg.UseHTTPS,
		AccessKey:      s3store.Secret(cfg.AccessKey),
		SecretKey:      s3store.Secret(cfg.SecretKey),
		SessionToken:   s3store.Secret(cfg.SessionToken),
		ConnectTimeout: cfg.ConnectTimeout,
		SocketTimeout:  cfg.SocketTimeout,
		MaxErrorRetry:  retries,
		UploadLimit:    cfg.UploadLimit,
		DownloadLimit:  cfg.DownloadLimit,
		UserAgent:      "depotfs/" + buildVersion(),
		Log:            log,
	}
}

// sameStore says whether two settings lead to the same store in the same way.
func sameStore(a, b Config) bool {
	x, y := s3Config(a, nil), s3Config(b, nil)
	if *x.PathStyle != *y.PathStyle {
		return false
	}
	x.PathStyle, y.PathStyle = nil, nil
	x.UploadLimit, x.DownloadLimit, y.UploadLimit, y.DownloadLimit = 0, 0, 0, 0 // these change by themselves
	return x == y
}

// storeInfo is what status shows of a store.
func storeInfo(cfg Config) cache.StoreInfo {
	return cache.StoreInfo{Bucket: cfg.Bucket, Endpoint: cfg.Endpoint}
}

// closeStore ends the retries of a store that another one took the place of.
func closeStore(s cache.Store) {
	if c, ok := s.(interface{ Close() }); ok {
		c.Close()
	}
}
