package integration

import (
	"fmt"
	"strings"
)

// rightsCalls are calls in a directory of some owner and mode, on a file (f), a
// directory (s) or a new name in it, by somebody without privileges.
var rightsCalls = []string{
	"stat d/f", "cat d/f", "ls d", "try d/f w", "try d/f rw|trunc", "try d/f w|append", "truncate d/f 1", "access d/f r", "access d/f w", "access d/f x", "access d/new r",
	"try d/new w|creat 666", "try d/f w|creat 666", "try d rw|tmpfile", "mkdir d/new 777", "mkfifo d/new 666", "mknod d/new file 666", "mknod d/new socket 666", "mknod d/new char 666 1 3", "symlink x d/new",
	"unlink d/f", "unlink d/new", "rmdir d/s", "rmdir d/full", "link d/f mine/l", "link mine/own d/new", "rename d/f mine/f", "rename d/f d/new", "rename mine/own d/new", "rename mine/own d/f",
	"rename d/s mine/s", "rename mine/dir d/new", "rename mine/dir d/s", "rename mine/own d/f exchange", "rename d/s mine/dir exchange", "rename mine/own d/new noreplace",
	"chmod d/f 4777", "chmod d/f 2777", "chmod d/s 1777", "chown d/f 3000 -1", "chown d/f -1 3000", "chown d/f -1 3500", "chown d/f -1 4000", "lchown d/f -1 3000", "chown d/f -1 -1", "chown d/f 3001 -1", "chown d/l -1 3500", "lchown d/l -1 3500",
	"utimes d/f 1 2", "utimes d/f now now", "utimesnull d/f", "utimes d/f omit now", "utimes d/f now omit", "utimes d/f omit omit", "utimes d/f omit 5", "utimes d/l 1 2 nofollow",
	"setx d/f user.a b", "getx d/f user.k", "rmx d/f user.k", "listx d/f", "setx d/f trusted.a b", "setx d user.a b", "try d/f r|noatime",
}

// rightsOf are the owner and mode of the directory, and those of what is in it.
var rightsOf = []struct{ dir, file string }{
	{"0 0 755", "0 0 644"}, {"0 0 755", "0 0 600"}, {"0 0 755", "0 0 666"}, {"0 0 755", "3000 3000 000"}, {"0 0 755", "3001 3500 660"}, {"0 0 755", "3001 3000 060"}, {"0 0 755", "3000 4000 4755"}, {"0 0 755", "0 3000 2775"},
	{"0 0 777", "0 0 644"}, {"0 0 777", "3000 3000 644"},
	{"0 0 1777", "0 0 644"}, {"0 0 1777", "3000 3000 644"}, {"0 0 1777", "3001 3500 660"}, {"3000 3000 1777", "3001 3001 644"}, {"0 3000 1770", "0 0 666"},
	{"3000 3000 700", "0 0 644"}, {"3000 3000 500", "3000 3000 644"}, {"3000 3000 300", "3000 3000 644"}, {"3000 3000 077", "3000 3000 644"},
	{"0 3500 770", "0 0 644"}, {"0 3500 2770", "0 0 644"}, {"0 0 711", "0 0 644"}, {"0 0 744", "3000 3000 644"}, {"0 0 733", "0 0 644"},
}

// rightsStanding makes what the calls name.
var rightsStanding = []ingredient{
	{"f", "put d/f text\nsetx d/f user.k v\nchown d/f $owner\nchmod d/f $mode"},
	{"s", "mkdir d/s\nchown d/s $owner"},
	{"full", "mkdir d/full\nput d/full/x y\nchown d/full $owner"},
	{"l", "put d/f text\nsymlink f d/l\nlchown d/l $owner"},
	{"mine", "mkdir mine\nchown mine 3000 3000"},
	{"own", "put mine/own mine\nchown mine/own 3000 3000"},
	{"dir", "mkdir mine/dir\nchown mine/dir 3000 3000"},
}

// rightsChecks are the calls by user 3000 of groups 3000, 3500 and 3501.
func rightsChecks() (all []check) {
	for _, r := range rightsOf {
		cut := strings.LastIndex(r.file, " ")
		standing := strings.NewReplacer("$owner", r.file[:cut], "$mode", r.file[cut+1:])
		cut = strings.LastIndex(r.dir, " ")
		for _, call := range rightsCalls {
			after := "ls d\n"
			for _, name := range []string{"d/f", "d/new", "mine/f", "mine/l"} {
				if strings.Contains(call, name) {
					after += "stat " + name + "\n"
				}
			}
			all = append(all, check{fmt.Sprintf("rights: directory %s, file %s, %s", r.dir, r.file, call), fmt.Sprintf(`
				mkdir d
				%s
				chown d %s
				chmod d %s
				---
				umask 0
				as 3000 3000 3500,3501
				%s
				root
				%s`, standing.Replace(ingredients(rightsStanding, call)), r.dir[:cut], r.dir[cut+1:], call, after)})
		}
	}
	return all
}

