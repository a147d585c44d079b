package integration

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"depotfs/s3store/s3test"
)

const eventsSecret = "0123456789-abcdef-0123456789"

// receiving has a zone's mounts receive event notifications at an address.
func receiving(t testing.TB, address string) setting {
	t.Helper()
	file := filepath.Join(t.TempDir(), "depotfs.yaml")
	if err := os.WriteFile(file, []byte("events-secret: "+eventsSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return with("--config", file, "--events-listen", address)
}

// What is done in one zone is seen in the other because the store says so: by themselves
// they look every ten minutes.
func TestEventsOfMinIO(t *testing.T) {
	t.Parallel()
	atA, atB := deadAddress(t), deadAddress(t)
	d := depotOn(t, s3test.Start(t, s3test.MinIO.
		WithWebhook("A", "http://"+atA+"/", eventsSecret).
		WithWebhook("B", "http://"+atB+"/?secret="+eventsSecret, "")))
	d.prefix = "cloud stack/"
	a := newZone(t, on(d), polled(10*time.Minute), receiving(t, atA))
	b := newZone(t, on(d), polled(10*time.Minute), receiving(t, atB))
	for _, z := range []*zone{a, b} {
		z.joined()
		z.refresh() // so that the next look by themselves, a miss or not, is ten minutes away
	}
	d.Notify(t, d.prefix+".depotfs/journal/", "A", "B")

	for i, way := range []struct{ from, to *zone }{{a, b}, {b, a}, {a, b}} {
		name := fmt.Sprintf("volumes/%d/disk", i)
		body := bytesOf(uint64(i), 1<<20)
		if err := os.MkdirAll(way.from.path(filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(way.from.path(name), body, 0o644); err != nil {
			t.Fatal(err)
		}
		way.from.flush()
		way.to.follows(func() error {
			_, err := os.Stat(way.to.path(name))
			return err
		})
		holds(t, way.to.path(name), body)
	}
	if err := os.Remove(a.path("volumes/0/disk")); err != nil {
		t.Fatal(err)
	}
	a.flush()
	b.follows(func() error { return absent(b.path("volumes/0/disk")) })
	for _, z := range []*zone{a, b} {
		if e := z.status().Events; e.Woken == 0 || e.Refused > 0 || e.Invalid > 0 {
			t.Errorf("zone %s has received %+v%s", z.name, e, z.logTail())
		}
	}
}

// Whoever has not the secret is told so and seen by the operator, and harms nothing. An
// address that is taken, or open to all without a secret, is refused before anything is mounted.
func TestEventsAreGuarded(t *testing.T) {
	t.Parallel()
	address := deadAddress(t)
	z := newUnmounted(t, quiet, receiving(t, address))
	taken, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if c := z.run(z.mountArgs()...); c.code != 1 || !strings.Contains(c.stderr, "--events-listen "+address) || !strings.Contains(c.stderr, "address already in use") {
		t.Errorf("mount with an address that is taken: %v", c)
	}
	taken.Close()
	open := newUnmounted(t, with("--events-listen", "0.0.0.0:9400"))
	if c := open.run(open.mountArgs()...); c.code != 2 || !strings.Contains(c.stderr, "set events-secret") {
		t.Errorf("mount that is open to all: %v", c)
	}
	z.mount()
	ask := func(token string) int {
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+address+"/", strings.NewReader(`{"Records":[]}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := ask("wrong"); got != http.StatusUnauthorized {
		t.Errorf("a wrong secret: %d", got)
	}
	if got := ask(eventsSecret); got != http.StatusNoContent {
		t.Errorf("the right secret: %d", got)
	}
	if e := z.status().Events; e.Listen != address || e.Refused != 1 || e.Received != 1 || e.Woken != 0 {
		t.Errorf("status shows %+v", e)
	}
	if out := z.must("status", z.mnt); !strings.Contains(out, "1 request with a WRONG SECRET") {
		t.Errorf("status shows\n%s", out)
	}
	if out := z.must("config", "show", z.mnt); strings.Contains(out, eventsSecret) {
		t.Errorf("config show prints the secret:\n%s", out)
	}
	if log := z.log(); strings.Contains(log, eventsSecret) {
		t.Error("the log has the secret")
	}
	z.umount()
	eventually(t, patience, func() error {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return errors.New("unmounted, and it still listens")
		}
		return l.Close()
	})
	z.mount()
}
