package integration

import (
	"fmt"
	"strings"
)

// nameChecks are about names, links and directories.
func nameChecks() []check {
	all := []check{
		{"hard links", `
			put a text
			---
			mark .
			link a b
			link a c
			stat a
			same a c
			mkdir d
			link a d/a
			rename a d/a
			exists a d/a
			rename b c
			exists b c
			rename b e
			stat e
			chmod c 600
			stat e
			truncate e 2
			cat d/a
			unlink a
			stat c
			unlink c
			unlink d/a
			stat e
			moved .`},
		{"directories count their children", `
			mkdir d
			mkdir e
			---
			stat d
			mkdir d/1
			mkdir d/2
			mkdir d/3
			put d/f x
			mkfifo d/p
			stat d
			rmdir d/1
			stat d
			rename d/2 e/2
			stat d
			stat e
			rename d/3 e/2
			stat d
			stat e
			mkdir d/4
			mkdir e/4
			rename d/4 e/4 exchange
			rename d/f e/2 exchange
			stat d
			stat e
			stat d/f
			rename e/4 d/f
			stat d
			stat e
			stat .`},
		{"a removed directory that is open", `
			mkdir d
			---
			open d d r|directory
			rmdir d
			fstat d
			lsfd d
			openat f d x w|creat
			openat f d . r
			fchmod d 700
			fstat d
			fchown d 5 6
			fstat d
			futimes d 7 8
			ftimes d
			mkdir d
			openat f d x w|creat
			ls d`},
		{"a directory renamed over while open", `
			mkdir a
			mkdir b
			put a/x y
			---
			open b b r|directory
			rename a b
			fstat b
			lsfd b
			openat f b x r
			ls b`},
		{"standing in a removed directory", `
			mkdir d
			mkdir d/e
			---
			cd d/e
			rmdir ../e
			exists . ..
			put x y
			mkdir x
			mkfifo x
			symlink x y
			link ../f x
			ls .
			stat .
			chmod . 711
			stat .
			cd ..`},
		{"rename into itself", `
			mkdir a
			mkdir a/b
			mkdir a/b/c
			symlink a l
			---
			rename a a/x
			rename a a/b
			rename a a/b/c/x
			rename a a
			rename a/b a
			rename a/b/c a
			rename a a/b exchange
			rename a/b a exchange
			rename l/b l
			rename a/ b/
			ls .
			ls b`},
		{"rename of links", `
			put f x
			put g y
			symlink f l
			symlink nowhere n
			mkdir d
			symlink d k
			---
			rename l m
			readlink m
			rename m g
			readlink g
			rename n f
			readlink f
			rename k/ e
			rename k e
			rename d e
			rename e d
			ls .`},
		{"a fifo without a reader", `
			mkfifo p
			---
			try p w|nonblock
			open r p r|nonblock
			open w p w|nonblock
			write w text
			read r 10
			stat p
			rename p q
			write w more
			unlink q
			read r 10
			fstat r`},
		{"a socket", `
			---
			bind s sock
			stat sock
			try sock r
			try sock rw
			connect sock
			rename sock other
			connect other
			connect sock
			close s
			connect other
			bind s other
			unlink other
			bind t other
			connect other`},
		{"devices", `
			---
			mknod null char 666 1 3
			mknod zero char 666 1 5
			mknod big block 600 4095 1048575
			mknod odd char 600 8 256
			stat null
			stat zero
			stat big
			stat odd
			link null two
			rename null three
			stat two
			chmod three 600
			chown three 1 2
			stat three
			truncate three 0
			unlink two
			ls .`},
		{"listing while removing", `
			mkdir d
			many d 700
			---
			removeseen d
			ls d
			rmdir d`},
		{"a listing begun before a name was made shows it after rewinding", `
			mkdir d
			put d/a x
			---
			open d d r|directory
			lsfd d
			put d/b y
			ls d
			lseek d 0 set
			lsfd d
			lsfd d`},
		{"tmpfile", `
			mkdir d
			---
			open f d rw|tmpfile 640
			fstat f
			write f text
			ls d
			linkproc f d/name
			fstat f
			stat d/name
			cat d/name
			linkproc f d/name
			linkproc f d/again
			stat d/again
			write f more 4
			cat d/again
			unlink d/name
			unlink d/again
			fstat f
			linkproc f d/third`},
		{"tmpfile with O_EXCL has no way into the tree", `
			---
			open f . rw|tmpfile|excl 640
			write f text
			linkproc f name
			ls .
			open g . w|tmpfile 0
			fstat g
			open h . r|tmpfile
			open i nothing rw|tmpfile
			linkfd g byfd
			ls .`},
		{"an unlinked file cannot be linked again", `
			put f text
			---
			open f f r
			unlink f
			linkproc f g
			linkfd f g
			reopen g f rw
			write g more 2
			read f 10 0
			fstat f`},
		{"create races with symlinks", `
			symlink target l
			---
			try l w|creat|excl
			try l w|creat
			ls .
			try l w|creat|excl
			try l w|creat|nofollow
			unlink target
			mkdir l
			symlink target/deeper k
			try k w|creat`},
		{"flags that do not go together", `
			put f x
			put g x
			---
			rename f h whiteout|exchange
			rename f h 8
			rename f g noreplace|exchange
			ls .`},
	}
	return append(all, renameChecks()...)
}