// ownerChecks are about who owns what is made, and what happens to set-ID bits.
func ownerChecks() []check {
	all := []check{
		{"a new thing is its maker's", `
			---
			chmod . 777
			as 3000 3100 3500
			umask 27
			put f x
			mkdir d 777
			mkfifo p 666
			mknod n file 777
			symlink f l
			bind s sock
			open t . rw|tmpfile 666
			fstat t
			linkproc t tmp
			stat f
			stat d
			stat p
			stat n
			stat l
			stat sock
			stat tmp`},
		{"umask", `
			---
			umask 777
			put a x
			mkdir b 777
			mkfifo c 777
			umask 0
			try d w|creat 7777
			mkdir e 7777
			mkfifo f 7777
			mknod g file 7777
			umask 124
			try h w|creat 6777
			mkdir i 3777
			stat a
			stat b
			stat c
			stat d
			stat e
			stat f
			stat g
			stat h
			stat i`},
		{"the mode of a new file does not bind its maker", `
			---
			chmod . 777
			as 3000 3000
			open f f w|creat|excl 0
			write f text
			close f
			stat f
			try f w
			try f r
			open f g rw|creat 444
			write f text
			read f 4 0
			try g w`},
	}
	for _, who := range []string{"0 0", "3000 3000 3500", "3000 3000 4000", "3000 3500 3000"} {
		for _, mode := range []string{"2777", "3777"} {
			all = append(all, check{fmt.Sprintf("in a set-group-id directory %s as %s", mode, who), fmt.Sprintf(`
				mkdir d
				chown d 1 3500
				chmod d %s
				---
				umask 0
				as %s
				try d/f w|creat 666
				try d/x w|creat 2777
				try d/y w|creat 2767
				try d/z w|creat 6777
				mkdir d/s 755
				mkdir d/t 2755
				mkdir d/s/u 700
				mkfifo d/p 666
				mknod d/n file 2777
				symlink x d/l
				open t d rw|tmpfile 2777
				fstat t
				linkproc t d/tmp
				chmod d/f 2777
				chmod d/f 2666
				stat d/f
				stat d/x
				stat d/y
				stat d/z
				stat d/s
				stat d/t
				stat d/s/u
				stat d/p
				stat d/n
				stat d/l
				stat d/tmp`, mode, who)})
		}
	}
	for _, kind := range []string{"file", "dir", "fifo", "socket", "char", "block", "symlink"} {
		all = append(all, check{"attributes of a " + kind, fmt.Sprintf(`
			make %[1]s x
			---
			stat x
			lchown x 10 20
			stat x
			lchown x -1 30
			lchown x 40 -1
			stat x
			lchmod x 711
			stat x
			utimes x 100.5 200.999999999 nofollow
			times x a
			setx x user.a b
			setx x trusted.a b
			getx x trusted.a
			listx x
			link x y
			stat x
			rename x z
			stat z
			same y z
			as 3000 3000
			lchown z 3000 3000
			utimes z 1 1 nofollow
			lchmod z 777
			root
			unlink y
			rmdir y
			stat z`, kind)})
	}
	return append(all, privChecks()...)
}

// privChecks are who loses set-ID bits when.
func privChecks() (all []check) {
	for _, mode := range []string{"4755", "2755", "6755", "6777", "2745", "6644", "7711"} {
		for _, who := range []string{"0 0", "3000 3000", "3000 3000 3500", "3001 3500"} {
			for _, call := range []string{
				"open f x w\nwrite f new", "open f x w|append\nwrite f new", "open f x w\nftruncate f 2", "truncate x 2", "truncate x 4", "try x w|trunc", "try x w|creat|trunc", "try x w",
				"open f x rw\nfallocate f 0 0 10", "open f x rw\nmap m f 0 4 rw shared\nstore m 0 new\nunmap m", "chown x 3000 -1", "chown x -1 3500", "chown x -1 -1", "chown x 3000 3500", "chown x -1 3000", "chmod x 6755", "utimes x now now", "setx x user.a b",
				"open g y r\nopen f x w\ncopy g 0 f 0 3", "open f x w\nfchown f -1 3500",
			} {
				text := fmt.Sprintf(`
					put x text
					put y text
					chown x 3000 3500
					chmod x %s
					chmod . 777
					---
					as %s
					%s
					root
					stat x
					cat x`, mode, who, call)
				all = append(all, check{fmt.Sprintf("set-id %s by %s: %s", mode, who, strings.ReplaceAll(call, "\n", "; ")), text})
			}
		}
	}
	return all
}
