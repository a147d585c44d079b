package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// What the mount table says of our mounts. The source names the state directory
// and with it the control socket, so that a mount is found without asking it.
const (
	fsType       = "fuse.depotfs"
	sourcePrefix = "depotfs:"
)

// mountEntry is one of our mounts (or a bind mount of one).
type mountEntry struct {
	Mountpoint string
	Root       string // the directory of the mount that is seen here: "/" but for bind mounts
	StateDir   string
}

// mountTable is the kernel's mount table at one moment.
type mountTable struct {
	all []*mountinfo.Info
}

func openMountinfo() (io.ReadCloser, error) { return os.Open("/proc/self/mountinfo") }

func (s *system) mounts() (mountTable, error) {
	r, err := s.mountinfo()
	if err != nil {
		return mountTable{}, fmt.Errorf("read the mount table: %w", err)
	}
	defer r.Close()
	all, err := mountinfo.GetMountsFromReader(r, nil)
	if err != nil {
		return mountTable{}, fmt.Errorf("read the mount table: %w", err)
	}
	return mountTable{all: all}, nil
}

// entry makes a mountEntry of a line of the table; ok is false for others' mounts and nil.
func entry(info *mountinfo.Info) (e mountEntry, ok bool) {
	if info == nil || info.FSType != fsType {
		return mountEntry{}, false
	}
	dir, ours := strings.CutPrefix(info.Source, sourcePrefix)
	if !ours {
		return mountEntry{}, false
	}
	return mountEntry{Mountpoint: info.Mountpoint, Root: info.Root, StateDir: dir}, true
}

// ours lists our mounts, each daemon once.
func (t mountTable) ours() []mountEntry {
	var found []mountEntry
	seen := map[string]bool{}
	for _, info := range t.all {
		if e, ok := entry(info); ok && !seen[e.StateDir] {
			seen[e.StateDir] = true
			found = append(found, e)
		}
	}
	return found
}

// at returns the mount that is on top of all that is mounted at an absolute,
// clean path, or nil.
func (t mountTable) at(mountpoint string) *mountinfo.Info {
	for i := len(t.all) - 1; i >= 0; i-- {
		if t.all[i].Mountpoint == mountpoint {
			return t.all[i]
		}
	}
	return nil
}

// holding returns the mount that a path without symlinks lies in.
func (t mountTable) holding(path string) *mountinfo.Info {
	for dir := path; ; dir = filepath.Dir(dir) {
		if info := t.at(dir); info != nil || dir == "/" || dir == "." {
			return info
		}
	}
}

// target is a path of a command: a mount and the path in it.
type target struct {
	mount mountEntry
	given string // as the person wrote it
	path  string // relative to the root of the mount's tree, "" the root
}

// target finds the mount that holds path. An empty path means the only mount, or
// where there are several the one that the caller stands in.
func (t mountTable) target(path string) (target, error) {
	if path == "" {
		mounts := t.ours()
		switch len(mounts) {
		case 0:
			return target{}, fmt.Errorf("nothing is mounted: see depotfs mount --help")
		case 1:
			return target{mount: mounts[0]}, nil
		}
		if here, err := currentDir(); err == nil {
			if e, ok := entry(t.holding(here)); ok {
				return target{mount: e}, nil
			}
		}
		return target{}, usagef("there are several mounts, name one: %s", mountpoints(mounts))
	}
	full, err := t.resolve(path)
	if err != nil {
		return target{}, err
	}
	e, ok := entry(t.holding(full))
	if !ok {
		return target{}, t.outside(path)
	}
	rel, err := filepath.Rel(e.Mountpoint, full)
	if err != nil {
		return target{}, t.outside(path)
	}
	rel = strings.TrimPrefix(filepath.Join("/", e.Root, rel), "/")
	return target{mount: e, given: path, path: rel}, nil
}

// targets finds the mounts of several paths, grouped by mount in the order given.
func (t mountTable) targets(paths []string) ([][]target, error) {
	if len(paths) == 0 {
		one, err := t.target("")
		return [][]target{{one}}, err
	}
	var groups [][]target
	index := map[string]int{}
	for _, path := range paths {
		one, err := t.target(path)
		if err != nil {
			return nil, err
		}
		i, known := index[one.mount.StateDir]
		if !known {
			i = len(groups)
			index[one.mount.StateDir] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], one)
	}
	return groups, nil
}

func (t mountTable) outside(path string) error {
	mounts := t.ours()
	if len(mounts) == 0 {
		return fmt.Errorf("%s is not inside a depotfs mount, and nothing is mounted: see depotfs mount --help", path)
	}
	return fmt.Errorf("%s is not inside a depotfs mount; mounted: %s", path, mountpoints(mounts))
}

func mountpoints(mounts []mountEntry) string {
	var names []string
	for _, m := range mounts {
		names = append(names, m.Mountpoint)
	}
	return strings.Join(names, ", ")
}

// maxSymlinks is the kernel's own limit for one path.
const maxSymlinks = 40

// resolve makes path absolute and follows symlinks on the way to our mount, but
// touches nothing inside it: a mount that hangs must not hang the command that
// asks why. What lies inside stays as it was written.
func (t mountTable) resolve(path string) (string, error) {
	rest := path
	if !filepath.IsAbs(path) {
		cwd, err := currentDir()
		if err != nil {
			return "", err
		}
		rest = cwd + "/" + path
	}
	done := "/"
	for links := 0; ; {
		if info := t.at(done); info != nil && info.FSType == fsType {
			return filepath.Join(done, rest), nil // without looking
		}
		var name string
		name, rest, _ = strings.Cut(strings.TrimLeft(rest, "/"), "/")
		if name == "" {
			return done, nil
		}
		next := filepath.Join(done, name) // Join handles . and ..: done has no symlinks
		if info := t.at(next); name != ".." && info != nil && info.FSType == fsType {
			done = next
			continue
		}
		link, err := os.Readlink(next)
		if err != nil {
			if _, err := os.Lstat(next); err != nil {
				return "", fmt.Errorf("%s: no such file or directory", path)
			}
			done = next
			continue
		}
		if links++; links > maxSymlinks {
			return "", fmt.Errorf("%s: too many symlinks", path)
		}
		if filepath.IsAbs(link) {
			done = "/"
		}
		rest = link + "/" + rest
	}
}

// currentDir asks the kernel and not $PWD: checking $PWD would stat the mount.
func currentDir() (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Getcwd(buf)
	if err != nil {
		return "", fmt.Errorf("find the current directory: %w", err)
	}
	return string(buf[:n-1]), nil
}
