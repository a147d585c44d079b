package cache

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"depotfs/cache/catalog"
)

// The unseen version is what the depot had of a file that was not here when others
// made another one under its name: they could not see it, so that it was not theirs
// to replace. It is the current object of their file, which has FlagUnseen; or, while
// the old inode is still read by who has it open, of that one, and the setting
// heir/<old inode> names their file. It is kept under conflicts in the depot before
// its object goes for the sake of theirs, under whatever name theirs is by then.

// settingHeir begins the names of those settings.
const settingHeir = "heir/"

func heirName(old Ino) string { return settingHeir + strconv.FormatUint(uint64(old), 10) }

// setHeir notes whose the unseen version of an open file without a name will be.
func setHeir(tx *catalog.Tx, old, heir Ino) error {
	return tx.PutSetting(heirName(old), strconv.AppendUint(nil, uint64(heir), 10))
}

// heirOf is the file that was made in the place of an unlinked one and has not seen
// its object, or nil.
func heirOf(tx *catalog.Tx, old Ino) (*catalog.Inode, error) {
	text, err := tx.Setting(heirName(old))
	if err != nil {
		if errors.Is(err, catalog.ErrNotFound) {
			err = nil
		}
		return nil, err
	}
	n, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("setting %s: %w: %w", heirName(old), catalog.ErrDamaged, err)
	}
	rec, err := tx.Inode(Ino(n))
	if errors.Is(err, catalog.ErrNotFound) || err == nil && (rec.Flags&catalog.FlagUnseen == 0 || len(rec.Links) == 0) {
		return nil, nil
	}
	return rec, err
}

// testatorOf is the open file without a name whose object rec has not seen; 0 for none.
func testatorOf(tx *catalog.Tx, rec Ino) (Ino, error) {
	want := strconv.FormatUint(uint64(rec), 10)
	var old Ino
	err := tx.EachSetting(settingHeir, func(name string, value []byte) bool {
		if string(value) == want {
			n, err := strconv.ParseUint(name[len(settingHeir):], 10, 64)
			if err == nil {
				old = Ino(n)
			}
		}
		return old == 0
	})
	return old, err
}

// bequeath gives the objects of an unlinked inode, which goes, to who has not seen them.
func (c *Cache) bequeath(tx *catalog.Tx, old *catalog.Inode) error {
	if len(old.Objects) == 0 {
		return nil
	}
	heir, err := heirOf(tx, old.Ino)
	if err != nil {
		return err
	}
	if err := tx.DeleteSetting(heirName(old.Ino)); err != nil {
		return err
	}
	if heir == nil || len(heir.Objects) > 0 {
		return nil
	}
	if err := inherit(tx, old, heir); err != nil {
		return err
	}
	return tx.PutInode(heir)
}

// unseen is the object with the version that the maker of rec could not see; ok is
// false where there is none.
func (c *Cache) unseen(rec *catalog.Inode) (o catalog.Object, size int64, ok bool, err error) {
	if rec.Flags&catalog.FlagUnseen == 0 {
		return o, 0, false, nil
	}
	if o, ok = currentObject(rec); ok {
		return o, rec.Base.Size, true, nil
	}
	err = c.cat.View(func(tx *catalog.Tx) error {
		ino, err := testatorOf(tx, rec.Ino)
		if ino == 0 || err != nil {
			return err
		}
		old, err := tx.Inode(ino)
		if errors.Is(err, catalog.ErrNotFound) {
			return nil
		}
		if err == nil {
			o, ok = currentObject(old)
			size = old.Base.Size
		}
		return err
	})
	return o, size, ok, err
}

// keepUnseen keeps the version that the maker of rec could not see, and forgets that
// it could not: its object may go now. It returns rec as it is then.
func (c *Cache) keepUnseen(ctx context.Context, d *depot, rec *catalog.Inode) (*catalog.Inode, error) {
	o, size, ok, err := c.unseen(rec)
	if err != nil {
		return nil, err
	}
	if ok {
		path := c.pathText(rec)
		err := c.keepTheirs(ctx, d, o.Key, path, ObjectInfo{ETag: o.ETag, Size: size}, lostUnseen)
		if errors.Is(err, ErrChanged) { // replaced in the depot: that one was not seen either
			info, herr := d.store.Head(ctx, o.Key)
			d.report(herr)
			if err = herr; err == nil {
				err = c.keepTheirs(ctx, d, o.Key, path, info, lostUnseen)
			}
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
	}
	return c.change(rec.Ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		r.Flags &^= catalog.FlagUnseen
		return nil
	})
}

// passUnseen has next, which takes the place of old under a name, answer for the
// version that old's maker could not see, or that its own could not. inherited says
// that next has old's objects.
func passUnseen(tx *catalog.Tx, old, next *catalog.Inode, inherited bool) error {
	switch {
	case inherited && old.Flags&catalog.FlagUnseen != 0:
		testator, err := testatorOf(tx, old.Ino)
		if testator == 0 || err != nil {
			return err
		}
		return setHeir(tx, testator, next.Ino)
	case !inherited && next.Flags&catalog.FlagUnseen != 0:
		return setHeir(tx, old.Ino, next.Ino)
	}
	return nil
}
