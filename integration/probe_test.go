package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// tryPassthrough mounts once, without a store, and asks.
func tryPassthrough(dir string) (bool, error) {
	dir = filepath.Join(dir, "probe")
	share, mnt := filepath.Join(dir, "share"), filepath.Join(dir, "mnt")
	for _, d := range []string{share, mnt} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return false, err
		}
	}
	run := func(args ...string) ([]byte, error) {
		var stderr bytes.Buffer
		cmd := exec.Command(depotfsBin, args...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("depotfs %s: %w\n%s", args[0], err, &stderr)
		}
		return out, err
	}
	if _, err := run("mount", "--cache-dir", share, "--state-dir", filepath.Join(dir, "state"), mnt); err != nil {
		return false, err
	}
	text, err := run("status", "--json", mnt)
	if err != nil {
		return false, err
	}
	var s status
	if err := json.Unmarshal(text, &s); err != nil {
		return false, fmt.Errorf("status --json: %w", err)
	}
	_, err = run("umount", mnt)
	return s.Passthrough, err
}
