package cache

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"depotfs/cache/catalog"
)

// virtualXattr begins the names of the attributes that show a file's state. They
// are never stored and never listed, so that copying tools do not carry them away.
const virtualXattr = "user.depotfs."

const maxXattr = 64 << 10 // bytes in a value, Linux's own limit (XATTR_SIZE_MAX)

// GetXattr returns one extended attribute.
func (c *Cache) GetXattr(_ context.Context, ino Ino, name string) ([]byte, error) {
	if v, ok := strings.CutPrefix(name, virtualXattr); ok {
		return c.virtual(ino, v)
	}
	if err := xattrSpace(name); err != nil {
		return nil, err
	}
	var value []byte
	err := c.cat.View(func(tx *catalog.Tx) error {
		if _, err := inode(tx, ino); err != nil {
			return err
		}
		v, err := tx.Xattr(ino, name)
		if errors.Is(err, catalog.ErrNotFound) {
			return unix.ENODATA
		}
		value = v
		return err
	})
	return value, err
}

func (c *Cache) virtual(ino Ino, name string) ([]byte, error) {
	rec, err := c.record(ino)
	if err != nil {
		return nil, err
	}
	fs := c.fileStatus(rec, c.pathText(rec))
	switch name {
	case "state":
		return []byte(fs.State), nil
	case "etag":
		return []byte(fs.ETag), nil
	case "pending-bytes":
		return strconv.AppendInt(nil, fs.Pending, 10), nil
	case "last-error":
		return []byte(fs.LastError), nil
	case "pin":
		if fs.Pinned {
			return []byte("1"), nil
		}
		return []byte("0"), nil
	}
	return nil, unix.ENODATA
}

// SetXattr stores one extended attribute in the catalog; they stay in the zone.
// flags are XATTR_CREATE and XATTR_REPLACE.
func (c *Cache) SetXattr(_ context.Context, ino Ino, name string, value []byte, flags int) error {
	if v, ok := strings.CutPrefix(name, virtualXattr); ok {
		return c.setVirtual(ino, v, string(value))
	}
	if err := mayXattr(name, value); err != nil {
		return err
	}
	return c.withXattrOwner(ino, name, func(tx *catalog.Tx, exists bool) error {
		switch {
		case exists && flags&unix.XATTR_CREATE != 0:
			return syscall.EEXIST
		case !exists && flags&unix.XATTR_REPLACE != 0:
			return unix.ENODATA
		}
		return tx.PutXattr(ino, name, value)
	})
}

func mayXattr(name string, value []byte) error {
	switch {
	case len(value) > maxXattr:
		return syscall.E2BIG
	case len(name) > maxName:
		return syscall.ERANGE
	}
	return xattrSpace(name)
}

// xattrSpace says whether names like this one can be: one of Linux's name spaces
// and something after it.
func xattrSpace(name string) error {
	for _, space := range []string{"user.", "trusted.", "security."} {
		if name == space {
			return syscall.EINVAL
		}
		if strings.HasPrefix(name, space) {
			return nil
		}
	}
	return syscall.EOPNOTSUPP // system. too: the mode bits are the whole truth, not ACLs
}

func (c *Cache) setVirtual(ino Ino, name, value string) error {
	if name != "pin" || value != "0" && value != "1" {
		return fmt.Errorf("set %s%s: %w", virtualXattr, name, syscall.EPERM)
	}
	return c.pin(ino, value == "1")
}

func (c *Cache) pin(ino Ino, on bool) error {
	_, err := c.change(ino, func(_ *catalog.Tx, r *catalog.Inode) error {
		if on {
			r.Flags |= catalog.FlagPinned
		} else {
			r.Flags &^= catalog.FlagPinned
		}
		return nil
	})
	return err
}

// RemoveXattr removes one extended attribute.
func (c *Cache) RemoveXattr(_ context.Context, ino Ino, name string) error {
	if name == virtualXattr+"pin" {
		return c.pin(ino, false)
	}
	if err := xattrSpace(name); err != nil {
		return err
	}
	return c.withXattrOwner(ino, name, func(tx *catalog.Tx, exists bool) error {
		if !exists {
			return unix.ENODATA
		}
		return tx.DeleteXattr(ino, name)
	})
}

// withXattrOwner changes an attribute and, with it, the inode's ctime.
func (c *Cache) withXattrOwner(ino Ino, name string, fn func(tx *catalog.Tx, exists bool) error) error {
	_, err := c.change(ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		_, err := tx.Xattr(ino, name)
		if err != nil && !errors.Is(err, catalog.ErrNotFound) {
			return err
		}
		if err := fn(tx, err == nil); err != nil {
			return err
		}
		r.Ctime = c.nanos()
		r.Flags |= catalog.FlagXattrs
		return nil
	})
	return err
}

// ListXattr returns the names of the stored attributes.
func (c *Cache) ListXattr(_ context.Context, ino Ino) ([]string, error) {
	var names []string
	err := c.cat.View(func(tx *catalog.Tx) error {
		if _, err := inode(tx, ino); err != nil {
			return err
		}
		var err error
		names, err = tx.Xattrs(ino)
		return err
	})
	return names, err
}
