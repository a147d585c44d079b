package s3test

import (
	"os/exec"
	"testing"
)

// The Makefile runs this test alone, first, with a timeout that fits a first
// build: then no other test's timeout pays for it.
func TestBuild(t *testing.T) {
	for _, kind := range Kinds {
		t.Run(kind.Name, func(t *testing.T) {
			program := Build(t, kind)
			out, err := exec.CommandContext(t.Context(), program, "--version").CombinedOutput()
			if err != nil {
				t.Errorf("%s --version: %v\n%s", program, err, out)
			}
		})
	}
}
