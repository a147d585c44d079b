package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// procedures are what the mount must do exactly as a plain directory does.
var procedures = []struct {
	name string
	run  func(tr *transcript)
}{
	{"errors of names", func(tr *transcript) {
		tr.write("file", "x")
		tr.say("mkdir over a file", unix.Mkdir(tr.p("file"), 0o755))
		tr.say("mkdir without parent", unix.Mkdir(tr.p("no/dir"), 0o755))
		tr.say("mkdir below a file", unix.Mkdir(tr.p("file/dir"), 0o755))
		tr.say("mkdir", unix.Mkdir(tr.p("dir"), 0o755))
		tr.say("mkdir again", unix.Mkdir(tr.p("dir"), 0o755))
		tr.say("unlink nothing", unix.Unlink(tr.p("nothing")))
		tr.say("unlink a directory", unix.Unlink(tr.p("dir")))
		tr.say("rmdir a file", unix.Rmdir(tr.p("file")))
		tr.say("rmdir nothing", unix.Rmdir(tr.p("nothing")))
		tr.write("dir/inner", "x")
		tr.say("rmdir not empty", unix.Rmdir(tr.p("dir")))
		_, err := tr.open("dir", unix.O_WRONLY, 0)
		tr.say("write a directory", err)
		_, err = tr.open("nothing", unix.O_RDONLY, 0)
		tr.say("open nothing", err)
		_, err = tr.open("file/below", unix.O_RDONLY, 0)
		tr.say("open below a file", err)
		_, err = tr.open("file", unix.O_DIRECTORY, 0)
		tr.say("open a file as a directory", err)
		_, err = tr.open("file", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o644)
		tr.say("create over a file", err)
		tr.say("chmod nothing", unix.Chmod(tr.p("nothing"), 0o644))
		tr.say("truncate nothing", unix.Truncate(tr.p("nothing"), 0))
		tr.say("truncate a directory", unix.Truncate(tr.p("dir"), 0))
		tr.say("truncate to less than nothing", unix.Truncate(tr.p("file"), -1))
		tr.say("link over a file", unix.Link(tr.p("file"), tr.p("dir/inner")))
		tr.say("link a directory", unix.Link(tr.p("dir"), tr.p("dir2")))
		tr.say("link nothing", unix.Link(tr.p("nothing"), tr.p("other")))
		tr.say("symlink over a file", unix.Symlink("x", tr.p("file")))
		_, err = os.Readlink(tr.p("file"))
		tr.say("readlink of a file", err)
		tr.list("")
	}},
	{"rename", func(tr *transcript) {
		for _, name := range []string{"a", "b", "c"} {
			tr.write(name, name)
		}
		_ = unix.Mkdir(tr.p("d"), 0o755)
		_ = unix.Mkdir(tr.p("e"), 0o755)
		_ = unix.Mkdir(tr.p("full"), 0o755)
		tr.write("full/x", "x")
		at := func(old, name string, flags uint) error {
			return unix.Renameat2(unix.AT_FDCWD, tr.p(old), unix.AT_FDCWD, tr.p(name), flags)
		}
		tr.say("over a file", at("a", "b", 0))
		tr.read("b")
		tr.say("to itself", at("b", "b", 0))
		tr.say("nothing", at("a", "x", 0))
		tr.say("noreplace over a file", at("b", "c", unix.RENAME_NOREPLACE))
		tr.say("noreplace", at("b", "b2", unix.RENAME_NOREPLACE))
		tr.say("exchange", at("b2", "c", unix.RENAME_EXCHANGE))
		tr.read("b2")
		tr.read("c")
		tr.say("exchange with nothing", at("b2", "nothing", unix.RENAME_EXCHANGE))
		tr.say("exchange file and directory", at("b2", "full", unix.RENAME_EXCHANGE))
		tr.read("full")
		tr.list("b2")
		tr.say("both flags", at("b2", "full", unix.RENAME_EXCHANGE|unix.RENAME_NOREPLACE))
		tr.say("a file over a directory", at("c", "d", 0))
		tr.say("a directory over a file", at("d", "c", 0))
		tr.say("a directory over a full one", at("d", "b2", 0))
		tr.say("a directory over an empty one", at("b2", "e", 0))
		tr.list("e")
		tr.say("into itself", at("e", "e/inner", 0))
		tr.say("its parent over it", at("e/x", "e", 0))
		tr.say("below a file", at("c", "full/x", 0))
		tr.say("hard link to its other name", unix.Link(tr.p("c"), tr.p("c2")), at("c", "c2", 0))
		tr.look("c")
		tr.look("c2")
		tr.list("")
	}},
	{"an open file outlives its name", func(tr *transcript) {
		tr.write("f", "before")
		fd, err := tr.open("f", unix.O_RDWR, 0)
		tr.say("open", err)
		tr.say("unlink", unix.Unlink(tr.p("f")))
		tr.look("f")
		n, err := unix.Pwrite(fd, []byte("after and longer"), 3)
		tr.say("write", n, err)
		buf := make([]byte, 64)
		n, err = unix.Pread(fd, buf, 0)
		tr.say("read", string(buf[:max(n, 0)]), err)
		tr.say("truncate", unix.Ftruncate(fd, 5))
		tr.say("fsync", unix.Fsync(fd))
		var st unix.Stat_t
		tr.say("fstat", unix.Fstat(fd, &st), st.Nlink, st.Size)
		tr.write("f", "a new one")
		tr.read("f")
		n, err = unix.Pread(fd, buf, 0)
		tr.say("read the old one", string(buf[:max(n, 0)]), err)
		tr.say("close", unix.Close(fd))
		tr.read("f")
		fd, _ = tr.open("over", unix.O_CREAT|unix.O_RDWR, 0o600)
		_, _ = unix.Write(fd, []byte("replaced"))
		tr.say("rename over it", unix.Rename(tr.p("f"), tr.p("over")))
		n, err = unix.Pread(fd, buf, 0)
		tr.say("read the replaced one", string(buf[:max(n, 0)]), err)
		tr.say("close", unix.Close(fd))
		tr.read("over")
		tr.list("")
	}},
	{"append, truncate and holes", func(tr *transcript) {
		fd, err := tr.open("log", unix.O_CREAT|unix.O_WRONLY|unix.O_APPEND, 0o644)
		tr.say("open", err)
		_, _ = unix.Write(fd, []byte("one "))
		tr.say("truncate below an appender", unix.Truncate(tr.p("log"), 2))
		n, err := unix.Write(fd, []byte("two"))
		tr.say("append", n, err)
		_ = unix.Close(fd)
		tr.read("log")
		fd, _ = tr.open("log", unix.O_RDONLY, 0)
		_, err = unix.Write(fd, []byte("x"))
		tr.say("write to a reader", err)
		tr.say("truncate by a reader", unix.Ftruncate(fd, 0))
		_ = unix.Close(fd)
		fd, _ = tr.open("log", unix.O_WRONLY, 0)
		_, err = unix.Read(fd, make([]byte, 8))
		tr.say("read from a writer", err)
		_ = unix.Close(fd)
		fd, _ = tr.open("log", unix.O_RDWR|unix.O_TRUNC, 0)
		tr.look("log")
		_, _ = unix.Pwrite(fd, []byte("end"), 3<<20)
		_, _ = unix.Pwrite(fd, []byte("middle"), 1<<20)
		var st unix.Stat_t
		_ = unix.Fstat(fd, &st)
		tr.say("a sparse file has few blocks", st.Size, st.Blocks < 100)
		for _, off := range []int64{0, 1 << 20, 1<<20 + 8192, 3 << 20, 3<<20 + 3, 3<<20 + 4} {
			data, err := unix.Seek(fd, off, unix.SEEK_DATA)
			tr.say(fmt.Sprint("data from ", off), data, err)
			hole, err := unix.Seek(fd, off, unix.SEEK_HOLE)
			tr.say(fmt.Sprint("hole from ", off), hole, err)
		}
		tr.say("punch", unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 1<<20, 4096))
		tr.say("allocate", unix.Fallocate(fd, 0, 4<<20, 4096))
		tr.say("allocate beyond the end, keeping it", unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 8<<20, 4096))
		tr.say("zero", unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE, 3<<20, 2))
		tr.look("log")
		_ = unix.Close(fd)
		tr.read("log")
		tr.say("longer", unix.Truncate(tr.p("log"), 5<<20))
		tr.say("shorter", unix.Truncate(tr.p("log"), 10))
		tr.look("log")
		tr.read("log")
	}},
	{"links and special files", func(tr *transcript) {
		tr.write("a", "linked")
		tr.say("link", unix.Link(tr.p("a"), tr.p("b")), unix.Link(tr.p("a"), tr.p("c")))
		tr.look("a")
		tr.write("b", "through b")
		tr.read("c")
		tr.say("unlink", unix.Unlink(tr.p("a")))
		tr.look("c")
		tr.say("symlink", unix.Symlink("c", tr.p("to c")), unix.Symlink("nowhere/at all", tr.p("dangling")), unix.Symlink(strings.Repeat("x", 1000), tr.p("long")))
		tr.read("to c")
		tr.read("dangling")
		for _, name := range []string{"to c", "dangling", "long"} {
			to, err := os.Readlink(tr.p(name))
			tr.say("readlink", to, err)
			tr.look(name)
		}
		tr.say("hard link to a symlink", unix.Linkat(unix.AT_FDCWD, tr.p("to c"), unix.AT_FDCWD, tr.p("too"), 0))
		tr.look("too")
		tr.say("empty target", unix.Symlink("", tr.p("empty")))
		tr.say("fifo", unix.Mkfifo(tr.p("fifo"), 0o640))
		tr.say("socket", unix.Mknod(tr.p("socket"), unix.S_IFSOCK|0o600, 0))
		tr.say("file by mknod", unix.Mknod(tr.p("nod"), unix.S_IFREG|0o604, 0))
		for _, name := range []string{"fifo", "socket", "nod"} {
			tr.look(name)
		}
		tr.say("rename a fifo", unix.Rename(tr.p("fifo"), tr.p("pipe")))
		tr.list("")
		tr.say("unlink them", unix.Unlink(tr.p("pipe")), unix.Unlink(tr.p("socket")), unix.Unlink(tr.p("nod")))
	}},
	{"modes, owners and times", func(tr *transcript) {
		tr.write("f", "x")
		_ = unix.Mkdir(tr.p("d"), 0o1777)
		for _, mode := range []uint32{0, 0o4755, 0o2711, 0o1644, 0o777} {
			tr.say("chmod", unix.Chmod(tr.p("f"), mode))
			tr.look("f")
		}
		tr.say("chmod", unix.Chmod(tr.p("d"), 0o3771))
		tr.look("d")
		tr.say("chown", unix.Chown(tr.p("f"), 1234, 5678), unix.Chown(tr.p("d"), -1, 99))
		tr.look("f")
		tr.look("d")
		_ = unix.Chmod(tr.p("f"), 0o6755)
		tr.say("chown clears set-id", unix.Chown(tr.p("f"), 1, 1))
		tr.look("f")
		_ = unix.Symlink("f", tr.p("l"))
		tr.say("lchown", unix.Lchown(tr.p("l"), 7, 8))
		tr.look("l")
		tr.look("f")
		for _, at := range [][2]unix.Timespec{{{Sec: 1, Nsec: 2}, {Sec: 3, Nsec: 999_999_999}}, {{Sec: 1 << 32, Nsec: 5}, {Sec: -5, Nsec: 7}}, {{Nsec: unix.UTIME_OMIT}, {Sec: 77}}} {
			for _, name := range []string{"f", "d", "l"} {
				tr.say("utimens "+name, unix.UtimesNanoAt(unix.AT_FDCWD, tr.p(name), at[:], unix.AT_SYMLINK_NOFOLLOW))
				var st unix.Stat_t
				_ = unix.Lstat(tr.p(name), &st)
				tr.say("times of "+name, st.Mtim)
			}
		}
		var before, after unix.Stat_t
		_ = unix.Lstat(tr.p("d"), &before)
		tr.write("d/new", "x")
		_ = unix.Lstat(tr.p("d"), &after)
		tr.say("a new name moves the directory's mtime", after.Mtim.Nano() > before.Mtim.Nano(), after.Ctim.Nano() >= before.Ctim.Nano())
		_ = unix.Lstat(tr.p("f"), &before)
		_ = unix.Chmod(tr.p("f"), 0o600)
		_ = unix.Lstat(tr.p("f"), &after)
		tr.say("chmod moves ctime, not mtime", after.Ctim.Nano() > before.Ctim.Nano(), after.Mtim == before.Mtim)
	}},
	{"long names and deep paths", func(tr *transcript) {
		long := strings.Repeat("n", 255)
		tr.write(long, "255")
		tr.read(long)
		tr.say("256 bytes", unix.Mkdir(tr.p(long+"n"), 0o755))
		_, err := tr.open(long+"n", unix.O_RDONLY, 0)
		tr.say("open 256 bytes", err)
		tr.say("rename to 256 bytes", unix.Rename(tr.p(long), tr.p(long+"n")))
		tr.write("ünï çödé \x01\xff\n", "bytes")
		tr.read("ünï çödé \x01\xff\n")
		deep := strings.Repeat("deep-directory-name/", 60)
		tr.say("mkdir -p", os.MkdirAll(tr.p(deep), 0o755))
		tr.write(deep+"leaf", "leaf")
		tr.read(deep + "leaf")
		tr.list("")
		tr.say("rm -r", os.RemoveAll(tr.p("deep-directory-name")))
		tr.list("")
	}},
	{"directories count their children", func(tr *transcript) {
		_ = unix.Mkdir(tr.p("d"), 0o755)
		tr.look("d")
		for _, name := range []string{"1", "2", "3"} {
			_ = unix.Mkdir(tr.p("d/"+name), 0o755)
		}
		tr.write("d/file", "x")
		tr.look("d")
		_ = unix.Rmdir(tr.p("d/1"))
		_ = unix.Rename(tr.p("d/2"), tr.p("2"))
		tr.look("d")
		tr.look("2")
		_ = unix.Rename(tr.p("2"), tr.p("d/3"))
		tr.look("d")
		tr.look("")
	}},
	{"five thousand names", func(tr *transcript) {
		_ = unix.Mkdir(tr.p("many"), 0o755)
		const n = 5000
		for i := range n {
			tr.write(fmt.Sprintf("many/%05d", i), "")
		}
		dir, err := os.Open(tr.p("many"))
		if err != nil {
			tr.say("open", err)
			return
		}
		defer dir.Close()
		var seen []string
		for {
			names, err := dir.Readdirnames(100)
			for _, name := range names {
				if len(seen)%3 == 0 { // remove some of what was shown
					_ = unix.Unlink(tr.p("many/" + name))
				}
				seen = append(seen, name)
			}
			if err != nil || len(names) == 0 {
				break
			}
		}
		slices.Sort(seen)
		tr.say("seen", len(seen), len(slices.Compact(seen)))
		left, err := os.ReadDir(tr.p("many"))
		tr.say("left", len(left), err)
		_, err = dir.Seek(0, 0)
		tr.say("rewind", err)
		names, err := dir.Readdirnames(-1)
		tr.say("again", len(names), err)
		tr.say("rm -r", os.RemoveAll(tr.p("many")))
	}},
	{"descriptors see each other", func(tr *transcript) {
		a, err := tr.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		tr.say("a", err)
		b, err := tr.open("f", unix.O_RDWR, 0)
		tr.say("b", err)
		buf := make([]byte, 16)
		_, _ = unix.Pwrite(a, []byte("from a"), 0)
		n, err := unix.Pread(b, buf, 0)
		tr.say("b reads", string(buf[:max(0, n)]), err)
		_ = unix.Ftruncate(b, 2)
		n, err = unix.Pread(a, buf, 0)
		tr.say("a reads", string(buf[:max(0, n)]), err)
		mapped, err := unix.Mmap(a, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		tr.say("mmap", err)
		if err == nil {
			copy(mapped, "MM")
			tr.say("msync", unix.Msync(mapped, unix.MS_SYNC))
			n, err = unix.Pread(b, buf, 0)
			tr.say("b reads what was stored", string(buf[:max(0, n)]), err)
			_, _ = unix.Pwrite(b, []byte("X"), 1)
			tr.say("the map shows what b wrote", string(mapped[:2]))
			_ = unix.Munmap(mapped)
		}
		pos, _ := unix.Seek(a, 0, unix.SEEK_END)
		tr.say("end", pos)
		n, err = unix.CopyFileRange(a, &[]int64{0}[0], b, &[]int64{10}[0], 2, 0)
		tr.say("copy_file_range", n, err)
		_ = unix.Close(a)
		_ = unix.Close(b)
		tr.read("f")
		lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: 0, Start: 0, Len: 10}
		a, _ = tr.open("f", unix.O_RDWR, 0)
		b, _ = tr.open("f", unix.O_RDWR, 0)
		tr.say("lock", unix.FcntlFlock(uintptr(a), unix.F_OFD_SETLK, &lock))
		tr.say("lock again", unix.FcntlFlock(uintptr(b), unix.F_OFD_SETLK, &lock))
		tr.say("flock", unix.Flock(a, unix.LOCK_EX|unix.LOCK_NB), unix.Flock(b, unix.LOCK_EX|unix.LOCK_NB))
		_ = unix.Close(a)
		tr.say("flock after close", unix.Flock(b, unix.LOCK_EX|unix.LOCK_NB))
		_ = unix.Close(b)
	}},
	{"extended attributes", func(tr *transcript) {
		tr.write("f", "x")
		buf := make([]byte, 256)
		n, err := unix.Getxattr(tr.p("f"), "user.a", buf)
		tr.say("get nothing", n, err)
		tr.say("set", unix.Setxattr(tr.p("f"), "user.a", []byte("1"), 0))
		tr.say("create again", unix.Setxattr(tr.p("f"), "user.a", []byte("2"), unix.XATTR_CREATE))
		tr.say("replace nothing", unix.Setxattr(tr.p("f"), "user.b", []byte("2"), unix.XATTR_REPLACE))
		tr.say("replace", unix.Setxattr(tr.p("f"), "user.a", []byte("three"), unix.XATTR_REPLACE))
		n, err = unix.Getxattr(tr.p("f"), "user.a", buf)
		tr.say("get", string(buf[:max(0, n)]), err)
		n, err = unix.Getxattr(tr.p("f"), "user.a", buf[:2])
		tr.say("get into too little", n, err)
		n, err = unix.Listxattr(tr.p("f"), buf)
		tr.say("list", string(buf[:max(0, n)]), err)
		tr.say("remove", unix.Removexattr(tr.p("f"), "user.a"))
		tr.say("remove again", unix.Removexattr(tr.p("f"), "user.a"))
		n, err = unix.Listxattr(tr.p("f"), buf)
		tr.say("list", n, err)
	}},
}

// A mount and a plain directory, side by side, tell the same story.
func TestSameAsPlainDirectory(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			z := newZone(t, on(newDepot(t)), way.set, with("--settle", "100ms"))
			plain := t.TempDir()
			for _, p := range procedures {
				t.Run(p.name, func(t *testing.T) {
					var got, want transcript
					for dir, tr := range map[string]*transcript{z.path(p.name): &got, filepath.Join(plain, p.name): &want} {
						tr.dir = dir
						if err := os.Mkdir(dir, 0o755); err != nil {
							t.Fatal(err)
						}
						p.run(tr)
					}
					compareTranscripts(t, got.lines, want.lines)
				})
			}
			z.flush()
		})
	}
}
