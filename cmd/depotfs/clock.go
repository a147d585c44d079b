package main

import (
	"fmt"
	"os"
	"time"
)

// clockEnv names the environment variable that sets a mount's clock ahead of the machine's,
// or back. The linker gives it to the programs that tests build for themselves; in all
// others it is empty, and no variable does.
var clockEnv string

// clock is a mount's clock; nil is the machine's.
func clock() (func() time.Time, error) {
	if clockEnv == "" || os.Getenv(clockEnv) == "" {
		return nil, nil
	}
	ahead, err := time.ParseDuration(os.Getenv(clockEnv))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", clockEnv, err)
	}
	return func() time.Time { return time.Now().Add(ahead) }, nil
}
