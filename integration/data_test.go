package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bytesOf makes n bytes that only this seed makes.
func bytesOf(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	rand.NewChaCha8(key).Read(b)
	return b
}

// put writes a file whole, with its directories.
func put(t testing.TB, path string, body []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, body, 0o644); err != nil {
		t.Fatal(err)
	}
}

// holds fails the test when a file is not exactly body.
func holds(t testing.TB, path string, body []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := difference(got, body); diff != "" {
		t.Fatalf("%s: %s", path, diff)
	}
}

// difference says in a few words how got is not want; "" where it is.
func difference(got, want []byte) string {
	if bytes.Equal(got, want) {
		return ""
	}
	n := min(len(got), len(want))
	at := 0
	for at < n && got[at] == want[at] {
		at++
	}
	text := fmt.Sprintf("%d bytes, want %d; the first difference is at %d", len(got), len(want), at)
	if at < n && len(bytes.Trim(got[at:min(at+512, n)], "\x00")) == 0 {
		text += ", where zeros are read"
	}
	same := 0
	for i := at; i < n; i++ {
		if got[i] == want[i] {
			same++
		}
	}
	text += fmt.Sprintf("; %d bytes after it are the same", same)
	return text
}

// sumOf is the SHA-256 of a file in hexadecimal.
func sumOf(t testing.TB, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// xattr reads an extended attribute, "" where there is none.
func xattr(t testing.TB, path, name string) string {
	t.Helper()
	buf := make([]byte, 4096)
	n, err := unix.Lgetxattr(path, name, buf)
	if err == unix.ENODATA {
		return ""
	}
	if err != nil {
		t.Fatalf("getxattr %s %s: %v", path, name, err)
	}
	return string(buf[:n])
}

// patience is how long a test waits at least for what has to happen: a busy machine
// is slow, and only what never comes may fail.
const patience = 3 * time.Minute

// eventually polls until check returns nil, and fails the test with its last error
// when that takes longer than within, which is never less than patience; 0 is one look.
func eventually(t testing.TB, within time.Duration, check func() error) {
	t.Helper()
	const pause = 50 * time.Millisecond
	if within > 0 {
		within = max(within, patience)
	}
	for end := time.Now().Add(within); ; {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %v: %v", within, err)
		}
		<-time.After(pause)
	}
}

// need fails the test where a program is missing.
func need(t testing.TB, program, debianPackage string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%s is not installed: apt-get install %s", program, debianPackage)
	}
}
