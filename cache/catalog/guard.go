package catalog

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// guard is deferred around calls into Badger: tables and logs are mapped into
// memory, and damage in them surfaces as a panic or a memory fault. It must
// not surround a caller's function, whose panics are its own. Where tables are
// read, memory faults must be made panics of the goroutine first:
//
//	defer guard(&err)
//	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
func guard(err *error) {
	if p := recover(); p != nil {
		*err = damagedf("%v", p)
	}
}

// refused makes an error of badger.Open one of ours. Badger drops the chain of
// its errors, so what the machine lacks is told from damage by its words.
func refused(err error) error {
	if strings.Contains(err.Error(), "Cannot acquire directory lock") && strings.Contains(err.Error(), unix.EAGAIN.Error()) {
		return fmt.Errorf("%w (%v)", ErrInUse, err) // by another program than depotfs, or a child of one that is being started
	}
	for _, no := range []unix.Errno{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOSPC, unix.EDQUOT, unix.EACCES, unix.EPERM, unix.EROFS, unix.EIO} {
		if strings.Contains(err.Error(), no.Error()) {
			return err
		}
	}
	return damagedf("%v", err)
}
