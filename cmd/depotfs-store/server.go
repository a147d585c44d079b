package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
	"github.com/versity/versitygw/s3api"
	"golang.org/x/sys/unix"
)

const (
	// maxConnections bounds the sockets; a test or a demo has dozens.
	maxConnections = 4096
	// maxRequests in flight; below maxConnections as the gateway demands.
	maxRequests = 2048
	// maxParts of one multipart upload, as in S3.
	maxParts = 10_000
	// maxCopy is the largest object that one CopyObject copies, as in S3.
	maxCopy = 5 << 30
)

// server is one run of the program.
type server struct {
	dir    string // made absolute by run
	listen string
	region string
	keys   keyPair
	ready  func(address string) // called once, when requests are answered
}

// run serves until ctx ends, then returns nil, or the reason why it cannot.
func (s *server) run(ctx context.Context) error {
	dir, err := filepath.Abs(s.dir)
	if err != nil {
		return fmt.Errorf("find %s: %w", s.dir, err)
	}
	s.dir = dir
	unlock, err := claim(dir)
	if err != nil {
		return err
	}
	defer unlock()
	store, err := s.backend()
	if err != nil {
		return err
	}
	address, release, err := reservePort(s.listen)
	if err != nil {
		store.Shutdown()
		return err
	}
	defer release()
	err = embedgw.RunVersityGW(ctx, store, &embedgw.Config{
		RootUserAccess:    s.keys.access,
		RootUserSecret:    s.keys.secret,
		Region:            s.region,
		Ports:             []string{address},
		MaxConnections:    maxConnections,
		MaxRequests:       maxRequests,
		MultipartMaxParts: maxParts,
		KeepAlive:         true, // off by default: then every request pays a TCP connect
		Quiet:             true,
		IAMService:        auth.NewIAMServiceSingle(auth.Account{Access: s.keys.access, Secret: s.keys.secret, Role: auth.RoleAdmin}),
		S3Options:         []s3api.Option{s3api.WithOnListen(func() { s.ready(address) })},
	})
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%s is in use by another program: choose another --listen (port 0: the kernel chooses)", address)
	case err != nil:
		return fmt.Errorf("serve on %s: %w", address, err)
	}
	return nil
}

// backend opens the directory; the process works inside it from here on.
func (s *server) backend() (backend.Backend, error) {
	metadata, sidecar, err := metadataFor(s.dir)
	if err != nil {
		return nil, err
	}
	// New says on standard output where a sidecar is.
	files, err := posix.New(s.dir, metadata, posix.PosixOpts{
		SideCarDir:          sidecar,
		CopyObjectThreshold: maxCopy,
		ForceNoObjLockFile:  true, // claim keeps other processes out, so no lock files are needed
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", s.dir, err)
	}
	return &makingBuckets{Backend: files}, nil
}

// claim makes dir where it is missing and locks it for this process: two
// servers in one directory would not see each other's conditional writes.
func claim(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create the directory: %w", err)
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open the directory: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		f.Close()
		return nil, fmt.Errorf("%s is in use by another depotfs-store: stop that one or choose another --dir", dir)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return func() { f.Close() }, nil // closing drops the lock
}
