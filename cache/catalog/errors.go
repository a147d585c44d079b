package catalog

import (
	"errors"
	"fmt"
	"syscall"
)

var (
	// ErrNotFound: no such record.
	ErrNotFound = errors.New("not in the catalog")
	// ErrInUse: another process (or another Catalog of this one) has the directory open.
	ErrInUse = errors.New("the catalog is in use by another depotfs")
	// ErrNewer: the catalog was written by a newer depotfs; nothing was changed in it.
	ErrNewer = errors.New("the catalog was written by a newer depotfs: install that version, or a newer one")
	// ErrDamaged: records are missing or do not make sense. The text tells a person what to do.
	ErrDamaged = errors.New("the catalog is damaged; no file content is in it, the share holds all of that: " +
		"stop depotfs, move the state directory aside, mount again, and depotfs rebuilds the catalog from share and depot")
	// ErrFull: the disk of the state directory has no room for another change.
	ErrFull = fmt.Errorf("the state directory's disk is full: free some space there: %w", syscall.ENOSPC)
	// ErrTooBig: a record, or a transaction as a whole, is larger than the catalog can store at once.
	ErrTooBig = errors.New("too large for one change of the catalog")
	// ErrClosed: the catalog was closed.
	ErrClosed = errors.New("the catalog is closed")
)

// damagedf says what was found; the result wraps ErrDamaged.
func damagedf(format string, args ...any) error {
	return fmt.Errorf("%w (found: %s)", ErrDamaged, fmt.Sprintf(format, args...))
}
