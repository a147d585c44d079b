package cache

import (
	"depotfs/cache/catalog"
	"depotfs/cache/layout"
	"slices"
	"strings"
	"time"
)

// mayGo says whether a dirty file that nobody has open for writing may be uploaded
// now: settled, and nothing of its directory that was finished earlier is still on
// its way.
func (c *Cache) mayGo(rec *catalog.Inode, cl layout.Class, path string) error {
	now := c.now()
	_, urgent := c.urgent.Load(rec.Ino)
	c.reorder(rec)
	if due := time.Unix(0, max(rec.FinishedAt, 0)).Add(c.settleFor(rec, cl)); !urgent && now.Before(due) {
		return laterError{due, "waits until nobody has changed it for " + c.settleFor(rec, cl).String()}
	}
	return c.mayOvertake(rec, path)
}

// mayOvertake holds a file back behind those of its directory that were finished
// before it. One that cannot be uploaded holds others back for OrderTimeout only;
// a properties file waits for the images it names without limit.
func (c *Cache) mayOvertake(rec *catalog.Inode, path string) error {
	name := rec.Links[0].Name
	if isProperties(name) {
		for _, named := range c.namedBy(rec, path) {
			img, err := c.find(rec.Links[0].Parent, named)
			if err != nil || img.Ino == rec.Ino || !c.lacks(img) {
				continue
			}
			if c.order.park(rec.Ino, img.Ino) {
				c.hurry(rec.Ino, img.Ino)
				return errParked
			}
			return laterError{c.now().Add(2 * time.Second), "waits for " + named + ", which it names"}
		}
	}
	for {
		prev, ok := c.order.before(rec.Ino, func(p Ino) bool { return c.passable(p, name) })
		if !ok {
			return nil
		}
		if c.order.park(rec.Ino, prev) {
			c.hurry(rec.Ino, prev)
			return errParked
		}
	}
}

// hurry passes a flush on to who is in the way of its file; one that is to be
// compared with the depot is the next, flush or not.
func (c *Cache) hurry(ino, first Ino) {
	c.compares.prefer(first)
	if _, ok := c.urgent.Load(ino); !ok {
		return
	}
	if _, had := c.urgent.LoadOrStore(first, struct{}{}); !had {
		c.work.Add(first, c.now())
	}
}

// passable says whether name need not wait for the file p, finished earlier: it
// has failed for too long, or it is a properties file that itself waits for name.
func (c *Cache) passable(p Ino, name string) bool {
	if img, ok := c.order.waitsFor(p); ok && img != p && c.failsTooLong(img) {
		return true
	}
	if c.failsTooLong(p) {
		return true
	}
	rec, err := c.record(p)
	if err != nil || len(rec.Links) == 0 {
		return true
	}
	if !isProperties(rec.Links[0].Name) {
		return false
	}
	return slices.Contains(c.namedBy(rec, c.pathText(rec)), name)
}

func (c *Cache) failsTooLong(p Ino) bool {
	since, ok := c.failing.Load(p)
	return ok && c.now().Sub(since.(time.Time)) >= c.cfg.Limits.OrderTimeout
}

func isProperties(name string) bool { return strings.HasSuffix(name, ".properties") }

// namedBy reads which files a properties file names.
func (c *Cache) namedBy(rec *catalog.Inode, path string) []string {
	if !resident(rec.State) {
		return nil
	}
	b, err := c.share.ReadFile(path, maxProperties)
	if err != nil {
		return nil // too large or unreadable: no properties file of CloudStack's
	}
	return layout.ParseNamedFiles(b)
}

// maxProperties bounds what is read of a properties file; real ones have 1 KiB.
const maxProperties = 1 << 20
