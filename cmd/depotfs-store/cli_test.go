package main

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// command runs the program to its end.
func command(t *testing.T, env []string, args ...string) (stdout, stderr string, exit int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Env = testEnv(env...)
	var o, e strings.Builder
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

func TestBadInput(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	taken := t.TempDir()
	start(t, taken)

	dir := t.TempDir()
	for _, test := range []struct {
		name string
		args []string
		env  []string
		exit int
		says string
	}{
		{name: "no directory", exit: 2, says: "--dir is missing"},
		{name: "unknown option", args: []string{"--bogus"}, exit: 2, says: "-bogus"},
		{name: "an argument", args: []string{"--dir", dir, "more"}, exit: 2, says: `unexpected argument "more"`},
		{name: "half a key pair", args: []string{"--dir", dir}, env: []string{"AWS_ACCESS_KEY_ID=x"}, exit: 2, says: "AWS_SECRET_ACCESS_KEY is not"},
		{name: "the other half", args: []string{"--dir", dir}, env: []string{"AWS_SECRET_ACCESS_KEY=x"}, exit: 2, says: "AWS_ACCESS_KEY_ID is not"},
		{name: "no port", args: []string{"--dir", dir, "--listen", "localhost"}, exit: 2, says: "not HOST:PORT"},
		{name: "bad port", args: []string{"--dir", dir, "--listen", "127.0.0.1:99999"}, exit: 2, says: "not a port"},
		{name: "any port of a name", args: []string{"--dir", dir, "--listen", "localhost:0"}, exit: 2, says: "needs an IP address"},
		{name: "directory is a file", args: []string{"--dir", file}, exit: 1, says: "not a directory"},
		{name: "directory cannot be made", args: []string{"--dir", "/proc/depotfs-store"}, exit: 1, says: "/proc/depotfs-store"},
		{name: "directory cannot be written", args: []string{"--dir", "/proc/self"}, exit: 1, says: "/proc/"},
		{name: "directory in use", args: []string{"--dir", taken}, exit: 1, says: "in use by another depotfs-store"},
		{name: "address in use", args: []string{"--dir", dir, "--listen", busy.Addr().String()}, exit: 1, says: "in use by another program"},
	} {
		t.Run(test.name, func(t *testing.T) {
			stdout, stderr, exit := command(t, test.env, test.args...)
			if exit != test.exit || stdout != "" || !strings.Contains(stderr, test.says) {
				t.Errorf("exit %d, stdout %q, stderr %q; want exit %d and %q", exit, stdout, stderr, test.exit, test.says)
			}
			lines := strings.Count(stderr, "\n")
			if test.exit == 2 {
				lines-- // the pointer to --help
			}
			if lines != 1 || !strings.HasPrefix(stderr, "depotfs-store: ") {
				t.Errorf("stderr is not one clear line: %q", stderr)
			}
		})
	}
}

func TestHelpAndVersion(t *testing.T) {
	for arg, says := range map[string]string{"--help": "--listen ADDR", "--version": "depotfs-store version"} {
		stdout, stderr, exit := command(t, nil, arg)
		if exit != 0 || stderr != "" || !strings.Contains(stdout, says) {
			t.Errorf("%s: exit %d, stdout %q, stderr %q", arg, exit, stdout, stderr)
		}
	}
}

func TestMakesAKeyPair(t *testing.T) {
	p := start(t, t.TempDir(), "UNRELATED=1")
	m := regexp.MustCompile(`^AWS_ACCESS_KEY_ID=(\S{20})\nAWS_SECRET_ACCESS_KEY=(\S{40})\ndepotfs-store: listening on http://127\.0\.0\.1:\d+ dir=/\S+\n$`).FindStringSubmatch(p.stdout)
	if m == nil {
		t.Fatalf("stdout: %q", p.stdout)
	}
	put(t, p.client(m[1], m[2]), "bucket", "k", "v")
	wantObject(t, p.client(m[1], m[2]), "bucket", "k", "v")
}

func TestGivenKeysAreNotPrinted(t *testing.T) {
	p := start(t, t.TempDir())
	if strings.Contains(p.stdout+p.stderr.String(), testSecret) || strings.Contains(p.stdout, testAccess) {
		t.Errorf("keys in the output: %q %q", p.stdout, p.stderr)
	}
}
