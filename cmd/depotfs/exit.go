package main

import (
	"context"
	"errors"
	"fmt"
)

// Exit codes; scripts rely on them.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a mistake in what was asked: the command did nothing.
type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

func usagef(format string, args ...any) error {
	return &usageError{msg: fmt.Sprintf(format, args...)}
}

// errReported ends a command with exit code 1 that has told everything already.
var errReported = errors.New("failed")

// errInterrupted is what a person sees who pressed ctrl-C.
var errInterrupted = errors.New("interrupted")

// exitCode is the one place that decides how a run ends.
func exitCode(err error) int {
	var usage *usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		return exitUsage
	default:
		return exitFailed
	}
}

// interruptedOr replaces the noise of a cancelled command by one word.
func interruptedOr(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return errInterrupted
	}
	return err
}
