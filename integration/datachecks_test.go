package integration

import "fmt"

// bigFile is the size of the files that checks of data work on: neither a whole
// number of pages nor of blocks of a fetch, and so much that a small read leaves
// most of it in the store.
const bigFile = 1_234_567

// onBig begins the checks that work on a file f, which may be in the store only.
const onBig = `
	fill f 1234567
	mark . f
	---
`

// bytesCalls are calls that move or change bytes of f; each is followed by its
// times and all of its bytes.
var bytesCalls = []string{
	"cat f", "stat f",
	"open f f r\nread f 10\nread f 10\nread f 10 1234560\nread f 10 1234567\nread f 10 2000000\nread f 100000 600000",
	"open f f r\nlseek f -5 end\nread f 100\nlseek f 3 set\nlseek f 4 cur\nread f 3\nlseek f -1 set\nlseek f 5 9",
	"open f f w\nwrite f hello 0", "open f f w\nwrite f hello 617283", "open f f w\nwrite f hello 1234565", "open f f w\nwrite f hello 1234567", "open f f w\nwrite f hello 2000000", "open f f w\nwrite f hello 0\nwrite f x 1234566\nwrite f y 500000",
	"open f f w\npattern f 200000 100000", "open f f w\npattern f 1234567 0", "open f f w\npattern f 2000000 1000", "open f f rw\npattern f 4096 8192\nread f 20000 4096",
	"open f f w|append\nwrite f end\nwrite f more 5\nlseek f 0 cur", "open f f w|append\nftruncate f 10\nwrite f end", "open f f rw|append\nread f 5\nwrite f end\nread f 5",
	"truncate f 0", "truncate f 1", "truncate f 617283", "truncate f 1234566", "truncate f 1234567", "truncate f 1234568", "truncate f 3000000", "truncate f 100\ntruncate f 2000000", "truncate f 0\ntruncate f 1234567", "truncate f 600000\ntruncate f 1000000\nopen f f rw\nread f 20 599990\nwrite f mid 800000",
	"open f f rw\nftruncate f 4096\nread f 10 4090\nftruncate f 10000\nread f 10 4090\nread f 10 9995", "open f f r\nftruncate f 5", "open f f w\nftruncate f -1", "open f f w\nftruncate f 1234567\nftruncate f 1234567",
	"try f w|trunc", "try f rw|creat|trunc", "try f r|trunc", "open f f rw|trunc\nread f 10\nwrite f new\nread f 10 0", "try f w|creat|excl", "try f rw", "try f w|append", "put f new", "fill f 1234567", "fill f 1234567 9", "fill f 500000 9",
	"open f f w|sync\nwrite f hello 10", "open f f w|dsync\nwrite f hello 10", "open f f rw\nwrite f hello 10\nfsync f\nwrite f more 100000\nfdatasync f", "open f f r\nfsync f", "open f f rw\nsyncrange f",
	"open f f rw\nfallocate f 0 0 1000", "open f f rw\nfallocate f 0 1234000 10000", "open f f rw\nfallocate f 0 3000000 100000", "open f f rw\nfallocate f keep 3000000 100000", "open f f rw\nfallocate f keep 0 100000", "open f f rw\nfallocate f 0 5 0", "open f f rw\nfallocate f 0 -1 5", "open f f rw\nfallocate f 0 0 -1", "open f f rw\nfallocate f 0 0x7ffffffffffff000 4096", "open f f r\nfallocate f 0 0 10",
	"open f f rw\nfallocate f punch 0 4096", "open f f rw\nfallocate f punch 5000 100", "open f f rw\nfallocate f punch 100000 500000", "open f f rw\nfallocate f punch 1234000 100000", "open f f rw\nfallocate f punch 0 1234567", "open f f rw\nfallocate f punch 5000000 100", "open f f rw\nfallocate f punchonly 0 4096", "open f f rw\nfallocate f punch 65536 65536\nread f 10 65530\nread f 10 131067",
	"open f f rw\nfallocate f zero 0 4096", "open f f rw\nfallocate f zero 5000 100", "open f f rw\nfallocate f zero 1234000 100000", "open f f rw\nfallocate f zero|keep 1234000 100000", "open f f rw\nfallocate f zero 2000000 1000", "open f f rw\nfallocate f zero|keep 2000000 1000",
	"open f f rw\nfallocate f unshare 0 4096", "open f f rw\nfallocate f 0x4000 0 4096", "open f f rw\nfallocate f collapse|insert 0 4096", "open f f rw\nfallocate f keep|collapse 0 4096",
	"open f f rw|direct\ndread f 4096 0\ndread f 8192 4096\ndread f 65536 1228800", "open f f rw|direct\ndwrite f 4096 0\ndwrite f 8192 40960", "open f f rw|direct\ndtry f 4096 4096 512\ndtry f 4096 4096 1\ndtry f 100 0 0\ndtry f 4096 1 0\ndtry f 10000 1230000 77\ndtry f 100000 511 13\nopen g f w\nwrite g a 0", "open f f rw|direct\ndwrite f 4096 2097152\nopen g f r\nread g 10 1234560", "open f f rw|direct\nopen g f rw\nwrite g buffered 4096\ndread f 4096 4096\ndwrite f 4096 8192\nread g 100 8192",
	"open f f rw|direct\ndread f 1003520 0\ndread f 2002944 1048576",
	"open f f rw\nmap m f 0 1234567 r shared\nload m 0 20\nload m 1234560 7\nload m 600000 100000\nunmap m", "open f f rw\nmap m f 0 1234567 rw shared\nstore m 10 hello\nstore m 1234560 tail\nmsync m\nread f 20 0\nwrite f FROMWRITE 600000\nload m 600000 9\nunmap m",
	"open f f rw\nmap m f 0 1234567 rw private\nstore m 10 hello\nload m 5 20\nread f 20 0\nwrite f WRITTEN 700000\nload m 700000 7\nunmap m", "open f f r\nmap m f 4096 8192 r private\nload m 0 8192\nmap n f 0 4096 rw shared\nunmap m", "open f f w\nmap m f 0 4096 r shared", "open f f rw\nmap m f 5 4096 r shared\nmap m f 0 0 r shared",
	"open f f rw\nmap m f 0 2000000 rw shared\nload m 1234560 40\nload m 1900000 1\nstore m 1900000 x\nftruncate f 100000\nload m 150000 1\nload m 50000 10\nload m 99990 20\nftruncate f 1500000\nload m 99990 20\nload m 1400000 10\nstore m 1400000 late\nread f 10 1400000\nunmap m",
	"open f f rw\nmap m f 0 1234567 rw shared\nclose f\nstore m 5 after\nunmap m\nopen f f r\nfsync f", "open f f rw\nmap m f 0 8192 rw shared\nfallocate f punch 0 4096\nload m 0 10\nload m 4096 10\nstore m 1 x\nread f 10 0\nunmap m", "open f f rw\nmap m f 0 8192 rw shared\nopen g f rw|trunc\nload m 0 1\nwrite g new\nload m 0 3\nunmap m",
	"put g {x*10000}\nopen f f rw\nopen g g rw\ncopy g 0 f 0 10000\ncopy f 100000 g 0 500000\ncopy f 0 f 200000 1000\ncopy f 0 f 10 1000\ncopy f 1234567 g 0 10\ncopy f 1234000 g 0 10000\ncopy f 0 g -1 10\nclose g\ncat g", "open f f r\nopen g g w|creat\ncopy f 0 g 0 2000000\nclose g\ncat g\nopen g g w|append\ncopy f 0 g 0 10\nopen g g r\ncopy f 0 g 0 10\nopen d . r|directory\ncopy f 0 d 0 10",
	"open f f rw\nopen g g rw|creat\nsendfile g f 0 2000000\nlseek g 0 cur\nread g 10 1000000\nclose g\ncat g", "open f f rw\nopen g g rw|creat\nsplice f 100 g 50 300000\nsplice g 0 f 1000000 1000\nclose g\ncat g",
	"open f f rw\nreadbad f\nwritebad f\nwrite f x 0", "open f f r\nwrite f x 0\nopen g f w\nread g 1 0\nopen p f path\nread p 1 0\nfchmod p 600\nfstat p", "open f f rw\nopen g f rw\nwrite f one 0\nread g 5 0\nftruncate g 3\nread f 10 0\nfstat f\nstat f\nwrite g two 500000\nread f 10 500000\nclose f\nread g 5 499998",
	"open f f rw\nlseek f 0 data\nlseek f 0 hole\nlseek f 1234566 hole\nlseek f 1234567 data\nlseek f 1234567 hole\nlseek f -1 data\nlseek f 2000000 hole",
	"open f f rw|nonblock\nread f 10 0", "try f r|directory", "try f r|nofollow", "try f/ r", "try f path", "try f r|noatime", "try f r|creat|directory",
	"rename f g\ncat g", "link f g\nstat f\ncat g\nunlink f\ntruncate g 5\nlink g f", "rename f g\nput f new\ncat g", "put g other\nrename g f", "put g other\nrename f g\ncat g\nlink g f", "put g other\nrename f g exchange\ncat g", "mkdir d\nrename f d/f\nrename d e\ncat e/f\nlink e/f f", "link f g\nrename f g\nstat g",
	"unlink f", "unlink f\nput f new", "open f f rw\nunlink f\nfstat f\nread f 10 600000\nwrite f gone 600000\nread f 10 599999\nftruncate f 700000\nfstat f\nfchmod f 600\nfchown f 1 2\nfutimes f 3 4.5\nftimes f a\nfstat f\nread f 10 699995\nreopen g f r\nread g 10 600000\nfsync f\nput f new\nread f 4 0\nfsetx f user.a b",
	"open f f r\nput g other\nrename g f\nfstat f\nread f 10 600000\ncat f\nread f 10 1234560", "open f f rw\nput g other\nrename g f\nwrite f hidden 100\nread f 10 98\nftruncate f 200\nfstat f", "link f g\nopen f f rw\nunlink f\nfstat f\nwrite f through 10\nrename g f\nfstat f",
	"open f f rw\nrename f g\nwrite f moved 10\nread f 10 5\nput f new\nfstat f\ncat g\nunlink g\nread f 10 5\nwrite f again 20\nfstat f",
	"chmod f 600\nstat f", "chmod f 0\ncat f", "chown f 10 20\nstat f", "chown f -1 -1", "chmod f 4755\nopen f f w\nwrite f x 0\nstat f", "utimes f 1.5 2.25\ntimes f a", "utimes f omit 2.25\ntimes f", "utimes f 3 omit\ntimes f a", "utimes f now now\ntimes f a", "utimes f 1 -5.5\ntimes f a", "utimes f 5000000000 6000000000.7\ntimes f a", "utimes f 4294967296 2147483648\ntimes f a", "utimes f 9223372035 9223372035.999999999\ntimes f a", "utimes f -2147483648 -2147483647.5\ntimes f a", "utimes f 1 2.1000000000",
	"open f f rw\nutimes f 100 200\ntimes f a\nread f 1 600000\ntimes f\nwrite f x 0\ntimes f\nutimes f 100 200\nclose f\ntimes f", "open f f r\nutimes f 100 8000000000\ntimes f\nfchmod f 640\ntimes f\nread f 10 600000\ntimes f\nstat f", "open f f rw\nwrite f x 5\nfutimes f 100 200\nftimes f\nfsync f\nftimes f\nclose f\ntimes f", "open f f rw\nfchmod f 604\nfchown f 7 8\nfstat f\nstat f\nclose f\nstat f", "open f f rw\nfchmod f 604\nwrite f x 0\nstat f\nclose f\nstat f", "utimes f 1 2\nopen f f rw\nwrite f x 0\nfchmod f 604\nftimes f\nclose f\ntimes f", "open f f r\nsetx f user.a b\nfmoved f f\nclose f\nmoved f f",
	"setx f user.a b\ngetx f user.a\nlistx f\nrmx f user.a", "open f f rw\nfsetx f user.a b\nwrite f x 0\ngetx f user.a\nfmoved f f", "chmod f 644\nstat f\nchmod f 644\nstat f",
	"as 3000 3000\ncat f\ntry f w\ntruncate f 1\nutimes f now now\nutimes f 1 2\nchmod f 600\nunlink f\nopen f f r\nread f 5 700000\nroot", "chmod f 666\nas 3000 3000\nopen f f rw\nwrite f mine 700000\nread f 6 699999\nutimes f now now\nutimes f 1 2\ntruncate f 700010\nroot\nstat f", "chmod f 6777\nas 3000 3000\nopen f f w\nwrite f mine 700000\nroot\nstat f", "chmod f 6777\nas 3000 3000\ntruncate f 700010\nroot\nstat f", "chmod f 6777\nchown f 1 2\nstat f",
	"open f f rw\nflock f ex|nb\nopen g f rw\nflock g sh|nb\nlock f w 0 100\nlock g r 50 10\ngetlock g 0 1000\nlock g w 100 10\nlock f u 0 0\nlock g r 50 10\nflock f un\nflock g ex|nb",
	"sparse f", "symlink f l\ntruncate l 600000\ncat l", "open f f rw\npattern f 100000 300000\nfallocate f punch 350000 10000\nwrite f z 355000\nftruncate f 360000\nftruncate f 900000\nread f 20 354990\nread f 20 359990", "open f f rw\nopen g f r\npattern f 50000 0\nread g 100 49950\nunlink f\nread g 100 49950\nclose f\nread g 100 1000000",
}

