package cache_test

import (
	"bytes"
	"context"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// step does one thing in one zone, after a while.
func (h *zoneHistory) step(i int) {
	h.t.Helper()
	ctx, e := context.Background(), h.all[i]
	if h.r.IntN(3) > 0 {
		time.Sleep(time.Duration(h.r.Int64N(int64(400 * time.Millisecond))))
	}
	files, dirs, _, err := show(e)
	if err != nil {
		return // a name went while it was looked at
	}
	pick := func(names []string) string {
		if len(names) == 0 {
			return ""
		}
		return names[h.r.IntN(len(names))]
	}
	fresh := path.Join(pick(dirs), "n"+strconv.Itoa(h.r.IntN(5)))
	file, dir := pick(files), pick(dirs[1:])
	r := h.r.IntN(100)
	if rename := renameOf(r, len(dirs)); rename != "" && !slices.Contains(h.renames, rename) {
		return
	}
	switch {
	case r < 22:
		h.create(e, fresh)
	case r < 42:
		h.change(e, file)
	case r < 50:
		if f, ok := h.open(e, file, syscall.O_RDONLY); ok {
			f.Release()
		}
	case r < 56:
		h.rename(e, file, fresh, cache.RenameNoReplace)
	case r < 60:
		h.renameOver(e, file, pick(files))
	case r < 62:
		h.rename(e, file, pick(files), cache.RenameExchange)
	case r < 66 && len(dirs) < 8:
		if par, name, ok := h.at(e, fresh); ok {
			h.note(e, "mkdir %q", fresh)
			_, err := e.c.Mkdir(ctx, me, par, name, 0o750)
			h.may(e, fresh, err)
		}
	case r < 70:
		h.rename(e, dir, fresh, cache.RenameNoReplace)
	case r < 73:
		if par, name, ok := h.at(e, dir); ok && dir != "" {
			h.note(e, "rmdir %q", dir)
			h.may(e, dir, e.c.Rmdir(ctx, par, name))
		}
	case r < 81:
		h.remove(e, file)
	case r < 83:
		if a, err := e.lookup(file); err == nil && file != "" {
			mode := uint32(0o600 + h.r.IntN(8)*8)
			h.note(e, "chmod %q %o", file, mode)
			_, err := e.c.SetAttr(ctx, a.Ino, nil, cache.SetAttr{Valid: cache.SetMode, Mode: mode})
			h.may(e, file, err)
		}
	case r < 87:
		if file != "" {
			h.note(e, "evict %q", file)
			_, err := e.c.Evict(ctx, []string{file}, nil)
			h.may(e, file, err)
		}
	default:
		h.around(i, r)
	}
}

// renameOf is the kind of rename that a step is; none for anything else. They are to new names, over
// files, exchanges of files, and of directories.
func renameOf(r, dirs int) string {
	switch {
	case r >= 50 && r < 56:
		return "fresh"
	case r >= 56 && r < 60:
		return "over"
	case r >= 60 && r < 62:
		return "exchange"
	case r >= 66 && r < 70, r >= 62 && r < 66 && dirs >= 8:
		return "dirs"
	}
	return ""
}

// around does what is not about a name.
func (h *zoneHistory) around(i, r int) {
	e := h.all[i]
	switch {
	case r < 90:
		h.note(e, "flush")
		if left := e.flushFor(time.Second); len(left) == 0 {
			h.o.flushed(e.zone)
		}
	case r < 93:
		h.note(e, "refresh")
		ctx, stop := context.WithTimeout(context.Background(), time.Second)
		_ = e.c.Refresh(ctx) // the line may be cut
		stop()
	case r < 96:
		h.down[i] = !h.down[i]
		h.note(e, "the line is cut: %v", h.down[i])
		e.store.SetDown(h.down[i])
	case r < 97:
		h.note(e, "restart")
		e.restart()
	case r < 98:
		h.note(e, "an answer is lost")
		e.store.Inject(storetest.LoseAnswer([]storetest.Op{storetest.Put, storetest.Copy, storetest.Delete, storetest.Complete}[h.r.IntN(4)]))
	case r < 99:
		h.note(e, "the clock is set")
		e.ahead.Add(h.r.Int64N(int64(4*time.Minute)) - int64(2*time.Minute))
	default:
		h.note(e, "a minute passes")
		time.Sleep(time.Minute)
	}
}

func (h *zoneHistory) bytes() []byte {
	return pattern(h.r.Uint64(), []int{20, 5000, 70_000}[h.r.IntN(3)])
}

func (h *zoneHistory) create(e *env, p string) {
	par, name, ok := h.at(e, p)
	if !ok {
		return
	}
	b := h.bytes()
	h.note(e, "create %q %d bytes %s", p, len(b), sumOf(b))
	_, f, err := e.c.Create(context.Background(), me, par, name, 0o640, syscall.O_RDWR)
	if !h.may(e, p, err) {
		return
	}
	defer f.Release()
	if _, err := f.WriteAt(context.Background(), b, 0); err != nil {
		h.fail("zone %s: write %q: %v", e.zone, p, err)
	}
	h.o.wrote(e.zone, p, b, h.now())
}

// change overwrites a file, or adds to it.
func (h *zoneHistory) change(e *env, p string) {
	if p == "" {
		return
	}
	f, ok := h.pinned(e, p)
	if !ok {
		return
	}
	defer f.Release()
	ctx, data, off := context.Background(), h.bytes(), 0
	body := data
	if h.r.IntN(2) == 0 {
		off = h.r.IntN(len(f.body) + 1)
		body = append(bytes.Clone(f.body), make([]byte, max(0, off+len(data)-len(f.body)))...)
		copy(body[off:], data)
	} else if _, err := e.c.SetAttr(ctx, f.Ino(), f.Handle, setSize(0)); err != nil {
		h.fail("zone %s: truncate %q: %v", e.zone, p, err)
	}
	h.note(e, "write %q %d+%d of %s: %s", p, off, len(data), sumOf(f.body), sumOf(body))
	if _, err := f.WriteAt(ctx, data, int64(off)); err != nil {
		h.fail("zone %s: write %q: %v", e.zone, p, err)
	}
	if h.r.IntN(4) == 0 {
		time.Sleep(time.Duration(h.r.Int64N(int64(3 * time.Second)))) // it stays open
	}
	if !f.named(e, p) && (len(h.renames) == 0 || !f.somewhere(e)) {
		h.fail("zone %s: %q was open for writing and has lost its name", e.zone, p)
	}
	h.o.over(f.v, "zone %s overwrote it in step %d", e.zone, h.now())
	h.o.wrote(e.zone, p, body, h.now())
}

func (h *zoneHistory) rename(e *env, from, to string, flags cache.RenameFlags) bool {
	if from == "" || to == "" || from == to || strings.HasPrefix(to, from+"/") {
		return false
	}
	fp, fn, ok := h.at(e, from)
	tp, tn, too := h.at(e, to)
	if !ok || !too {
		return false
	}
	h.note(e, "rename %q to %q, flags %d", from, to, flags)
	return h.may(e, from, e.c.Rename(context.Background(), fp, fn, tp, tn, flags))
}

func (h *zoneHistory) renameOver(e *env, from, to string) {
	if from == "" || from == to {
		return
	}
	f, ok := h.pinned(e, to)
	if !ok {
		return
	}
	defer f.Release()
	if h.rename(e, from, to, 0) {
		h.o.over(f.v, "zone %s renamed %q over it in step %d", e.zone, from, h.now())
	}
}

// remove deletes a file. What it shows just before is what is deleted: another version
// that came in between was in the depot, and so is in the trash.
func (h *zoneHistory) remove(e *env, p string) {
	if p == "" {
		return
	}
	f, ok := h.open(e, p, syscall.O_RDONLY)
	if ok {
		defer f.Release()
	}
	par, name, there := h.at(e, p)
	if !there {
		return
	}
	h.note(e, "unlink %q %s", p, sumOf(f.body))
	if h.may(e, p, e.c.Unlink(context.Background(), par, name)) && ok {
		h.o.removed(f.v, e.zone, h.now())
	}
}
