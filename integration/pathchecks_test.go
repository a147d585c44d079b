package integration

import (
	"fmt"
	"slices"
	"strings"
)

// pathCalls are calls with a path, written $. They are made on everything that a
// path may lead to (operands).
var pathCalls = []string{
	"stat $", "statfollow $", "access $ r", "access $ w", "access $ x", "readlink $", "ls $", "statfs $",
	"try $ r", "try $ w", "try $ rw|trunc", "try $ w|creat 600", "try $ w|creat|excl 600", "try $ r|directory", "try $ r|nofollow", "try $ w|creat|nofollow",
	"try $ r|creat|directory", "try $ rw|tmpfile", "try $ path", "try $ path|nofollow", "try $ r|nonblock|append", "try $ w|nonblock",
	"mkdir $ 750", "rmdir $", "unlink $", "mkfifo $ 640", "mknod $ file 640", "mknod $ none 640", "mknod $ dir 750", "mknod $ socket 640", "mknod $ char 640 5 6", "mknod $ block 640 7 300",
	"symlink to $", "link file2 $", "link $ new", "link $ new follow", "link $ file2", "bind s $",
	"rename file2 $", "rename dir2 $", "rename $ new", "rename $ file2", "rename $ dir2", "rename $ full2", "rename link2 $",
	"rename file2 $ noreplace", "rename $ file2 exchange", "rename $ dir2 exchange", "rename $ new noreplace", "rename $ new exchange", "rename $ dir/inner/new", "rename $ file2 noreplace|exchange",
	"chmod $ 4711", "lchmod $ 600", "chown $ 12 34", "lchown $ 12 -1", "truncate $ 3", "truncate $ -1", "truncate $ 0x7fffffffffffffff",
	"utimes $ 5 6.7", "utimes $ 5 6.7 nofollow", "utimes $ omit omit", "utimesnull $",
	"setx $ user.a b", "getx $ user.a", "listx $", "rmx $ user.a", "setx $ trusted.a b",
}

// operands are what a path may lead to.
var operands = []string{
	"nothing", "file", "dir", "full", "link", "dirlink", "dangling", "loop", "fifo", "socket", "char", "block",
	"file/", "dir/", "nothing/", "link/", "dirlink/", "dangling/", "fifo/", "link//",
	"nothing/x", "file/x", "dangling/x", "loop/x", "link/x", "dirlink/x", "fifo/x", "dirlink/inner", "dir/../file",
	".", "..", "dir/.", "dir/..", "dirlink/.", `""`, "/", "/dev/null", "/dev/shm/{x*250}/x",
	"{n*255}", "{n*256}", "dir/{n*256}", "{n*256}/x", "{./*2047}x", "{./*2047}xy", "{./*2046}file", "{./*2050}", `"new\nline\x01"`, `"\xff\xfe{\x80*253}"`,
}

// standing makes what the operands lead to; a check has the lines that make what
// it names, and what those lead to.
var standing = []ingredient{
	{"file", "put file text"},
	{"link", "put file text"},
	{"link2", "put file2 text2"},
	{"file2", "put file2 text2"},
	{"dir", "mkdir dir\nmkdir dir/inner"},
	{"dirlink", "mkdir dir\nmkdir dir/inner"},
	{"dir2", "mkdir dir2"},
	{"full", "mkdir full\nput full/x y"},
	{"full2", "mkdir full2\nput full2/x y"},
	{"link", "symlink file link"},
	{"link2", "symlink file2 link2"},
	{"dirlink", "symlink dir dirlink"},
	{"dangling", "symlink nowhere dangling"},
	{"loop", "symlink loop loop"},
	{"fifo", "make fifo fifo"},
	{"socket", "make socket socket"},
	{"char", "make char char"},
	{"block", "make block block"},
}

// ingredient is what makes a name.
type ingredient struct{ name, steps string }

// ingredients are the steps that make what a step names, each once.
func ingredients(of []ingredient, step string) string {
	named := strings.FieldsFunc(step, func(r rune) bool { return r == ' ' || r == '/' })
	text, done := "", map[string]bool{}
	for _, i := range of {
		if slices.Contains(named[1:], i.name) && !done[i.steps] {
			text += i.steps + "\n"
			done[i.steps] = true
		}
	}
	return text
}

