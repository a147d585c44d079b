package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// socketName is the control socket's name in the state directory.
const socketName = "control.sock"

// connectTimeout is how long a daemon may take to accept: the kernel does it for
// a living one at once, unless its queue is full.
const connectTimeout = 5 * time.Second

// throughFd runs fn with a short path to the socket in dir. Addresses of unix
// sockets hold 108 bytes, state directories are as deep as people like.
func throughFd(dir string, fn func(path string) error) error {
	d, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	return fn("/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/" + socketName)
}

// listenControl makes the control socket in dir, mode 0600. The caller holds
// the state directory's lock, so a socket that is there belongs to nobody. It
// must run before umask(0): bind uses the umask, and a moment of 0777 would do.
func listenControl(dir string) (*net.UnixListener, error) {
	if err := os.Remove(filepath.Join(dir, socketName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the stale control socket: %w", err)
	}
	var listener *net.UnixListener
	err := throughFd(dir, func(path string) (err error) {
		listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make the control socket in %s: %w", dir, err)
	}
	listener.SetUnlinkOnClose(false) // its path goes through a descriptor that is closed
	if err := os.Chmod(filepath.Join(dir, socketName), 0o600); err != nil {
		listener.Close()
		return nil, fmt.Errorf("protect the control socket: %w", err)
	}
	return listener, nil
}

// dialControl connects to the daemon whose state directory is dir.
func dialControl(ctx context.Context, dir string) (net.Conn, error) {
	var conn net.Conn
	err := throughFd(dir, func(path string) (err error) {
		conn, err = (&net.Dialer{Timeout: connectTimeout}).DialContext(ctx, "unix", path)
		return err
	})
	return conn, err
}

// peer returns who is at the other end of a unix socket.
func peer(conn net.Conn) (*unix.Ucred, error) {
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("not a unix socket")
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	return cred, errors.Join(err, credErr)
}

// removeSocket takes the socket of this daemon away at its end.
func removeSocket(dir string) error {
	if err := os.Remove(filepath.Join(dir, socketName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the control socket: %w", err)
	}
	return nil
}
