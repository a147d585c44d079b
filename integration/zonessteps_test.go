package integration

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// most files and directories that the model makes: operations are to meet.
const (
	historyFiles = 25
	historyDirs  = 8
)

// step does one thing in one zone.
func (h *history) step(i int) {
	h.t.Helper()
	z := h.b.all[i]
	z.watchdog.Reset(hangTime)
	if len(h.trace)%50 == 0 {
		for _, seen := range h.b.seen {
			seen.forget()
		}
	}
	files, dirs := h.names(z)
	r := h.random.IntN(1000)
	if rename := renameOf(r, len(dirs)); rename != "" && !slices.Contains(h.renames, rename) {
		return
	}
	switch {
	case r < 220 && len(files) < historyFiles:
		h.create(z, h.place(dirs, "f"))
	case r < 430:
		h.change(z, h.pick(files))
	case r < 520:
		h.read(z, h.pick(files))
	case r < 580:
		h.rename(z, h.pick(files), h.place(dirs, "f"))
	case r < 620:
		h.renameOver(z, h.pick(files), h.pick(files))
	case r < 640:
		h.exchange(z, h.pick(files), h.pick(files))
	case r < 680 && len(dirs) < historyDirs:
		h.mkdir(z, h.place(dirs, "d"))
	case r < 710:
		h.rename(z, h.pick(dirs[1:]), h.place(dirs, "d"))
	case r < 730:
		h.rmdir(z, h.pick(dirs[1:]))
	case r < 800:
		h.remove(z, h.pick(files))
	case r < 820:
		h.chmod(z, h.pick(append(files, dirs[1:]...)))
	case r < 840:
		h.symlink(z, h.place(dirs, "l"))
	case r < 880:
		h.evict(z, h.pick(append(files, dirs[1:]...)))
	case r < 920:
		h.flush(i)
	case r < 950:
		h.note(z, "refresh")
		z.run("refresh", z.mnt)
	case r < 970:
		if h.cut[i] {
			h.heal(i)
		} else {
			h.note(z, "cut")
			h.counts["cuts"]++
			h.b.cut(i)
			h.cut[i] = true
		}
	case r < 985:
		h.note(z, "umount, mount")
		z.umount()
		h.mount(i)
	case r < 995:
		h.note(z, "kill, mount")
		h.counts["kills"]++
		z.kill()
		h.mount(i)
	}
}

// renameOf is the kind of rename that a step is; none for anything else. They are to new names, over
// files, exchanges of files, and of directories.
func renameOf(r, dirs int) string {
	switch {
	case r >= 520 && r < 580:
		return "fresh"
	case r >= 580 && r < 620:
		return "over"
	case r >= 620 && r < 640:
		return "exchange"
	case r >= 680 && r < 710, r >= 640 && r < 680 && dirs >= historyDirs:
		return "dirs"
	}
	return ""
}

