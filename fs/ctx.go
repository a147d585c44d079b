package fs

import (
	"context"
	"time"
)

// interrupt is the kernel's cancel channel of one request as a context: it ends
// when the caller got a signal or the mount is gone. It costs no allocation and no
// goroutine.
type interrupt <-chan struct{}

var _ context.Context = interrupt(nil)

// Done is the kernel's channel.
func (i interrupt) Done() <-chan struct{} { return i }

// Err is context.Canceled once the request was interrupted.
func (i interrupt) Err() error {
	select {
	case <-i:
		return context.Canceled
	default:
		return nil
	}
}

// Deadline says that there is none.
func (interrupt) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value knows nothing.
func (interrupt) Value(any) any { return nil }
