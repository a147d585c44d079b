package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"depotfs/cache"
	"depotfs/fs"
)

// mount is the running program: every part, in start order.
type mount struct {
	cfg    Config
	places places
	sys    *system
	daemon bool // its own session; errors go to the log, not to a terminal
	tell   func(report)

	signals chan os.Signal
	log     *slog.Logger
	logFile *logFile // nil: standard error
	locks   []*os.File
	store   cache.Store // at the start; nil: off
	socket  net.Listener
	events  *receiver // nil: not asked for
	heart   *cache.Cache
	tuning  *tuning
	kernel  *fs.Server

	closers []io.Closer // in start order
}

// run opens the parts, serves until the mount is gone or a signal ends it, and
// closes the parts in reverse order.
func (m *mount) run(ctx context.Context) (err error) {
	signal.Ignore(syscall.SIGPIPE) // a terminal that went away is no reason to die
	m.signals = make(chan os.Signal, 4)
	signal.Notify(m.signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(m.signals)
	defer func() {
		if closeErr := m.close(); err == nil {
			err = closeErr
		}
		if err != nil && m.log != nil {
			m.log.Error("ended", "err", err)
		}
	}()
	if err := m.open(ctx); err != nil {
		return err
	}
	return m.serve(context.WithoutCancel(ctx))
}

// open does everything that can fail before the mount exists, in an order that
// leaves nothing behind.
func (m *mount) open(ctx context.Context) error {
	// The daemon must stand in no directory that somebody may want to unmount,
	// least of all in its own mount. All paths are absolute by now.
	if err := os.Chdir("/"); err != nil {
		return err
	}
	syscall.Umask(0o077) // for what is ours
	if err := m.openLog(); err != nil {
		return err
	}
	mounts, err := m.sys.mounts()
	if err != nil {
		return err
	}
	if m.locks, err = lockPlaces(ctx, m.places, mounts); err != nil {
		return err
	}
	for _, lock := range m.locks {
		m.closers = append(m.closers, lock)
	}
	if err := m.clearRemains(mounts); err != nil {
		return err
	}
	if err := m.openParts(ctx); err != nil {
		return err
	}
	if err := m.openEvents(ctx); err != nil {
		return err
	}
	listener, err := listenControl(m.places.stateDir)
	if err != nil {
		return err
	}
	m.socket = listener
	m.closers = append(m.closers, closeFunc(func() error {
		listener.Close() // serve has closed it, where it came so far
		return removeSocket(m.places.stateDir)
	}))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	syscall.Umask(0) // from here on modes are what the users of the mount ask for
	return m.kernel.Mount(ctx, fs.FromCache(m.heart))
}

// openParts opens store, door and heart. A first mount asks the store before it
// leaves anything in share and state directory; later ones ask the heart first
// whether the store is to be on.
func (m *mount) openParts(ctx context.Context) error {
	m.tuning = newTuning(m.cfg, m.places.stateDir, m.log)
	if err := m.tuning.load(); err != nil {
		return err
	}
	m.tuning.moved = m.remember
	last := readMountRecord(m.places.stateDir)
	first := last.Format == 0
	if first {
		if err := m.openStore(ctx, last); err != nil {
			return err
		}
	}
	if err := m.openKernel(); err != nil {
		return err
	}
	if err := m.openHeart(); err != nil {
		return err
	}
	if err := m.tuning.start(m.heart); err != nil {
		return err
	}
	if !first {
		if err := m.openStore(ctx, last); err != nil {
			return err
		}
	}
	if m.store == nil {
		return nil
	}
	// A state directory whose record of the last mount was lost still knows.
	if _, off, err := m.heart.Disabled(); err != nil || off {
		m.store = nil
		return err
	}
	m.heart.SetStore(m.store, storeInfo(m.tuning.config()))
	return nil
}

func (m *mount) openLog() error {
	if m.cfg.LogFile == "" {
		m.log = newLogger(m.cfg, m.sys.err)
		return nil
	}
	var err error
	if m.logFile, err = openLog(m.cfg.LogFile, m.daemon); err != nil {
		return err
	}
	m.log = newLogger(m.cfg, m.logFile)
	return nil
}

// clearRemains detaches what a killed daemon of this state directory left
// mounted. Holding the directory's lock proves that the daemon is dead.
func (m *mount) clearRemains(mounts mountTable) error {
	for _, info := range mounts.all {
		e, ours := entry(info)
		switch {
		case ours && e.StateDir == m.places.stateDir:
			if err := detachLazily(e.Mountpoint); err != nil {
				return fmt.Errorf("a mount whose daemon died is still on %s: %w: say umount -l %s", e.Mountpoint, err, e.Mountpoint)
			}
			m.log.Warn("removed the mount of a daemon that died", "path", e.Mountpoint)
		case ours && e.Mountpoint == m.places.mountpoint:
			return fmt.Errorf("mount point %s is in use by another depotfs mount: say depotfs umount %s, or choose another directory", e.Mountpoint, e.Mountpoint)
		}
	}
	_, err := existingDir("mount point", "", m.places.mountpoint)
	return err
}

// serve runs the parts until the kernel has let go of the mount. The door closes
// first: nothing asks a heart that has stopped.
func (m *mount) serve(ctx context.Context) error {
	inner, stop := context.WithCancel(ctx)
	defer stop()
	parts, inner := errgroup.WithContext(inner)
	parts.Go(func() error {
		if err := m.heart.Run(inner); err != nil {
			return fmt.Errorf("run the cache: %w", err)
		}
		return nil
	})
	api := &control{heart: m.heart, describe: m.describe, tuning: m.tuning, unmount: m.unmount, log: m.log,
		deletes: &deletes{m.heart}, store: &storeSwitch{heart: m.heart, tuning: m.tuning}}
	parts.Go(func() error { return api.serve(inner, m.socket) })
	parts.Go(func() error { m.tuning.follow(inner); return nil })
	if m.events != nil {
		parts.Go(func() error { m.events.serve(inner, m); return nil })
	}

	outer, letGo := context.WithCancel(ctx)
	defer letGo()
	served := make(chan error, 1)
	go func() { served <- m.kernel.Serve(outer) }()
	err := m.kernel.WaitMount()
	if err == nil {
		m.announce()
		m.attend(inner)
	}
	letGo()
	err = errors.Join(err, <-served)
	stop()
	return errors.Join(err, parts.Wait())
}

// remember records what is mounted, with cfg's store.
func (m *mount) remember(cfg Config) {
	record := mountRecord{
		Format: 1, Version: buildVersion(), Zone: m.cfg.Zone, CacheDir: m.places.cacheDir, Mountpoint: m.places.mountpoint,
		Bucket: cfg.Bucket, Endpoint: cfg.Endpoint, Mounted: time.Now().UTC(),
	}
	if err := record.write(m.places.stateDir); err != nil {
		m.log.Warn("the next mount will take itself for the first", "err", err)
	}
}

// announce says, and records, that the mount answers.
func (m *mount) announce() {
	cfg := m.tuning.config()
	m.remember(cfg)
	store := "the store is off"
	if m.store != nil {
		store = storeText(cfg)
	}
	m.log.Info("mounted", "path", m.places.mountpoint, "share", m.places.cacheDir, "zone", m.cfg.Zone, "store", store,
		"passthrough", m.kernel.Passthrough(), "version", buildVersion(), "pid", os.Getpid())
	m.tell(report{Ready: fmt.Sprintf("%s is mounted on %s (zone %s, %s)", m.places.cacheDir, m.places.mountpoint, m.cfg.Zone, store)})
}

// busyEvery is how often a busy mount is tried again after SIGTERM.
const busyEvery = 500 * time.Millisecond

// detachGrace is how long open files may go on after a forced unmount.
const detachGrace = time.Second

// attend waits for the end of the mount: from outside, by the control API, or by
// a signal. After the first SIGTERM or SIGINT a busy mount is tried again and
// again; the second detaches it, and what is open ends with an error soon after.
func (m *mount) attend(ctx context.Context) {
	var again, grace <-chan time.Time
	ending := false
	for {
		select {
		case <-m.kernel.Done():
			m.log.Info("unmounted", "path", m.places.mountpoint)
			return
		case <-ctx.Done(): // a part failed
			m.log.Error("a part failed: the mount ends", "err", context.Cause(ctx))
			return
		case <-grace:
			m.log.Warn("files are still open: they end with the daemon")
			return
		case <-again:
			again = m.tryUnmount()
		case sig := <-m.signals:
			switch {
			case sig == syscall.SIGHUP:
				m.reopenLog()
			case ending && grace == nil:
				m.log.Warn("second signal: the mount is detached", "signal", sig.String())
				if err := m.kernel.Detach(); err != nil {
					m.log.Error("cannot detach the mount", "err", err)
				}
				again, grace = nil, time.After(detachGrace)
			case !ending:
				ending = true
				m.log.Info("unmounting", "signal", sig.String())
				if again = m.tryUnmount(); again != nil {
					m.log.Warn("the mount is busy: it ends when its files are closed, or at once at a second signal", "users", usersOf(m.places.mountpoint))
				}
			}
		}
	}
}

// tryUnmount returns nil when the kernel lets go, else when to try again.
func (m *mount) tryUnmount() <-chan time.Time {
	err := m.kernel.Unmount()
	if err == nil {
		return nil
	}
	if !errors.Is(err, syscall.EBUSY) {
		m.log.Error("cannot unmount", "err", err)
	}
	return time.After(busyEvery)
}

func (m *mount) reopenLog() {
	if m.logFile == nil {
		return
	}
	if err := m.logFile.reopen(); err != nil {
		m.log.Error("cannot open the log anew", "err", err)
	}
}

// unmount is what `depotfs umount` asks for.
func (m *mount) unmount(context.Context) error {
	err := m.kernel.Unmount()
	if errors.Is(err, syscall.EBUSY) {
		return errMountBusy
	}
	return err
}

// describe adds to a status what only the wiring knows.
func (m *mount) describe(st *cache.Status) {
	st.Version = buildVersion()
	st.Mountpoint = m.places.mountpoint
	st.CacheDir = m.places.cacheDir
	st.StateDir = m.places.stateDir
	st.Passthrough = m.kernel.Passthrough()
	m.tuning.describe(st)
	if m.events != nil {
		m.events.describe(st)
	}
	if st.Store.State == "off" {
		cfg := m.tuning.config()
		st.Store.Bucket, st.Store.Endpoint, st.Store.Prefix = cfg.Bucket, cfg.Endpoint, cfg.Prefix
		if cfg.Bucket == "" {
			st.Store.Reason = "no bucket is configured"
		}
	}
	if st.Problems == nil {
		st.Problems = []cache.Problem{}
	}
	if st.Pending.Uploading == nil {
		st.Pending.Uploading = []cache.Transfer{}
	}
	if st.Cache.Fetching == nil {
		st.Cache.Fetching = []cache.Transfer{}
	}
}

// close undoes open in reverse order.
func (m *mount) close() error {
	var errs []error
	for i := len(m.closers) - 1; i >= 0; i-- {
		errs = append(errs, m.closers[i].Close())
	}
	m.closers = nil
	return errors.Join(errs...)
}

// closeFunc makes a function an io.Closer.
type closeFunc func() error

// Close implements io.Closer.
func (f closeFunc) Close() error { return f() }