// pathChecks are every call on every operand.
func pathChecks() (all []check) {
	for _, operand := range operands {
		for _, call := range pathCalls {
			if skipped(call, operand) {
				continue
			}
			step := strings.ReplaceAll(call, "$", operand)
			setup := ingredients(standing, step)
			after := "ls .\n"
			if !strings.HasPrefix(operand, "/") && !strings.Contains(operand, "..") && operand != "." && operand != "dir/." {
				after += "stat " + operand + "\n"
			}
			for _, name := range []string{"file", "file2", "new", "dir", "dir2"} {
				if strings.Contains(step, name) && name != operand {
					after += "stat " + name + "\n"
				}
			}
			all = append(all, check{"path: " + step, setup + barrier + "\n" + step + "\n" + after})
		}
	}
	return all
}

// skipped are calls that would change something outside, or whose answer is about
// what is there.
func skipped(call, operand string) bool {
	outside := strings.HasPrefix(operand, "/") || operand == ".." || operand == "dir/.." && strings.HasPrefix(call, "try $ rw|tmpfile")
	switch {
	case outside && !strings.HasPrefix(call, "rename ") && !strings.HasPrefix(call, "link ") && !strings.HasPrefix(call, "mk") && !strings.HasPrefix(call, "symlink") && !strings.HasPrefix(call, "rmdir") && !strings.HasPrefix(call, "unlink"):
		return true
	case operand == "/dev/null" && !strings.HasPrefix(call, "rename file2 $") && !strings.HasPrefix(call, "link file2 $") && call != "link $ new":
		return true // EXDEV is what these are for; the file itself must stay
	case strings.HasPrefix(call, "bind") && len(operand) > 90:
		return true // longer than a socket's address can be
	}
	return false
}

// longPaths are about paths, names and targets at their limits.
func longPaths() []check {
	return []check{
		{"deeper than PATH_MAX, one step at a time", `
			deep {d*200} 30
			put file text
			mkdir sub
			symlink file link
			stat file
			cat link
			rename file sub/moved
			ls .
			cat sub/moved
			link sub/moved again
			truncate again 2
			chmod again 600
			chown again 1 2
			utimes again 3 4
			times again
			stat again
			setx again user.x y
			getx again user.x
			mkfifo fifo
			rename sub/moved again exchange
			open f . rw|tmpfile
			linkproc f named
			unlink named
			unlink sub/moved
			unlink fifo
			unlink again
			unlink link
			rmdir sub
			ls .
			undeep {d*200} 30
			ls .`},
		{"names of any byte", `
			put "\x01\x02\x7f" a
			put "\xff\xff" b
			put "a\nb" c
			put "*?[]'$ \\" d
			mkdir "dir\xc3\x28"
			put "dir\xc3\x28/\xe2\x82" e
			ls .
			ls "dir\xc3\x28"
			cat "\xff\xff"
			rename "\xff\xff" "\xfe"
			cat "\xfe"
			rename "dir\xc3\x28" plain
			cat "plain/\xe2\x82"
			symlink "\xff\x01" s
			readlink s
			unlink "a\nb"
			ls .`},
		{"names that differ in case or form only", `
			put Name 1
			put name 2
			put "n\u00e9" 3
			put "ne\u0301" 4
			ls .
			cat Name
			cat "ne\u0301"`},
		{"dots in names", `
			put ... a
			put ..x b
			put .x c
			mkdir .dir
			ls .
			cat ...
			cat ..x`},
		{"long symlink targets", `
			symlink {x*4095} most
			symlink {x*4096} more
			symlink "" none
			symlink {x*59} inline
			symlink {x*60} outline
			symlink {d/*1000}x path
			readlink most
			readlink inline
			readlink outline
			readlink path
			stat most
			stat inline
			stat outline
			try most r
			try path r
			ls .`},
		{"forty links in a row", chain(40)},
		{"forty-one links in a row", chain(41)},
		{"a name of 255 bytes everywhere", `
			mkdir {a*255}
			put {a*255}/{b*255} text
			cat {a*255}/{b*255}
			rename {a*255}/{b*255} {c*255}
			link {c*255} {d*255}
			symlink {c*255} {e*255}
			cat {e*255}
			mkfifo {f*255}
			rename {c*255} {g*256}
			link {c*255} {g*256}
			symlink x {g*256}
			mkfifo {g*256}
			mknod {g*256} file 644
			mkdir {g*256}
			rmdir {a*255}
			unlink {c*255}
			ls .`},
	}
}

func chain(n int) string {
	text := "put end text\nsymlink end l1\n"
	for i := 2; i <= n; i++ {
		text += fmt.Sprintf("symlink l%d l%d\n", i-1, i)
	}
	return text + fmt.Sprintf("cat l%d\nstatfollow l%d\nstat l%d\ntruncate l%d 2\nchmod l%d 600\n", n, n, n, n, n)
}
