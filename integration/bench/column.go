package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// column is one file system under test: a directory to work in.
type column struct {
	name string
	dir  string // what workloads use; of the plain program, scratch space

	zone   *zone              // depotfs
	peer   *peer              // another file system
	sdk    *sdk               // the plain program
	smalls int                // how often the small files got another directory
	held   *os.File           // of a peer: written and not closed
	found  map[string]float64 // what the last run found out beside its figure
	proxy  *proxy             // the line to the store; nil: none, or not a long one
}

// errNot says that a column has no such thing; the cell stays empty.
var errNot = errors.New("does not apply")

func (c *column) path(name string) string { return filepath.Join(c.dir, name) }

// fresh makes everything cold: no byte of an object is here.
func (c *column) fresh(ctx context.Context) error {
	switch {
	case c.zone != nil:
		return c.zone.evict(ctx)
	case c.peer != nil:
		return c.peer.remount(ctx)
	}
	return nil
}

// traffic is what went over the line so far: bytes of objects by the counters of
// our own store client, which depotfs shows in its status; of peers what the proxy saw.
func (c *column) traffic(ctx context.Context) (traffic, error) {
	switch {
	case c.zone != nil:
		return c.zone.traffic(ctx)
	case c.sdk != nil:
		return c.sdk.traffic(), nil
	}
	return c.proxy.traffic(), nil
}

const (
	quietTime = 100 * time.Millisecond // without traffic: nothing is on its way
	quietMost = 5 * time.Second        // a peer may never be quiet
)

// quiet waits until nothing moves any more and returns what went over the line so far.
func (c *column) quiet(ctx context.Context) (traffic, error) {
	before, err := c.traffic(ctx)
	for end := time.Now().Add(quietMost); err == nil && c.sdk == nil && time.Now().Before(end); {
		if err = pause(ctx, quietTime); err != nil {
			break
		}
		var now traffic
		if now, err = c.traffic(ctx); now == before {
			break
		}
		before = now
	}
	return before, err
}

// The names of columns, as the table and -columns have them.
const (
	bareName    = "bare directory"
	sdkName     = "SDK program"
	depotfsName = "depotfs"
	daemonName  = "depotfs, passthrough off"
	loopName    = "loopback"
	loopOffName = "loopback, passthrough off"
	rcloneName  = "rclone"
	s3fsName    = "s3fs"
	geesefsName = "geesefs"
)

// localColumns are the columns of rows whose files are here. The store is switched
// on and near; nothing settles, so nothing is uploaded meanwhile.
func (b *bench) localColumns(ctx context.Context) error {
	bare := b.sub("bare")
	spread(bare)
	b.atEnd(func() error { return os.RemoveAll(bare) }) // the next section wants the room
	b.local.add(&column{name: bareName, dir: bare})
	for _, d := range []struct{ name, id, passthrough string }{{depotfsName, "l1", "auto"}, {daemonName, "l2", "off"}} {
		if err := b.addZone(ctx, b.local, d.name, d.id, nil,
			"--bucket", localBucket, "--prefix", d.id+"/", "--endpoint", "http://"+b.server.address, "--passthrough", d.passthrough); err != nil {
			return err
		}
	}
	for _, l := range []struct {
		name, id    string
		passthrough bool
	}{{loopName, "loopback", true}, {loopOffName, "loopback-off", false}} {
		if err := b.addPeer(ctx, b.local, l.name, l.id, nil, loopback(b.loopback, l.passthrough)); err != nil {
			return err
		}
	}
	return b.addInstalled(ctx, b.local, localBucket, func() (*proxy, error) { return nil, nil })
}

// coldColumns are the columns of rows whose bytes are behind the long line; each has
// a line of its own, so that what passed is counted apart.
func (b *bench) coldColumns(ctx context.Context) error {
	line, err := b.line()
	if err != nil {
		return err
	}
	plain, err := newSDK(b.server.keys, line.endpoint(), coldBucket, b.sub("sdk"), b.limits)
	if err != nil {
		return err
	}
	// As depotfs does at its start: what the store can copy itself need not pass here.
	if _, err := plain.store.Probe(ctx, sdkPrefix+"probe/"); err != nil {
		return err
	}
	b.cold.add(&column{name: sdkName, dir: plain.dir, sdk: plain, proxy: line})
	for _, d := range []struct{ name, id, passthrough string }{{depotfsName, "c1", "auto"}, {daemonName, "c2", "off"}} {
		line, err := b.line()
		if err != nil {
			return err
		}
		if err := b.addZone(ctx, b.cold, d.name, d.id, line,
			"--bucket", coldBucket, "--endpoint", line.endpoint(), "--passthrough", d.passthrough); err != nil {
			return err
		}
	}
	return b.addInstalled(ctx, b.cold, coldBucket, b.line)
}

// addInstalled adds the peers that this machine has.
func (b *bench) addInstalled(ctx context.Context, s *section, bucket string, line func() (*proxy, error)) error {
	for _, p := range []struct {
		name  string
		start func(at keys, endpoint, bucket string) func(*peer) (*process, error)
	}{{rcloneName, rclone}, {s3fsName, s3fs}, {geesefsName, geesefs}} {
		if !installed(p.name) {
			continue
		}
		l, err := line()
		if err != nil {
			return err
		}
		endpoint := "http://" + b.server.address
		if l != nil {
			endpoint = l.endpoint()
		}
		if err := b.addPeer(ctx, s, p.name, bucket+"-"+p.name, l, p.start(b.server.keys, endpoint, bucket)); err != nil {
			if ctx.Err() != nil {
				return err
			}
			b.notes = append(b.notes, fmt.Sprintf("no column for %s: %v", p.name, err)) // not a reason to measure nothing
		}
	}
	return nil
}

// line is a new long way to the store; it ends with the run.
func (b *bench) line() (*proxy, error) {
	p, err := newProxy(b.server.address, b.opts.roundTrip/2)
	if err == nil {
		b.atEnd(func() error { p.close(); return nil })
	}
	return p, err
}

func (b *bench) addZone(ctx context.Context, s *section, name, id string, line *proxy, args ...string) error {
	if !b.wanted(name) {
		return nil
	}
	z, err := newZone(b.opts.program("depotfs"), b.sub(id), b.server.env(), append(args, "--settle", "24h")...)
	if err != nil {
		return err
	}
	b.atEnd(func() error { return errors.Join(z.stop(), os.RemoveAll(b.sub(id))) })
	if err := z.mount(ctx); err != nil {
		return err
	}
	s.add(&column{name: name, dir: z.mnt, zone: z, proxy: line})
	return nil
}

func (b *bench) addPeer(ctx context.Context, s *section, name, id string, line *proxy, start func(*peer) (*process, error)) error {
	if !b.wanted(name) {
		return nil
	}
	p, err := newPeer(b.sub(id), start)
	if err != nil {
		return err
	}
	b.atEnd(func() error { return errors.Join(p.stop(), os.RemoveAll(b.sub(id))) })
	if err := p.mount(ctx); err != nil {
		return err
	}
	s.add(&column{name: name, dir: p.mnt, peer: p, proxy: line})
	return nil
}
