package fs

import (
	"context"
	iofs "io/fs"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"depotfs/cache"
)

// loopback is a heart for tests: names in memory, bytes in one file per inode. Its
// files can be made to look as if they were not here.
type loopback struct {
	dir string

	mu    sync.Mutex // guards below; held for moments
	nodes map[cache.Ino]*lnode
	last  cache.Ino
	calls map[string]int

	epoch   uint64
	absent  bool                                           // new opens find their file not resident
	waiting func(ctx context.Context, ino cache.Ino) error // called before a read of what is absent
	onAttr  func(ino cache.Ino)                            // called in Attr, without locks
	onOpen  func(ino cache.Ino)                            // called in Open, without locks
	onMkdir func()                                         // called in Mkdir, without locks
	cookies uint64

	closeMatters bool // what CloseMatters says
}

type lnode struct {
	attr    cache.Attr
	parent  cache.Ino
	entries []cache.DirEntry // in order of cookies
	target  string
	xattrs  map[string][]byte
	file    *os.File
	handles int
}

func newLoopback(t testing.TB) *loopback {
	t.Helper()
	l := &loopback{dir: t.TempDir(), nodes: map[cache.Ino]*lnode{}, last: 100, calls: map[string]int{}, epoch: 0xfeed, cookies: 2}
	now := time.Now().UnixNano()
	l.nodes[1] = &lnode{parent: 1, attr: cache.Attr{Ino: 1, Mode: syscall.S_IFDIR | 0o777, Nlink: 2, Atime: now, Mtime: now, Ctime: now}}
	t.Cleanup(func() {
		for _, n := range l.nodes {
			if n.file != nil {
				n.file.Close()
			}
		}
	})
	return l
}

// lock counts a call and takes the lock.
func (l *loopback) lock(op string) func() {
	l.mu.Lock()
	l.calls[op]++
	return l.mu.Unlock
}

func (l *loopback) count(op string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls[op]
}

// file is the backing file of an inode.
func (l *loopback) file(ino cache.Ino) *os.File {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nodes[ino].file
}

func (l *loopback) Epoch() uint64 { return l.epoch }

func (l *loopback) node(ino cache.Ino) (*lnode, error) {
	if n := l.nodes[ino]; n != nil {
		return n, nil
	}
	return nil, cache.ErrStale
}