func (h *history) create(z *zone, name string) {
	body := h.body()
	h.note(z, "create %q %d bytes %s", name, len(body), sum(body))
	f, err := os.OpenFile(z.path(name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if !h.may(z, name, err) {
		return
	}
	defer f.Close()
	if _, err := f.Write(body); err != nil {
		h.failf([]string{name}, "zone %s: write %q: %v", z.name, name, err)
	}
	h.o.wrote(z.name, name, body, h.now())
	if h.random.IntN(4) == 0 {
		h.may(z, name, f.Sync())
	}
}

// change overwrites a file: whole, by truncation; its end; or a part of it.
func (h *history) change(z *zone, name string) {
	if name == "" {
		return
	}
	f, old, v, ok := h.pinned(z, name)
	if !ok {
		return
	}
	defer f.Close()
	data := h.body()
	body, off := data, 0
	how := h.random.IntN(3)
	switch how {
	case 0:
		h.may(z, name, f.Truncate(0))
	case 1:
		off = len(old)
		body = append(bytes.Clone(old), data...)
	case 2:
		off = h.random.IntN(len(old) + 1)
		body = append(bytes.Clone(old), make([]byte, max(0, off+len(data)-len(old)))...)
		copy(body[off:], data)
	}
	h.note(z, "%s %q %d+%d of %s: %s", []string{"replace", "append to", "write into"}[how], name, off, len(data), sum(old), sum(body))
	if _, err := f.WriteAt(data, int64(off)); err != nil {
		h.failf([]string{name}, "zone %s: write %q: %v", z.name, name, err)
	}
	if !sameFile(f, z.path(name)) {
		h.failf([]string{name}, "zone %s: %q was open for writing and has lost its name%s", z.name, name, z.logTail())
	}
	h.over(v, "zone %s overwrote them in step %d", z.name, h.now())
	h.o.wrote(z.name, name, body, h.now())
}

func (h *history) over(v *version, format string, args ...any) {
	if v != nil && v.over == "" {
		v.over = fmt.Sprintf(format, args...)
	}
}

func (h *history) read(z *zone, name string) {
	if name == "" {
		return
	}
	if f, _, _, ok := h.open(z, name, os.O_RDONLY); ok {
		f.Close()
	}
}

// rename gives a file or directory a name that nobody has here.
func (h *history) rename(z *zone, from, to string) {
	if from == "" || to == from || strings.HasPrefix(to, from+"/") {
		return
	}
	h.note(z, "rename %q %q", from, to)
	err := unix.Renameat2(unix.AT_FDCWD, z.path(from), unix.AT_FDCWD, z.path(to), unix.RENAME_NOREPLACE)
	if h.may(z, from, err) {
		h.o.gave(to)
	}
}

func (h *history) renameOver(z *zone, from, to string) {
	if from == "" || from == to {
		return
	}
	f, _, v, ok := h.pinned(z, to)
	if !ok {
		return
	}
	defer f.Close()
	h.note(z, "rename %q over %q", from, to)
	if h.may(z, from, os.Rename(z.path(from), z.path(to))) {
		h.over(v, "zone %s renamed %q over them in step %d", z.name, from, h.now())
	}
}

func (h *history) exchange(z *zone, a, b string) {
	if a == "" || a == b {
		return
	}
	h.note(z, "exchange %q %q", a, b)
	h.may(z, a, unix.Renameat2(unix.AT_FDCWD, z.path(a), unix.AT_FDCWD, z.path(b), unix.RENAME_EXCHANGE))
}

func (h *history) mkdir(z *zone, name string) {
	h.note(z, "mkdir %q", name)
	if h.may(z, name, os.Mkdir(z.path(name), 0o755)) {
		h.o.gave(name)
	}
}

func (h *history) rmdir(z *zone, name string) {
	if name == "" {
		return
	}
	h.note(z, "rmdir %q", name)
	h.may(z, name, unix.Rmdir(z.path(name)))
}

// remove deletes a file. What it shows just before is what is deleted: another version
// that came in between was in the depot, and so is in the trash.
func (h *history) remove(z *zone, name string) {
	if name == "" {
		return
	}
	f, body, v, ok := h.open(z, name, os.O_RDONLY)
	if ok {
		defer f.Close()
	}
	h.note(z, "unlink %q %s", name, sum(body))
	if h.may(z, name, os.Remove(z.path(name))) && v != nil {
		h.o.removed(v, z.name, h.now())
	}
}

func (h *history) chmod(z *zone, name string) {
	if name == "" {
		return
	}
	mode := []os.FileMode{0o600, 0o644, 0o755, 0o700, 0o666}[h.random.IntN(5)]
	h.note(z, "chmod %q %o", name, mode)
	h.may(z, name, os.Chmod(z.path(name), mode))
}

func (h *history) symlink(z *zone, name string) {
	target := fmt.Sprintf("target/%d", h.random.IntN(1000))
	h.note(z, "symlink %q to %s", name, target)
	if h.may(z, name, os.Symlink(target, z.path(name))) {
		h.o.gave(name)
	}
}

func (h *history) evict(z *zone, name string) {
	if name == "" {
		return
	}
	h.note(z, "evict %q", name)
	z.run("evict", z.path(name))
}

func (h *history) flush(i int) {
	z := h.b.all[i]
	h.note(z, "flush")
	limit := "2s"
	if h.cut[i] {
		limit = "200ms"
	}
	if c := z.run("flush", "--timeout", limit, z.mnt); c.code == 0 {
		h.o.flushed(z.name)
	}
}
