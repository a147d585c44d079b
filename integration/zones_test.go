package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"depotfs/s3store/s3test"
)

// zones are several zones of one depot: mounts, cache and state directories of their own,
// named a, b, c…, and between each and the store a line that can be long or cut, and on
// which everything is counted.
type zones struct {
	t     testing.TB
	depot *depot
	all   []*zone
	lines []*s3test.Proxy
	seen  []*httpProxy // what passed on each line
}

// newZones makes a depot and mounts n zones of it.
func newZones(t testing.TB, n int, settings ...setting) *zones {
	t.Helper()
	b := &zones{t: t, depot: newDepot(t)}
	for range n {
		b.join(settings...)
	}
	return b
}

// join mounts one more zone.
func (b *zones) join(settings ...setting) *zone {
	b.t.Helper()
	own := *b.depot
	seen := own.throughHTTP(b.t)
	line := s3test.NewProxy(b.t, strings.TrimPrefix(own.endpoint, "http://"))
	own.endpoint = line.Endpoint()
	name := string(rune('a' + len(b.all)))
	z := newUnmounted(b.t, append([]setting{on(&own), func(z *zone) { z.name = name }}, settings...)...)
	b.all, b.lines, b.seen = append(b.all, z), append(b.lines, line), append(b.seen, seen)
	z.mount()
	z.joined()
	return z
}

// polled sets how often the zones read each other's journals.
func polled(every time.Duration) setting { return with("--poll-interval", every.String()) }

// ahead sets the clock of a zone's daemons ahead of the machine's, or back.
func ahead(d time.Duration) setting {
	return func(z *zone) { z.env = append(z.env, clockEnv+"="+d.String()) }
}

// cut ends every conversation of a zone with the store; new ones are refused. What the
// store was asked for already it may do.
func (b *zones) cut(i int) {
	b.lines[i].Set(s3test.Line{Refuse: true})
	b.lines[i].CutAll()
}

// heal makes the line as long as it was.
func (b *zones) heal(i int, delay time.Duration) { b.lines[i].Set(s3test.Line{Delay: delay}) }

// refresh has a zone read the journals of the others now.
func (z *zone) refresh() {
	z.t.Helper()
	z.must("refresh", z.mnt)
}

// lag is how many batches of each other zone's journal a zone has not applied.
func (z *zone) lag() (map[string]int64, error) {
	c := z.run("zones", "--json", z.mnt)
	if c.code != 0 {
		return nil, errors.New(c.String())
	}
	var all []struct {
		Zone   string `json:"zone"`
		Behind struct {
			Batches int64 `json:"batches"`
		} `json:"behind"`
	}
	if err := json.Unmarshal([]byte(c.stdout), &all); err != nil {
		return nil, fmt.Errorf("zones --json: %w in %s", err, c.stdout)
	}
	lag := map[string]int64{}
	for _, one := range all {
		lag[one.Zone] = one.Behind.Batches
	}
	return lag, nil
}

// settle has every zone tell what it did, then every zone hear what was told, and looks
// whether anything is left.
func (b *zones) settle() error {
	for _, words := range [][]string{{"flush", "--timeout", "20s"}, {"refresh"}} {
		for _, z := range b.all {
			z.watchdog.Reset(hangTime)
			if c := z.run(append(words[:len(words):len(words)], z.mnt)...); c.code != 0 {
				return fmt.Errorf("zone %s: %v", z.name, c)
			}
		}
	}
	for _, z := range b.all {
		if p := z.status().Pending; p.Files+p.Moves+p.Removals > 0 {
			return fmt.Errorf("zone %s: there waits %+v", z.name, p)
		}
		lag, err := z.lag()
		if err != nil {
			return err
		}
		for other, n := range lag {
			if n > 0 {
				return fmt.Errorf("zone %s has not applied %d batches of zone %s", z.name, n, other)
			}
		}
	}
	return nil
}

// agree waits until nothing is left to tell and to hear, and all zones show the same tree, bytes included, and
// returns it.
func (b *zones) agree() map[string]string {
	b.t.Helper()
	var tree map[string]string
	eventually(b.t, patience, func() error {
		if err := b.settle(); err != nil {
			return err
		}
		for i, z := range b.all {
			got, err := readTree(z.mnt)
			if err != nil {
				return fmt.Errorf("zone %s: %w", z.name, err)
			}
			if i == 0 {
				tree = got
			} else if text := mapDifference(got, tree); text != "" {
				return fmt.Errorf("zone %s differs from zone %s:%s", z.name, b.all[0].name, text)
			}
		}
		return nil
	})
	return tree
}

// follows waits until a path in a zone is as check says.
func (z *zone) follows(check func() error) {
	z.t.Helper()
	eventually(z.t, patience, func() error {
		z.watchdog.Reset(hangTime)
		return check()
	})
}

// ofFiles sums up the bytes of files that passed: what is not depotfs's own.
func (p *httpProxy) ofFiles() (sent, received int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.log {
		if e.key == "" || strings.HasPrefix(e.key, ".depotfs/") {
			continue
		}
		switch e.kind() {
		case "put", "part":
			sent += e.sent
		case "get":
			if e.status < 300 {
				received += e.received
			}
		}
	}
	return sent, received
}

// filesQuiet waits until nothing is asked about files any more; zones never stop to ask for
// each other's journals.
func (p *httpProxy) filesQuiet() {
	p.t.Helper()
	state := func() (n int, bytes int64) {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, e := range p.log {
			if e.key != "" && !strings.HasPrefix(e.key, ".depotfs/") {
				n++
				bytes += e.sent + e.received
			}
		}
		return n, bytes
	}
	n, bytes := state()
	eventually(p.t, patience, func() error {
		<-time.After(300 * time.Millisecond)
		before, was := n, bytes
		if n, bytes = state(); n != before || bytes != was {
			return errors.New("files are still asked for")
		}
		return nil
	})
}
