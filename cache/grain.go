package cache

import (
	"time"

	"depotfs/cache/catalog"
)

const (
	// stampGrain is how coarse a share's clock may be: NFS servers and old file
	// systems keep whole seconds, FAT two. A stamp younger than that proves nothing.
	stampGrain = 2e9
	// localGrain is the grain of this machine's file systems that keep fractions of
	// seconds: two ticks of the slowest kernel (100 Hz).
	localGrain = 20e6
	// clockSkew is by how much the clock of a server may differ from ours before we
	// must ask for it.
	clockSkew = time.Hour
)

// grain is how coarse the share's clock may be, in ns.
func (c *Cache) grain() int64 {
	if c.share.IsNetwork() {
		return stampGrain
	}
	return localGrain
}

// grainOf is grain for one file: a file system that keeps whole seconds shows it.
func (c *Cache) grainOf(s catalog.Stamp) int64 {
	if s.Mtime%1e9 == 0 && s.Ctime%1e9 == 0 {
		return stampGrain
	}
	return c.grain()
}

// youngFor says for how long a file must not be read yet whose bytes are to be known by
// a stamp: what is written within the grain of the share's clock leaves it as it is.
func (c *Cache) youngFor(s catalog.Stamp) (time.Duration, error) {
	grain := c.grainOf(s)
	now := time.Now().UnixNano()
	if c.share.IsNetwork() {
		if now-lastChange(s, now) > grain+int64(clockSkew) {
			return 0, nil // whatever the server's clock says
		}
		var err error
		if now, err = c.share.Now(); err != nil {
			return 0, err
		}
	}
	age := now - lastChange(s, now)
	if age > grain || age < -grain { // in the future: the clock was set back since
		return 0, nil
	}
	return time.Duration(grain-age) + time.Millisecond, nil
}

// settled says whether an unchanged stamp at a later time proves that nothing was
// written since at.
func settled(s catalog.Stamp, at int64) bool { return at-lastChange(s, at) > stampGrain }