// dataChecks work on a file of bigFile bytes.
func dataChecks() (all []check) {
	for _, call := range bytesCalls {
		all = append(all, check{"data: " + call, onBig + call + `
			root
			moved f
			moved .
			stat f
			cat f
			ls .`})
	}
	for _, flag := range []string{"", "|append", "|direct", "|sync"} {
		for _, at := range []int{0, 4096, 262144, 1_228_800, 1_234_567, 1_300_000} {
			call := fmt.Sprintf("open f f rw%s\nftruncate f %d\nfstat f\ndwrite f 8192 %d\nfstat f\ndread f 4096 4096", flag, at, at&^4095)
			all = append(all, check{fmt.Sprintf("data: cut to %d and written%s", at, flag), onBig + call + "\ncat f"})
		}
	}
	return all
}

// smallChecks are about files made on the spot: what a local file system does
// with sizes, holes and limits.
func smallChecks() []check {
	return []check{
		{"holes", `
			---
			open f f rw|creat
			write f end 3145728
			write f middle 1048576
			fstat f
			sparse f
			lseek f 0 data
			lseek f 0 hole
			lseek f 1048576 data
			lseek f 1048576 hole
			lseek f 1060000 data
			lseek f 3145728 hole
			lseek f 3145731 data
			lseek f 3145732 hole
			fallocate f punch 1048576 4096
			lseek f 0 data
			read f 10 1048570
			ftruncate f 8388608
			lseek f 3200000 data
			cat f`},
		{"times that do not fit", `
			put f text
			---
			utimes f -2147483648 -2147483649
			times f a
			utimes f -9999999999 -99999999999999
			times f a
			open f f rw
			utimes f -9223372036854775808 -9223372036854775807
			times f a`},
		{"as large as can be", `
			---
			open f f rw|creat
			ftruncate f 17592186040320
			fstat f
			ftruncate f 17592186044415
			ftruncate f 0x7fffffffffffffff
			write f x 17592186040319
			write f x 0x7ffffffffffffffe
			fallocate f 0 17592186044416 1
			lseek f 17592186040320 set
			read f 1
			ftruncate f 0
			fstat f`},
		{"append from several descriptors", `
			---
			open a f w|creat|append
			open b f w|append
			open c f rw
			write a one
			write b two
			write c X
			write a three
			write b four
			truncate f 4
			write a five
			cat f`},
		{"locks of descriptions", `
			put f text
			---
			open a f rw
			open b f rw
			open r f r
			lock a w 0 10
			lock b w 5 10
			lock b r 10 10
			lock b w 10 10
			lock r w 30 1
			lock r r 0 1
			getlock b 0 100
			lock a r 0 10
			lock r r 0 1
			lock a u 0 0
			flock a sh|nb
			flock b sh|nb
			flock r ex|nb
			flock a un
			flock b ex|nb
			close b
			flock r ex|nb
			lock a w 0 0
			close a
			lock r r 0 0`},
		{"extended attributes", `
			put f text
			mkdir d
			mkfifo p
			symlink f l
			---
			getx f user.a
			setx f user.a 1
			setx f user.a 2 create
			setx f user.b 2 replace
			setx f user.b 2 create
			setx f user.a three replace
			getx f user.a
			getx f user.a 2
			getx f user.a 5
			getx f user.a 0
			listx f
			listx f 3
			listx f 0
			setx f user.empty ""
			getx f user.empty
			getx f user.empty 0
			rmx f user.a
			rmx f user.a
			listx f
			setx f user. x
			setx f user.{n*250} x
			getx f user.{n*250}
			setx f user.{n*251} x
			getx f user.{n*251}
			rmx f user.{n*251}
			setx f nonsense x
			setx f other.a x
			getx f other.a
			rmx f other.a
			setx f "" x
			setx f trusted.t v
			getx f trusted.t
			setx f user.big {v*1500}
			getx f user.big
			setx f user.bigger {v*65537}
			setx d user.d x
			getx d user.d
			setx p user.p x
			getx p user.p
			setx l user.l x
			setx l trusted.l x
			getx l trusted.l
			listx l
			as 3000 3000
			getx f user.b
			setx f user.b x
			rmx f user.b
			getx f trusted.t
			setx f trusted.t x
			listx f
			setx d user.d y
			root
			chmod f 600
			as 3000 3000
			getx f user.b
			root
			rename f g
			listx g
			link g h
			getx h user.b
			unlink g
			listx h`},
		{"extended attributes go with the file", `
			put f text
			setx f user.a 1
			---
			unlink f
			put f text
			getx f user.a
			listx f
			open t . rw|tmpfile
			fsetx t user.t 2
			linkproc t g
			getx g user.t
			put h text
			setx h user.h 3
			rename h g
			listx g`},
		{"what cannot be executed while written", `
			put f "#!/bin/sh\nexit 0\n"
			---
			access f x
			chmod f 755
			access f x
			access . x
			as 3000 3000
			access f x
			access f w
			root
			chmod f 644
			access f x
			access f r`},
		{"closing twice and bad descriptors", `
			put f x
			---
			open f f rw
			close f
			read f 1 0
			write f x 0
			ftruncate f 1
			fsync f
			fstat f
			fchmod f 600
			fallocate f 0 0 1
			flock f ex`},
		{"operations on an open directory", `
			mkdir d
			---
			open d d r|directory
			read d 10 0
			write d x 0
			ftruncate d 0
			fsync d
			fdatasync d
			fallocate d 0 0 10
			lseek d 0 set
			map m d 0 4096 r shared
			flock d ex|nb
			fchmod d 700
			fstat d`},
		{"statfs", `
			mkdir d
			put f x
			symlink f l
			---
			statfs .
			statfs d
			statfs f
			statfs l
			statfs nothing`},
	}
}
