package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"depotfs/cache"
)

// errLocked: another daemon on this machine has the directory.
var errLocked = errors.New("in use")

// lockDir takes the lock of a directory for the life of the returned file. The
// lock is flock's on the directory itself: it leaves nothing behind, ends with
// the process however that ends, and for directories Linux keeps it local even
// on NFS. So it holds one machine's daemons apart; the marker in the share
// holds zones apart.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		f.Close()
		return nil, errLocked
	case err != nil:
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}

// lockPlaces locks the state directory and the cache directory.
func lockPlaces(ctx context.Context, p places, mounts mountTable) ([]*os.File, error) {
	state, err := lockDir(p.stateDir)
	if errors.Is(err, errLocked) {
		for _, m := range mounts.ours() {
			if m.StateDir == p.stateDir {
				return nil, fmt.Errorf("state directory %s is in use by the mount on %s: unmount that first, or name another with --state-dir", p.stateDir, m.Mountpoint)
			}
		}
		return nil, fmt.Errorf("state directory %s is in use by another depotfs process: wait until it has ended, or name another with --state-dir", p.stateDir)
	}
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	share, err := lockDir(p.cacheDir)
	if err == nil {
		return []*os.File{state, share}, nil
	}
	state.Close()
	if errors.Is(err, errLocked) {
		return nil, fmt.Errorf("cache directory %s is in use by %s: one zone has one mount; unmount that first, or name another with --cache-dir", p.cacheDir, whoUses(ctx, p.cacheDir, mounts))
	}
	return nil, fmt.Errorf("cache directory: %w", err)
}

// askTimeout bounds the question for a name in an error message.
const askTimeout = 2 * time.Second

// whoUses names the mount of a cache directory.
func whoUses(ctx context.Context, cacheDir string, mounts mountTable) string {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for _, m := range mounts.ours() {
		var st cache.Status
		if newClient(m).get(ctx, "status", &st) == nil && st.CacheDir == cacheDir {
			return "the mount on " + m.Mountpoint
		}
	}
	return "another mount"
}
