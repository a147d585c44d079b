package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain lets the test binary be depotfs itself: what is tested then is the
// whole program, with its exit codes.
func TestMain(m *testing.M) {
	if os.Getenv("BE_DEPOTFS") == "1" {
		main()
	}
	os.Exit(m.Run())
}

// depotfs runs the program and returns what it wrote and its exit code.
func depotfs(t *testing.T, args ...string) (out, errs string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), "BE_DEPOTFS=1")
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	_ = cmd.Run()
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// Everything that is wrong before a mount: one clear line, the right code, and
// nothing left behind.
func TestBadInput(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, sub := range []string{"cache/inner", "mnt/inner", "state", "full/things"} {
		if err := os.MkdirAll(at(sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(at("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mount := func(args ...string) []string {
		return append([]string{"mount", "--cache-dir", at("cache"), "--state-dir", at("state")}, args...)
	}
	for _, tt := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no command", nil, 2, "name a command"},
		{"unknown command", []string{"moutn"}, 2, `unknown command "moutn": did you mean depotfs mount?`},
		{"command of a later version", []string{"check"}, 2, `unknown command "check"; see depotfs --help`},
		{"unknown option", mount("--cach-size=1", at("mnt")), 2, "mount: unknown option --cach-size: did you mean --cache-size?"},
		{"option of another command", []string{"status", "--timeout", "1s"}, 2, "status: unknown option --timeout"},
		{"option without its value", []string{"mount", "/x", "--zone"}, 2, "mount: option --zone needs a value"},
		{"unknown subcommand", []string{"config", "frobnicate"}, 2, `unknown command "config frobnicate"; see depotfs config --help`},
		{"no subcommand", []string{"config"}, 2, "config: what? It knows: show"},
		{"too many mount points", mount("/a", "/b"), 2, "mount: name one directory"},
		{"no mount point", mount(), 2, "mount: name one directory"},
		{"no cache directory named", []string{"mount", at("mnt")}, 2, "--cache-dir DIR"},
		{"missing cache directory", mount("--cache-dir", at("nowhere"), at("mnt")), 1, "cache directory " + at("nowhere") + " does not exist: make it, or name another with --cache-dir"},
		{"cache directory is a file", mount("--cache-dir", at("file"), at("mnt")), 1, "is not a directory"},
		{"missing mount point", mount(at("nowhere")), 1, "mount point " + at("nowhere") + " does not exist: make the directory first"},
		{"mount point is a file", mount(at("file")), 1, "mount point " + at("file") + " is not a directory"},
		{"mount point in use", mount("/proc"), 1, "mount point /proc is in use: proc (proc) is mounted there"},
		{"mount point is the cache", mount(at("cache")), 1, "are the same"},
		{"mount point in the cache", mount(at("cache/inner")), 1, "lies inside the cache directory"},
		{"cache in the mount point", mount("--cache-dir", at("mnt/inner"), at("mnt")), 1, "lies inside the mount point"},
		{"state in the share", mount("--state-dir", at("cache/state"), at("mnt")), 1, "lies inside the cache directory"},
		{"state in the mount point", mount("--state-dir", at("mnt/state"), at("mnt")), 1, "lies inside the mount point"},
		{"state directory of something else", mount("--state-dir", at("full"), at("mnt")), 1, "holds other things (things)"},
		{"malformed endpoint", mount("--bucket", "depot", "--endpoint", "http://", at("mnt")), 2, "is no URL of a server"},
		{"password in the endpoint", mount("--bucket", "depot", "--endpoint", "http://me:hush@host", at("mnt")), 2, "without user and password"},
		{"path outside any mount", []string{"stat", at("file")}, 1, "is not inside a depotfs mount"},
		{"missing path", []string{"flush", at("nowhere")}, 1, "no such file or directory"},
		{"nothing to stat", []string{"stat"}, 2, "stat: name one or more paths"},
		{"bad state", []string{"ls", "--state", "dirt"}, 2, `ls: --state "dirt" is none of remote, partial, clean, dirty, uploading, conflict: did you mean dirty?`},
		{"bad timeout", []string{"flush", "--timeout", "5"}, 2, `flush: --timeout: "5" is no duration`},
		{"umount of nothing", []string{"umount"}, 2, "umount: name one mount point"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, said, code := depotfs(t, tt.args...)
			if code != tt.code {
				t.Errorf("exit %d, want %d", code, tt.code)
			}
			last := said[strings.LastIndex(strings.TrimSuffix(said, "\n"), "\n")+1:]
			if !strings.HasPrefix(last, "depotfs: ") || !strings.Contains(last, tt.want) {
				t.Errorf("said %q, want ...%s...", said, tt.want)
			}
			if tt.args != nil && strings.Count(said, "\n") != 1 {
				t.Errorf("said more than one line:\n%s", said)
			}
			if strings.Contains(said, "hush") {
				t.Errorf("a password shows: %s", said)
			}
		})
	}
	if names, err := os.ReadDir(at("cache")); err != nil || len(names) != 1 {
		t.Errorf("the cache directory holds %v (%v), want only what was there", names, err)
	}
	if names, err := os.ReadDir(at("state")); err != nil || len(names) != 0 {
		t.Errorf("the state directory holds %v (%v), want nothing", names, err)
	}
}

func TestUnwritableCacheDirectory(t *testing.T) {
	dir := t.TempDir()
	cache := filepath.Join(dir, "cache")
	if err := os.Mkdir(cache, 0o500); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		cache = "/proc/self" // what root cannot write either
	}
	_, said, code := depotfs(t, "mount", "--cache-dir", cache, "--state-dir", dir+"/state", t.TempDir())
	if code != 1 || !strings.Contains(said, "cannot be written") {
		t.Errorf("exit %d: %s", code, said)
	}
}

func TestOptionsAfterPaths(t *testing.T) {
	for _, args := range [][]string{
		{"ls", "--state", "dirty", "--json", "/proc"},
		{"ls", "/proc", "--state=dirty", "--json"},
		{"ls", "--json", "/proc", "--state", "dirty"},
		{"ls", "--json", "--state", "dirty", "--", "/proc"},
	} {
		if _, said, code := depotfs(t, args...); code != 1 || !strings.Contains(said, "/proc is not inside a depotfs mount") {
			t.Errorf("%v: exit %d: %s", args, code, said)
		}
	}
	if _, said, code := depotfs(t, "stat", "--", "--json"); code != 1 || !strings.Contains(said, "--json: no such file") {
		t.Errorf("a path after --: exit %d: %s", code, said)
	}
}

func TestHelpAndVersion(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"--help"}, {"-h"}, {"help", "mount"}, {"mount", "--help"}, {"config", "show", "-h"}, {"help", "config", "show"}, {"version"}, {"--version"}} {
		out, said, code := depotfs(t, args...)
		if code != 0 || said != "" || !strings.Contains(out, "depotfs") {
			t.Errorf("%v: exit %d, out %q, err %q", args, code, out, said)
		}
	}
	if _, _, code := depotfs(t, "help", "moutn"); code != 2 {
		t.Errorf("help for an unknown command: exit %d, want 2", code)
	}
}
