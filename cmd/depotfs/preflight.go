package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// places are the three directories of a mount without symlinks.
type places struct {
	cacheDir, stateDir, mountpoint string
}

// checkPlaces finds what is wrong with the directories before anything is done
// with them, makes the state directory, and returns where they really are.
func checkPlaces(cfg Config, mountpoint string, mounts mountTable) (places, error) {
	var p places
	var err error
	if p.cacheDir, err = existingDir("cache directory", "--cache-dir", cfg.CacheDir); err != nil {
		return p, err
	}
	if err := unix.Access(p.cacheDir, unix.R_OK|unix.W_OK|unix.X_OK); err != nil {
		return p, fmt.Errorf("cache directory %s cannot be written (%w): correct its permissions or its mount, or name another with --cache-dir", p.cacheDir, err)
	}
	if info := mounts.holding(p.cacheDir); info != nil && info.FSType == fsType {
		return p, fmt.Errorf("cache directory %s lies in a depotfs mount (%s): name the directory with the files themselves with --cache-dir", p.cacheDir, info.Mountpoint)
	}
	if p.mountpoint, err = mountpointDir(mountpoint, mounts); err != nil {
		return p, err
	}
	if cfg.AllowOther {
		if err := mayAllowOther(os.Geteuid(), "/etc/fuse.conf"); err != nil {
			return p, err
		}
	}
	if p.stateDir, err = realParent(cfg.StateDir); err != nil {
		return p, fmt.Errorf("state directory: %w", err)
	}
	if err := p.checkApart(); err != nil {
		return p, err
	}
	return p, makeStateDir(p.stateDir)
}

// existingDir resolves a directory that must be there.
func existingDir(what, flag, name string) (string, error) {
	dir, err := filepath.EvalSymlinks(name)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%s %s does not exist: make it, or name another%s", what, name, withFlag(flag))
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s %s is not a directory: name another%s", what, name, withFlag(flag))
	}
	return dir, nil
}

func withFlag(flag string) string {
	if flag == "" {
		return ""
	}
	return " with " + flag
}

// mountpointDir resolves the mount point. Where one of ours is mounted already
// it is not touched: its daemon may hang or be dead. The lock on the state
// directory decides later which of the two it is.
func mountpointDir(name string, mounts mountTable) (string, error) {
	dir, err := mounts.resolve(name)
	if err != nil {
		return "", fmt.Errorf("mount point %s does not exist: make the directory first", name)
	}
	if info := mounts.at(dir); info != nil && info.FSType == fsType {
		return dir, nil
	} else if info != nil {
		return "", fmt.Errorf("mount point %s is in use: %s (%s) is mounted there; unmount it or choose another directory", name, info.Source, info.FSType)
	}
	return existingDir("mount point", "", dir)
}

// mayAllowOther reports what stands in the way of --allow-other: for others than
// root the helper of fuse asks its configuration, and only says no.
func mayAllowOther(uid int, conf string) error {
	if uid == 0 {
		return nil
	}
	text, _ := os.ReadFile(conf) // a file that is not there allows nothing
	for line := range strings.Lines(string(text)) {
		if strings.TrimSpace(line) == "user_allow_other" {
			return nil
		}
	}
	return fmt.Errorf("--allow-other needs the line user_allow_other in %s, which root can add; or mount without it", conf)
}

// realParent resolves the symlinks of a path whose last parts may not exist yet.
func realParent(name string) (string, error) {
	missing := ""
	for dir := name; ; dir = filepath.Dir(dir) {
		full, err := filepath.EvalSymlinks(dir)
		if err == nil {
			return filepath.Join(full, missing), nil
		}
		if !errors.Is(err, os.ErrNotExist) || dir == "/" {
			return "", err
		}
		missing = filepath.Join(filepath.Base(dir), missing)
	}
}

// within reports whether path is dir or below it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// checkApart refuses directories inside each other: a mount over its own cache
// would wait for itself, and state in the share would be uploaded.
func (p places) checkApart() error {
	switch {
	case p.cacheDir == p.mountpoint:
		return fmt.Errorf("mount point and cache directory are the same (%s): mount elsewhere", p.mountpoint)
	case within(p.mountpoint, p.cacheDir):
		return fmt.Errorf("mount point %s lies inside the cache directory %s: mount outside of it", p.mountpoint, p.cacheDir)
	case within(p.cacheDir, p.mountpoint):
		return fmt.Errorf("cache directory %s lies inside the mount point %s: the mount would hide it; mount elsewhere", p.cacheDir, p.mountpoint)
	case within(p.stateDir, p.mountpoint):
		return fmt.Errorf("state directory %s lies inside the mount point %s: name another with --state-dir", p.stateDir, p.mountpoint)
	case within(p.stateDir, p.cacheDir):
		return fmt.Errorf("state directory %s lies inside the cache directory %s: name one on a local disk with --state-dir", p.stateDir, p.cacheDir)
	case within(p.cacheDir, p.stateDir), within(p.mountpoint, p.stateDir):
		return fmt.Errorf("state directory %s holds the cache directory or the mount point: name one of its own with --state-dir", p.stateDir)
	}
	return nil
}

// stateNames are what a state directory holds; a directory with other things
// in it, and none of these, is not one.
var stateNames = []string{mountRecordName, "catalog", "depotfs.log", socketName}

// makeStateDir makes the directory with mode 0700, or checks that it is ours.
func makeStateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the state directory: %w: name another with --state-dir", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	defer d.Close()
	if names, err := d.Readdirnames(1); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("state directory: %w", err)
	} else if len(names) > 0 && names[0] != "lost+found" && !looksLikeState(dir) {
		return fmt.Errorf("state directory %s holds other things (%s): name an empty directory with --state-dir", dir, printable(names[0]))
	}
	info, err := d.Stat()
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	if err := d.Chmod(0o700); err != nil {
		return fmt.Errorf("close the state directory to others: %w: name another with --state-dir", err)
	}
	return nil
}

func looksLikeState(dir string) bool {
	for _, name := range stateNames {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// mountRecord is state-dir/mount.json: what the last mount was. It tells a
// first mount from later ones, and a repeated mount from a new store.
type mountRecord struct {
	Format     int       `json:"format"`
	Version    string    `json:"version"`
	Zone       string    `json:"zone"`
	CacheDir   string    `json:"cache_dir"`
	Mountpoint string    `json:"mountpoint"`
	Bucket     string    `json:"bucket,omitempty"`
	Endpoint   string    `json:"endpoint,omitempty"`
	Mounted    time.Time `json:"mounted"`
}

const mountRecordName = "mount.json"

// readMountRecord returns the zero record where there is none that can be read:
// then this counts as a first mount.
func readMountRecord(dir string) mountRecord {
	var r mountRecord
	text, err := os.ReadFile(filepath.Join(dir, mountRecordName))
	if err != nil || json.Unmarshal(text, &r) != nil {
		return mountRecord{}
	}
	return r
}

func (r mountRecord) write(dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", mountRecordName, err)
	}
	name := filepath.Join(dir, mountRecordName)
	if err := os.WriteFile(name+".new", append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", mountRecordName, err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return fmt.Errorf("write %s: %w", mountRecordName, err)
	}
	return nil
}
