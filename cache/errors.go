package cache

import "errors"

// What a Store may answer. The adapter classifies, the queue decides on retries,
// package fs turns them into errno in one table.
var (
	// ErrNotFound: no such object, upload or bucket. Permanent.
	ErrNotFound = errors.New("not in the store")
	// ErrChanged: a condition failed, the object is another version (412, 409). Permanent for this request.
	ErrChanged = errors.New("changed in the store")
	// ErrDenied: credentials are wrong, expired or insufficient. Retried slowly: a person must act.
	ErrDenied = errors.New("the store refused access")
	// ErrChecksum: bytes did not have the checksum that was announced. Retried.
	ErrChecksum = errors.New("checksum mismatch")
	// ErrRejected: the store refuses this request for good (bad key, too large, not implemented).
	ErrRejected = errors.New("the store rejected the request")
	// ErrUnavailable: unreachable, overloaded or failing (5xx, timeouts, cut connections). Retried.
	ErrUnavailable = errors.New("the store is unavailable")
)

// What the heart answers besides the standard library's own words
// (iofs.ErrNotExist, syscall.Errno of the share, context errors).
var (
	// ErrOff: the bytes are in the depot and the store is off.
	ErrOff = errors.New("the store is off")
	// ErrGone: the version that is needed no longer exists in the depot.
	ErrGone = errors.New("the object vanished from the depot or was replaced there")
	// ErrStale: no such inode (any more).
	ErrStale = errors.New("stale inode number")
	// ErrMarker: the share is not the one that this state directory knows.
	ErrMarker = errors.New("the cache directory is not the share that this state directory belongs to")
	// ErrBusy: the file is open, dirty or otherwise in use for what was asked.
	ErrBusy = errors.New("busy")
)
