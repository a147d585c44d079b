package cache

import (
	"errors"
	"log/slog"
	"time"

	"depotfs/cache/layout"
)

// fill sets the defaults and refuses what cannot work.
func (cfg *Config) fill() error {
	if cfg.CacheDir == "" || cfg.StateDir == "" {
		return errors.New("a cache directory and a state directory are needed")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Deploy == "" {
		cfg.Deploy = Gateway
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.ShareDeletes == "" {
		cfg.ShareDeletes = RestoreDeleted
		if cfg.Deploy == Beside {
			cfg.ShareDeletes = FollowDeleted
		}
	}
	if cfg.ScanInterval <= 0 {
		cfg.ScanInterval = scanInterval
	}
	if cfg.ScanFull <= 0 {
		cfg.ScanFull = 6 * time.Hour
	}
	if cfg.Rules == nil {
		cfg.Rules = layout.Default()
	}
	if cfg.Capacity == 0 {
		cfg.Capacity = defaultCapacity
	}
	if cfg.Brake == nil {
		cfg.Brake = &DefaultBrake
	}
	if cfg.ListInterval <= 0 {
		cfg.ListInterval = 24 * time.Hour
	}
	if cfg.PollInterval <= 0 {
		cfg.PollInterval = 2 * time.Second
	}
	cfg.Limits.fill()
	return cfg.Brake.Validate()
}

// defaultCapacity is what df shows of a depot without a set size: far from the
// 90 % at which CloudStack stops using a store, small enough for 64-bit tools.
const defaultCapacity = 1 << 50

func (l *Limits) fill() {
	setInt := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	setDur := func(p *time.Duration, v time.Duration) {
		if *p <= 0 {
			*p = v
		}
	}
	setInt(&l.UploadFiles, 4)
	setInt(&l.UploadParts, 8)
	setInt(&l.Fetches, 32)
	if l.PartSize <= 0 {
		l.PartSize = 16 << 20
	}
	if l.SmallestPart <= 0 {
		l.SmallestPart = minPartSize
	}
	l.PartSize = max(l.PartSize, l.SmallestPart)
	if l.CompareRate == 0 {
		l.CompareRate = compareRate
	}
	setDur(&l.ColdTimeout, 20*time.Second)
	setDur(&l.MaxDirtyAge, time.Hour)
	setDur(&l.OrderTimeout, 10*time.Minute)
}

// S3's limits (service quotas for multipart uploads).
const (
	minPartSize = 5 << 20
	maxPartSize = 5 << 30
	maxParts    = 10_000
)

// partSize is the size of the parts of a file of the given size: at least least,
// and such that S3's 10,000 parts suffice.
func partSize(least, size int64) int64 {
	p := least
	for p*maxParts < size && p < maxPartSize {
		p *= 2
	}
	return min(p, maxPartSize)
}