func (l *loopback) attrLocked(n *lnode) cache.Attr {
	a := n.attr
	if n.file == nil {
		return a
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(int(n.file.Fd()), &st); err != nil {
		panic(err)
	}
	a.Size, a.Blocks = st.Size, st.Blocks
	a.Atime, a.Mtime, a.Ctime = st.Atim.Nano(), st.Mtim.Nano(), max(a.Ctime, st.Ctim.Nano())
	return a
}

func (l *loopback) find(parent cache.Ino, name string) (*lnode, int, error) {
	dir, err := l.node(parent)
	if err != nil {
		return nil, 0, err
	}
	if len(name) > 255 {
		return nil, 0, syscall.ENAMETOOLONG
	}
	i := slices.IndexFunc(dir.entries, func(e cache.DirEntry) bool { return e.Name == name })
	if i < 0 {
		return dir, -1, iofs.ErrNotExist
	}
	return dir, i, nil
}

func (l *loopback) Lookup(_ context.Context, parent cache.Ino, name string) (cache.Attr, error) {
	defer l.lock("lookup")()
	dir, i, err := l.find(parent, name)
	if err != nil {
		return cache.Attr{}, err
	}
	return l.attrLocked(l.nodes[dir.entries[i].Ino]), nil
}

func (l *loopback) Attr(_ context.Context, ino cache.Ino) (cache.Attr, error) {
	l.mu.Lock()
	hook := l.onAttr
	l.mu.Unlock()
	if hook != nil {
		hook(ino)
	}
	defer l.lock("attr")()
	n, err := l.node(ino)
	if err != nil {
		return cache.Attr{}, err
	}
	return l.attrLocked(n), nil
}

func (l *loopback) Parent(_ context.Context, ino cache.Ino) (cache.Attr, error) {
	defer l.lock("parent")()
	n, err := l.node(ino)
	if err != nil {
		return cache.Attr{}, err
	}
	return l.attrLocked(l.nodes[n.parent]), nil
}

func (l *loopback) SetAttr(_ context.Context, ino cache.Ino, h Handle, s cache.SetAttr) (cache.Attr, error) {
	defer l.lock("setattr")()
	n, err := l.node(ino)
	if err != nil {
		return cache.Attr{}, err
	}
	now := time.Now().UnixNano()
	if s.Valid&cache.SetMode != 0 {
		n.attr.Mode = n.attr.Mode&syscall.S_IFMT | s.Mode
	}
	if s.Valid&cache.SetUID != 0 {
		n.attr.UID = s.UID
	}
	if s.Valid&cache.SetGID != 0 {
		n.attr.GID = s.GID
	}
	if s.Valid&cache.SetSize != 0 {
		if err := n.file.Truncate(s.Size); err != nil {
			return cache.Attr{}, err
		}
	}
	if s.Valid&(cache.SetAtime|cache.SetMtime) != 0 {
		a := l.attrLocked(n)
		pick := func(set, setNow cache.SetValid, at, old int64) int64 {
			switch {
			case s.Valid&setNow != 0:
				return now
			case s.Valid&set != 0:
				return at
			}
			return old
		}
		atime := pick(cache.SetAtime, cache.SetAtimeNow, s.Atime, a.Atime)
		mtime := pick(cache.SetMtime, cache.SetMtimeNow, s.Mtime, a.Mtime)
		n.attr.Atime, n.attr.Mtime = atime, mtime
		if n.file != nil {
			if err := os.Chtimes(n.file.Name(), time.Unix(0, atime), time.Unix(0, mtime)); err != nil {
				return cache.Attr{}, err
			}
		}
	}
	n.attr.Ctime = now
	return l.attrLocked(n), nil
}

func (l *loopback) OpenDir(_ context.Context, ino cache.Ino) error {
	defer l.lock("opendir")()
	_, err := l.node(ino)
	return err
}

func (l *loopback) ReadDir(_ context.Context, ino cache.Ino, cookie uint64, fn func(cache.DirEntry) bool) error {
	defer l.lock("readdir")()
	n, err := l.node(ino)
	if err != nil {
		return err
	}
	for _, e := range n.entries {
		if e.Cookie > cookie && !fn(e) {
			break
		}
	}
	return nil
}

func (l *loopback) ReadDirPlus(_ context.Context, ino cache.Ino, cookie uint64, fn func(cache.DirEntry, cache.Attr) bool) error {
	defer l.lock("readdirplus")()
	n, err := l.node(ino)
	if err != nil {
		return err
	}
	for _, e := range n.entries {
		var a cache.Attr
		if child, err := l.node(e.Ino); err == nil {
			a = l.attrLocked(child)
		}
		if e.Cookie > cookie && !fn(e, a) {
			break
		}
	}
	return nil
}

func (l *loopback) CloseMatters() bool { return l.closeMatters }

func (l *loopback) SyncDir(context.Context, cache.Ino) error { defer l.lock("syncdir")(); return nil }

func (l *loopback) Create(_ context.Context, who cache.Owner, parent cache.Ino, name string, mode uint32, flags int) (cache.Attr, Handle, error) {
	defer l.lock("create")()
	n, err := l.make(who, parent, name, syscall.S_IFREG|mode&07777)
	if err != nil {
		return cache.Attr{}, nil, err
	}
	n.handles++
	return l.attrLocked(n), &lhandle{l: l, n: n, resident: true}, nil
}

func (l *loopback) Tmpfile(_ context.Context, who cache.Owner, parent cache.Ino, mode uint32, flags int) (cache.Attr, Handle, error) {
	return l.Create(context.Background(), who, parent, "", mode, flags)
}

func (l *loopback) Open(_ context.Context, ino cache.Ino, flags int) (Handle, error) {
	l.mu.Lock()
	hook := l.onOpen
	l.mu.Unlock()
	if hook != nil {
		hook(ino)
	}
	defer l.lock("open")()
	n, err := l.node(ino)
	if err != nil {
		return nil, err
	}
	if flags&syscall.O_TRUNC != 0 {
		if err := n.file.Truncate(0); err != nil {
			return nil, err
		}
	}
	n.handles++
	return &lhandle{l: l, n: n, resident: !l.absent}, nil
}

func (l *loopback) GetXattr(_ context.Context, ino cache.Ino, name string) ([]byte, error) {
	defer l.lock("getxattr")()
	n, err := l.node(ino)
	if err != nil {
		return nil, err
	}
	v, ok := n.xattrs[name]
	if !ok {
		return nil, syscall.ENODATA
	}
	return v, nil
}

func (l *loopback) SetXattr(_ context.Context, ino cache.Ino, name string, value []byte, flags int) error {
	defer l.lock("setxattr")()
	n, err := l.node(ino)
	if err == nil {
		n.xattrs[name] = value
	}
	return err
}

func (l *loopback) ListXattr(_ context.Context, ino cache.Ino) (names []string, err error) {
	defer l.lock("listxattr")()
	n, err := l.node(ino)
	if err != nil {
		return nil, err
	}
	for name := range n.xattrs {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

func (l *loopback) RemoveXattr(_ context.Context, ino cache.Ino, name string) error {
	defer l.lock("removexattr")()
	n, err := l.node(ino)
	if err == nil {
		delete(n.xattrs, name)
	}
	return err
}

func (l *loopback) Statfs(context.Context) (cache.Statfs, error) {
	return cache.Statfs{BlockSize: 4096, Total: 1 << 50, Free: 1 << 49, Avail: 1 << 49, Files: 1 << 30, FilesFree: 1 << 29, NameLen: 255}, nil
}