// renameChecks are each kind renamed over each other, with each flag, within a
// directory and between two.
func renameChecks() (all []check) {
	kinds := []string{"file", "dir", "full", "symlink", "fifo", "socket", "char", "nothing"}
	make := func(kind, path string) string {
		switch kind {
		case "full":
			return fmt.Sprintf("mkdir %[1]s\nput %[1]s/x y\n", path)
		case "nothing":
			return ""
		}
		return fmt.Sprintf("make %s %s\n", kind, path)
	}
	for _, from := range kinds {
		for _, to := range kinds {
			for _, flag := range []string{"", " noreplace", " exchange"} {
				for _, where := range [][2]string{{"d/a", "d/b"}, {"d/a", "e/b"}} {
					script := "mkdir d\nmkdir e\n" + make(from, where[0]) + make(to, where[1]) + "mark d e\n" + barrier + "\n" +
						fmt.Sprintf("rename %s %s%s\nmoved d\nmoved e\nls d\nls e\nstat d\nstat e\nstat %s\nstat %s\n", where[0], where[1], flag, where[0], where[1])
					all = append(all, check{fmt.Sprintf("rename %s over %s%s, %s to %s", from, to, flag, where[0], where[1]), script})
				}
			}
		}
	}
	return all
}

// timeChecks are which times move with which call.
func timeChecks() (all []check) {
	for _, kind := range []string{"file", "dir", "symlink", "fifo", "socket", "char"} {
		for _, call := range []string{
			"lchown d/x 5 6", "lchown d/x -1 -1", "lchmod d/x 600", "chmod d/x 644", "utimes d/x 7 8 nofollow", "utimes d/x omit omit nofollow", "utimes d/x omit now nofollow", "utimes d/x 7 omit nofollow",
			"link d/x d/y", "link d/x e/y", "rename d/x d/y", "rename d/x e/y", "rename d/x d/other", "rename d/x e/other exchange", "unlink d/x", "rmdir d/x", "setx d/x user.a b", "setx d/x trusted.a b", "rmx d/x trusted.k",
			"ls d", "stat d/x", "readlink d/x", "access d/x r", "rename d/none d/y", "rename d/x d/x", "unlink d/none", "mkdir d/x", "link d/x d/other", "rename d/x d/other noreplace",
			"mkdir d/y", "put d/y new", "mkfifo d/y", "symlink x d/y", "mknod d/y char 600 1 1", "mknod d/y file 600", "open t d rw|tmpfile", "open t d rw|tmpfile\nlinkproc t d/y", "try d/y r", "bind s d/y",
		} {
			after := "moved d/x\nmoved d/y d/x\nmoved e/y d/x\nmoved d/other\nmoved e/other"
			if strings.HasSuffix(call, "exchange") {
				after = "moved d/x e/other\nmoved e/other d/x"
			} else if call == "rename d/x d/other" {
				after = "moved d/other d/x"
			}
			all = append(all, check{fmt.Sprintf("times of a %s and its directory: %s", kind, call), fmt.Sprintf(`
				mkdir d
				mkdir e
				make %[1]s d/x
				make %[1]s d/other
				make %[1]s e/other
				setx d/x trusted.k v
				link d/other d/second
				mark d e d/x d/other e/other d/second .
				---
				%[2]s
				%[3]s
				moved d
				moved e
				moved d/second d/other
				moved .`, kind, call, after)})
		}
	}
	return all
}
