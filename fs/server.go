package fs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"

	"depotfs/cache"
)

// Server is one mount. New makes it before the heart exists, because the heart
// notifies it; Mount mounts; Serve answers until the mount is gone.
//
//	server, err := fs.New(options)
//	heart, err := cache.New(cache.Config{Notify: server, ...})
//	err = server.Mount(ctx, fs.FromCache(heart))
//	go server.Serve(ctx)
//	err = server.WaitMount()
type Server struct {
	opts    Options
	log     *slog.Logger
	notes   *notices
	strange *throttle

	bridge atomic.Pointer[bridge] // nil until Mount
	kernel *fuse.Server
	cancel context.CancelFunc // ends requests that wait
	minor  atomic.Uint32      // of the mount's device, the connection's number in fusectl; 0 = unknown
	served chan struct{}      // closed when the last request was answered
	once   sync.Once          // Serve
}

// New checks the options. It mounts and starts nothing.
func New(o Options) (*Server, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	return &Server{opts: o, log: o.Log, notes: newNotices(), strange: &throttle{log: o.Log}, served: make(chan struct{})}, nil
}

// Mount mounts and shakes hands with the kernel. Until Serve runs, everybody who
// touches the mount waits. The values of ctx, not its end, go to the heart with
// each request.
func (s *Server) Mount(ctx context.Context, heart Heart) error {
	if err := checkMountpoint(s.opts.Mountpoint); err != nil {
		return err
	}
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	b := &bridge{
		heart: heart, ctx: ctx, epoch: heart.Epoch(), strange: s.strange,
		entryTTL: newTTL(s.opts.EntryTimeout), attrTTL: newTTL(s.opts.AttrTimeout),
		notes: s.notes, closeMatters: heart.CloseMatters(),
	}
	s.bridge.Store(b)
	release := holdDevices(deviceFor(b.epoch))
	kernel, err := fuse.NewServer(b, s.opts.Mountpoint, s.mountOptions())
	release()
	if err != nil {
		s.cancel()
		return fmt.Errorf("mount %s: %w", s.opts.Mountpoint, explain(err))
	}
	s.kernel = kernel
	offered := kernel.KernelSettings().Flags64()
	b.killPriv = offered&fuse.CAP_HANDLE_KILLPRIV_V2 != 0
	b.opens.device, b.kernel = kernel, kernel
	if s.opts.Passthrough != Off {
		err = s.probePassthrough(offered)
		b.opens.works.Store(err == nil)
		if err != nil && s.opts.Passthrough == On {
			return errors.Join(fmt.Errorf("mount %s: passthrough is required: %w", s.opts.Mountpoint, err), s.abandon())
		}
		if err != nil {
			s.log.Info("no kernel passthrough: reads and writes take the slower way through depotfs", "reason", err)
		}
	}
	// Pages of a file that was once open in another mode are not to be trusted.
	b.keepCache = s.opts.Deploy == cache.Gateway && !b.opens.works.Load()
	s.notes.setLive(true)
	return nil
}

// Passthrough says whether the kernel does the I/O of resident files itself.
func (s *Server) Passthrough() bool {
	b := s.bridge.Load()
	return b != nil && b.opens.works.Load()
}

// Serve answers the kernel and delivers notifications until the mount is gone. When
// ctx ends it unmounts, with or without the consent of those who have files open.
func (s *Server) Serve(ctx context.Context) error {
	err := errors.New("serve: once only")
	s.once.Do(func() { err = s.serve(ctx) })
	return err
}

func (s *Server) serve(ctx context.Context) error {
	notify, stop := context.WithCancel(context.WithoutCancel(ctx))
	var loops sync.WaitGroup
	loops.Go(func() {
		s.kernel.Serve()
		close(s.served)
	})
	loops.Go(func() { s.notes.deliver(notify, s.kernel, s.strange) })
	var err error
	select {
	case <-s.served:
	case <-ctx.Done():
		err = s.leave()
	}
	stop()
	s.notes.setLive(false)
	s.cancel()
	if err != nil {
		return err // the kernel still holds what it holds: only our end ends that
	}
	loops.Wait()
	return nil
}

// WaitMount returns when the mount answers; Serve must be running.
func (s *Server) WaitMount() error {
	if err := s.kernel.WaitMount(); err != nil {
		return fmt.Errorf("wait for mount %s: %w", s.opts.Mountpoint, err)
	}
	s.tune()
	return nil
}

// EntryChanged tells the kernel that a name means something else now, and that it
// has to ask again for the directory's listing and attributes.
func (s *Server) EntryChanged(parent cache.Ino, name string) {
	if b := s.bridge.Load(); b != nil {
		b.kept.forget(parent)
	}
	s.notes.add(notice{ino: parent, name: name, what: entryOf})
	s.notes.add(notice{ino: parent, what: wholeNode})
}

// InodeChanged tells the kernel that attributes and pages are out of date.
func (s *Server) InodeChanged(ino cache.Ino) {
	s.notes.add(notice{ino: ino, what: wholeNode})
}
