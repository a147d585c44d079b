package cache_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"depotfs/cache"
)

// Users of several zones do anything to the same few names, while each zone hears of the
// others now and then. When all have heard of all, they show the same. DEPOTFS_HARD=1 has
// them rename, too, which they may do in ways that leave zones apart (docs/zones.md).
func TestZonesConverge(t *testing.T) {
	t.Parallel()
	seeds := []uint64{1, 2, 3, 4, 5, 6}
	if s := os.Getenv("DEPOTFS_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seeds = []uint64{n}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 5))
			w := &world{r: r, zs: newZones(t, 2+int(seed%2)), hard: hardZones()}
			for range 120 {
				w.step()
			}
			w.quiesce()
		})
	}
}

type world struct {
	r    *rand.Rand
	zs   []*env
	made uint64
	log  []string
	hard bool // names are renamed and exchanged, too
}

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf(format, args...))
	w.zs[0].t.Logf("time=T%s step %s", time.Now().UTC().Format("15:04:05.000Z"), w.log[len(w.log)-1])
}

var worldNames = []string{"a", "b", "c"}

// path is a random path, one to three names long.
func (w *world) path() string {
	p := worldNames[w.r.IntN(len(worldNames))]
	for w.r.IntN(2) == 0 && strings.Count(p, "/") < 2 {
		p += "/" + worldNames[w.r.IntN(len(worldNames))]
	}
	return p
}

// some is a path that the zone has, or any.
func (w *world) some(e *env) string {
	names := slices.Sorted(maps.Keys(e.names()))
	if len(names) == 0 || w.r.IntN(8) == 0 {
		return w.path()
	}
	return names[w.r.IntN(len(names))]
}

// step is one thing that a user or the clock does. What is refused is refused.
func (w *world) step() {
	e := w.zs[w.r.IntN(len(w.zs))]
	ctx := context.Background()
	at := func(path string) (cache.Ino, string, bool) {
		dir := ""
		name := path
		if i := strings.LastIndexByte(path, '/'); i >= 0 {
			dir, name = path[:i], path[i+1:]
		}
		a, err := e.lookup(dir)
		return a.Ino, name, err == nil && a.Mode&syscall.S_IFMT == syscall.S_IFDIR
	}
	switch n := w.r.IntN(20); {
	case n < 5: // write
		path := w.path()
		p, name, ok := at(path)
		if !ok {
			return
		}
		w.made++
		data := pattern(w.made, 100+w.r.IntN(3000))
		a, h, err := e.c.Create(ctx, me, p, name, 0o644, syscall.O_RDWR)
		if err != nil {
			if a, err = e.lookup(path); err != nil || a.Mode&syscall.S_IFMT != syscall.S_IFREG {
				return
			}
			if h, err = e.c.Open(ctx, a.Ino, syscall.O_RDWR|syscall.O_TRUNC); err != nil {
				return
			}
		}
		_, err = h.WriteAt(ctx, data, 0)
		h.Release()
		w.note("%s write %s #%d: %v", e.zone, path, w.made, err)
	case n < 7: // mkdir
		path := w.path()
		if p, name, ok := at(path); ok {
			_, err := e.c.Mkdir(ctx, me, p, name, 0o755)
			w.note("%s mkdir %s: %v", e.zone, path, err)
		}
	case n < 10: // unlink or rmdir
		path := w.some(e)
		if p, name, ok := at(path); ok {
			err := e.c.Unlink(ctx, p, name)
			if err == syscall.EISDIR {
				err = e.c.Rmdir(ctx, p, name)
			}
			w.note("%s remove %s: %v", e.zone, path, err)
		}
	case n < 13: // rename
		from, to := w.some(e), w.path()
		p, name, ok := at(from)
		q, other, too := at(to)
		if !ok || !too {
			return
		}
		flags := cache.RenameFlags(0)
		if w.hard && w.r.IntN(6) == 0 {
			flags = cache.RenameExchange
		}
		if !w.hard {
			return
		}
		err := e.c.Rename(ctx, p, name, q, other, flags)
		w.note("%s rename %s %s %d: %v", e.zone, from, to, flags, err)
	case n < 16:
		w.note("%s flush", e.zone)
		e.flush()
	case n < 19:
		w.note("%s refresh", e.zone)
		e.refresh()
	default:
		w.note("%s evict", e.zone)
		_, _ = e.c.Evict(ctx, nil, nil)
	}
}

// quiesce lets everybody hear of everything, and compares.
func (w *world) quiesce() {
	t := w.zs[0].t
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("history:\n%s", strings.Join(w.log, "\n"))
			for _, e := range w.zs {
				t.Logf("zone %s told:", e.zone)
				for _, r := range e.told(e.zone) {
					t.Logf("  %s %s%s  %d %s key %s etag %.6s", r.Op, map[bool]string{true: r.From + " -> "}[r.From != ""], r.Path, r.Time%1e13, r.Zone, r.Key, r.ETag)
				}
			}
		}
	}()
	tell(w.zs...)
	tell(w.zs...)
	sameTrees(w.zs...)
	for _, e := range w.zs { // and after a restart nothing else comes up
		e.restart()
	}
	for _, e := range w.zs {
		e.refresh()
	}
	tell(w.zs...)
	sameTrees(w.zs...)
}
