package fs

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"depotfs/cache"
)

// make makes an inode and, if name is not empty, its name.
func (l *loopback) make(who cache.Owner, parent cache.Ino, name string, mode uint32) (*lnode, error) {
	now := time.Now().UnixNano()
	l.last++
	n := &lnode{parent: parent, xattrs: map[string][]byte{}, attr: cache.Attr{Ino: l.last, Mode: mode, UID: who.UID, GID: who.GID,
		Atime: now, Mtime: now, Ctime: now}}
	if mode&syscall.S_IFMT == syscall.S_IFREG {
		f, err := os.OpenFile(filepath.Join(l.dir, strconv.Itoa(int(l.last))), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		n.file = f
	}
	if name != "" {
		if err := l.addName(parent, name, n); err != nil {
			return nil, err
		}
	}
	l.nodes[l.last] = n
	return n, nil
}

func (l *loopback) addName(parent cache.Ino, name string, n *lnode) error {
	dir, i, err := l.find(parent, name)
	if i >= 0 && err == nil {
		return syscall.EEXIST
	}
	if dir == nil {
		return err
	}
	if len(name) > 255 {
		return syscall.ENAMETOOLONG
	}
	l.cookies++
	dir.entries = append(dir.entries, cache.DirEntry{Name: name, Ino: n.attr.Ino, Type: n.attr.Mode & syscall.S_IFMT, Cookie: l.cookies})
	n.attr.Nlink++
	n.parent = parent
	if n.attr.Mode&syscall.S_IFMT == syscall.S_IFDIR {
		n.attr.Nlink = 2
		dir.attr.Nlink++
	}
	dir.attr.Mtime = time.Now().UnixNano()
	dir.attr.Ctime = dir.attr.Mtime
	return nil
}

func (l *loopback) dropName(dir *lnode, i int) {
	n := l.nodes[dir.entries[i].Ino]
	dir.entries = slices.Delete(dir.entries, i, i+1)
	now := time.Now().UnixNano()
	dir.attr.Mtime, dir.attr.Ctime, n.attr.Ctime = now, now, now
	n.attr.Nlink--
	if n.attr.Mode&syscall.S_IFMT == syscall.S_IFDIR {
		n.attr.Nlink = 0
		dir.attr.Nlink--
	}
}

func (l *loopback) made(n *lnode, err error) (cache.Attr, error) {
	if err != nil {
		return cache.Attr{}, err
	}
	return l.attrLocked(n), nil
}

func (l *loopback) Mknod(_ context.Context, who cache.Owner, parent cache.Ino, name string, mode, rdev uint32) (cache.Attr, error) {
	defer l.lock("mknod")()
	if t := mode & syscall.S_IFMT; t == syscall.S_IFBLK || t == syscall.S_IFCHR {
		return cache.Attr{}, syscall.EPERM
	}
	return l.made(l.make(who, parent, name, mode))
}

func (l *loopback) Mkdir(_ context.Context, who cache.Owner, parent cache.Ino, name string, mode uint32) (cache.Attr, error) {
	l.mu.Lock()
	hook := l.onMkdir
	l.mu.Unlock()
	if hook != nil {
		hook()
	}
	defer l.lock("mkdir")()
	return l.made(l.make(who, parent, name, syscall.S_IFDIR|mode&07777))
}

func (l *loopback) Symlink(_ context.Context, who cache.Owner, parent cache.Ino, name, target string) (cache.Attr, error) {
	defer l.lock("symlink")()
	n, err := l.make(who, parent, name, syscall.S_IFLNK|0o777)
	if err == nil {
		n.target, n.attr.Size = target, int64(len(target))
	}
	return l.made(n, err)
}

func (l *loopback) Readlink(_ context.Context, ino cache.Ino) (string, error) {
	defer l.lock("readlink")()
	n, err := l.node(ino)
	if err != nil {
		return "", err
	}
	return n.target, nil
}

func (l *loopback) Link(_ context.Context, ino, parent cache.Ino, name string) (cache.Attr, error) {
	defer l.lock("link")()
	n, err := l.node(ino)
	if err == nil {
		err = l.addName(parent, name, n)
	}
	return l.made(n, err)
}

func (l *loopback) Unlink(_ context.Context, parent cache.Ino, name string) error {
	defer l.lock("unlink")()
	dir, i, err := l.find(parent, name)
	if err == nil {
		l.dropName(dir, i)
	}
	return err
}

func (l *loopback) Rmdir(_ context.Context, parent cache.Ino, name string) error {
	defer l.lock("rmdir")()
	dir, i, err := l.find(parent, name)
	if err != nil {
		return err
	}
	if len(l.nodes[dir.entries[i].Ino].entries) > 0 {
		return syscall.ENOTEMPTY
	}
	l.dropName(dir, i)
	return nil
}

func (l *loopback) Rename(_ context.Context, oldParent cache.Ino, oldName string, newParent cache.Ino, newName string, flags cache.RenameFlags) error {
	defer l.lock("rename")()
	from, i, err := l.find(oldParent, oldName)
	if err != nil {
		return err
	}
	to, j, err := l.find(newParent, newName)
	switch {
	case err != nil && j >= 0:
		return err
	case j >= 0 && flags&cache.RenameNoReplace != 0:
		return syscall.EEXIST
	case j < 0 && flags&cache.RenameExchange != 0:
		return syscall.ENOENT
	case flags&cache.RenameExchange != 0:
		a, b := &from.entries[i], &to.entries[j]
		a.Ino, b.Ino, a.Type, b.Type = b.Ino, a.Ino, b.Type, a.Type
		l.nodes[a.Ino].parent, l.nodes[b.Ino].parent = oldParent, newParent
		return nil
	}
	n := l.nodes[from.entries[i].Ino]
	if j >= 0 {
		if len(l.nodes[to.entries[j].Ino].entries) > 0 {
			return syscall.ENOTEMPTY
		}
		l.dropName(to, j)
		from, i, _ = l.find(oldParent, oldName)
	}
	l.dropName(from, i)
	return l.addName(newParent, newName, n)
}
