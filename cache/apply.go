package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
	"depotfs/cache/layout"
	"depotfs/cache/share"
)

// errHeld: what a record changes has bytes that only we have, or is busy. The record
// waits in the catalog (held.go).
var errHeld = errors.New("waits for a file of this zone")

// errRefused: a record that is not applied, whatever happens.
var errRefused = errors.New("cannot be applied")

// applyRecord takes in what another zone did, as the section "Zones" of doc.go says.
// Records of one zone come in its order, those of several zones in any; the same one may
// come twice. An error is what another try may mend.
func (c *Cache) applyRecord(ctx context.Context, d *depot, r journal.Record) error {
	err := c.checkRecord(&r)
	if err == nil {
		c.learnTime(max(r.Time, r.AttrTime))
		if err = c.keepLatest(); err == nil {
			err = c.apply(ctx, r)
		}
	}
	switch {
	case errors.Is(err, errHeld):
		return c.hold(r)
	case err == nil, mayMend(err):
		return err
	}
	c.problems.add("import", r.Path, fmt.Sprintf("what zone %s did (%s) could not be taken in: %v", r.Zone, r.Op, err), c.now())
	c.log.Error("a change record could not be applied", "path", r.Path, "op", r.Op, "zone", r.Zone, "err", err)
	return nil
}

// mayMend says whether a record that could not be applied is to be tried again: the
// journal stands still until then.
func mayMend(err error) bool {
	for _, e := range []error{ErrUnavailable, ErrOff, ErrMarker, ErrDenied, context.Canceled, context.DeadlineExceeded, catalog.ErrClosed,
		syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.ESTALE, syscall.ETIMEDOUT, syscall.EROFS, syscall.EMFILE, syscall.ENFILE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// checkRecord refuses what a record from the bucket must not name, and drops what is of
// no use: the journal was decoded, but who wrote it is not known.
func (c *Cache) checkRecord(r *journal.Record) error {
	if r.Zone == "" || r.Time <= 0 {
		return fmt.Errorf("it has no zone or no time: %w", errRefused)
	}
	for _, p := range []string{r.Path, r.From} {
		path, slash, err := layout.ParsePath(p)
		if err != nil {
			return fmt.Errorf("%w: %w", errRefused, err)
		}
		if slash && path != "" {
			return fmt.Errorf("path %q ends in a slash: %w", p, errRefused)
		}
	}
	if r.Path == "" && r.Op != journal.Attr {
		return fmt.Errorf("%s of the root: %w", r.Op, errRefused)
	}
	if (r.From == "") == (r.Op == journal.Rename || r.Op == journal.Exchange) {
		return fmt.Errorf("%s from %q: %w", r.Op, r.From, errRefused)
	}
	if r.From != "" && (below(r.From, r.Path) || below(r.Path, r.From)) {
		return fmt.Errorf("%s of %q to %q: %w", r.Op, r.From, r.Path, errRefused)
	}
	if r.Op == journal.Put && r.Key == "" || r.Size < 0 {
		return fmt.Errorf("no object, or one of %d bytes: %w", r.Size, errRefused)
	}
	if r.Key != "" {
		if err := c.checkKey(r.Key, r.Op == journal.Mkdir || r.Op == journal.Rmdir); err != nil {
			return err
		}
	}
	if !c.isTrash(r.Trash) {
		r.Trash = ""
	}
	if r.Op == journal.Symlink && (r.Target == "" || len(r.Target) >= syscall.PathMax || strings.IndexByte(r.Target, 0) >= 0) {
		return fmt.Errorf("target of %d bytes: %w", len(r.Target), errRefused)
	}
	return nil
}

// checkKey accepts the keys of files and directories of the depot, those that are put
// aside for a moment, and no others of depotfs's own.
func (c *Cache) checkKey(key string, dir bool) error {
	_, slash, err := layout.Path(c.cfg.Prefix, key)
	if errors.Is(err, layout.ErrPrivate) {
		named, ok := layout.IsNameKey(c.cfg.Prefix, key)
		if ok || strings.HasPrefix(key, c.cfg.Prefix+share.Private+"/moving/") {
			slash, err = named, nil
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	if slash && !dir || key == c.cfg.Prefix {
		return fmt.Errorf("key %q: %w", key, errRefused)
	}
	return nil
}

// isTrash says whether a key is of something that was deleted and kept.
func (c *Cache) isTrash(key string) bool {
	return strings.HasPrefix(key, c.cfg.Prefix+share.Private+"/trash/")
}

// below says whether path is dir or below it.
func below(path, dir string) bool {
	rest, ok := strings.CutPrefix(path, dir)
	return ok && (rest == "" || rest[0] == '/')
}

// apply applies a record that was checked. One at a time is, so that a path is not
// translated while a rename moves it.
func (c *Cache) apply(ctx context.Context, r journal.Record) error {
	c.applying.Lock()
	defer c.applying.Unlock()
	if c.gone.Load() {
		return ErrMarker
	}
	if r.Op == journal.Rename || r.Op == journal.Exchange {
		return c.applyMove(ctx, r)
	}
	moved, err := c.renamedSince(&r)
	if err != nil {
		return err
	}
	if !c.rules.Of(r.Path).Shown {
		return nil
	}
	if hidden, err := c.heldHears(r); hidden || err != nil {
		return err
	}
	if err := c.trying(r.Path, func() error { return c.applyOnce(r) }); err != nil {
		return err
	}
	return c.followKey(r, moved)
}

func (c *Cache) applyOnce(r journal.Record) error {
	switch r.Op {
	case journal.Put:
		return c.applyPut(r)
	case journal.Mkdir:
		return c.applyMkdir(r)
	case journal.Symlink:
		return c.applySymlink(r)
	case journal.Attr:
		return c.applyAttr(r)
	case journal.Delete:
		return c.applyDelete(r)
	case journal.Rmdir:
		return c.applyRmdir(r)
	}
	return fmt.Errorf("%q is no change: %w", r.Op, errRefused)
}

// tryAgain says whether a change that met others' doings in the share, or lost a race
// against a user, is to be tried again now that these were taken in.
func (c *Cache) tryAgain(err error, path string, try int) (again bool, _ error) {
	switch {
	case errors.Is(err, errMoved) && try < maxApplies:
		return true, nil
	case errors.Is(err, errOutside) && try < maxApplies:
		rec, _, _, err := c.at(path)
		if err == nil && rec != nil {
			err = c.lookAtInodes(rec.Ino)
		}
		return true, err
	case errors.Is(err, errMoved), errors.Is(err, errOutside):
		return false, fmt.Errorf("%w: others keep changing it: %w", errHeld, err)
	}
	return false, err
}

// maxApplies is how often a record is tried before it waits for what is in its way.
const maxApplies = 5
