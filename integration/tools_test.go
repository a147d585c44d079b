package integration

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// tool is a piece of work with the programs that people and CloudStack use.
type tool struct {
	name   string
	needs  [][2]string // program, Debian package
	script string      // makes things in the directory where it runs
	again  string      // reads them, when their bytes may be elsewhere
}

var tools = []tool{
	{
		name:  "qemu-img",
		needs: [][2]string{{"qemu-img", "qemu-utils"}, {"qemu-io", "qemu-utils"}},
		script: `
qemu-img create -q -f qcow2 base.qcow2 64M
qemu-io -c 'write -P 0x5a 0 20M' -c 'write -P 0xa5 40M 3M' base.qcow2 | grep -o 'wrote .* at offset .*'
qemu-img convert -f qcow2 -O raw base.qcow2 base.raw
qemu-img convert -c -f raw -O qcow2 base.raw packed.qcow2
qemu-img convert -t none -f raw -O vpc base.raw base.vhd
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 delta.qcow2
qemu-io -c 'write -P 0x11 1M 4M' delta.qcow2 | grep -o 'wrote .* at offset .*'
cp base.qcow2 other.qcow2
qemu-img rebase -f qcow2 -b other.qcow2 -F qcow2 delta.qcow2
qemu-img rebase -u -f qcow2 -b base.qcow2 -F qcow2 delta.qcow2
qemu-img convert -f qcow2 -O qcow2 delta.qcow2 flat.qcow2
qemu-img resize -q flat.qcow2 96M`,
		again: `
for f in base packed delta flat other; do qemu-img check -q $f.qcow2; done
qemu-img compare base.qcow2 packed.qcow2
qemu-img compare -f raw -F qcow2 base.raw base.qcow2
qemu-img compare base.qcow2 delta.qcow2 || true
qemu-img info delta.qcow2 | grep -E 'virtual size|backing file:'
qemu-img info flat.qcow2 | grep 'virtual size'
qemu-io -r -c 'read -P 0x11 1M 4M' -c 'read -P 0x5a 5M 15M' -c 'read -P 0 20M 20M' delta.qcow2 | grep -E 'read|failed' | grep -v ops
qemu-img convert -f qcow2 -O raw delta.qcow2 - 2>/dev/null | sha256sum || true`,
	},
	{
		name: "dd",
		script: `
dd if=/dev/zero bs=1M count=3 2>/dev/null | tr '\0' 'x' >source
dd if=source of=direct bs=64k oflag=direct status=none
dd if=source of=both bs=128k iflag=direct oflag=direct conv=fsync status=none
dd if=source of=patched bs=4k count=1 seek=99 conv=notrunc status=none
dd if=/dev/zero of=appended bs=1k count=3 oflag=append conv=notrunc status=none
printf tail >>appended
dd if=source of=sparse bs=4k conv=sparse seek=1000 status=none`,
		again: `
dd if=direct bs=128k iflag=direct status=none | sha256sum
cmp source both && stat -c '%n %s' *`,
	},
	{
		name: "tar and cp",
		script: `
mkdir -p tree/a/b tree/empty
for i in $(seq 1 200); do echo "file $i" >tree/a/b/f$i; done
ln -s ../a/b/f1 tree/link; ln tree/a/b/f2 tree/hard; chmod 4751 tree/a/b/f3; mkfifo tree/pipe
truncate -s 5M tree/hole; printf x | dd of=tree/hole bs=1 seek=3000000 conv=notrunc status=none
tar -cf tree.tar --sort=name tree
mkdir out && tar -xpf tree.tar -C out
cp --sparse=always tree/hole copied; cp -a tree preserved; cp --reflink=auto tree/hole reflinked
mkdir into && mv preserved into/ && mv tree.tar into/renamed.tar`,
		again: `
tar -tf into/renamed.tar | wc -l
diff -r --no-dereference out/tree/a into/preserved/a
cmp copied reflinked; stat -c '%n %h %a %s' out/tree/hard into/preserved/a/b/f3 copied
find . -type p | sort; readlink out/tree/link`,
	},
	{
		name:  "rsync",
		needs: [][2]string{{"rsync", "rsync"}},
		script: `
mkdir -p from/deep/er
for i in $(seq 1 50); do seq $i 3000 >from/deep/er/$i; done
truncate -s 8M from/image; printf data | dd of=from/image bs=1 seek=5000000 conv=notrunc status=none
rsync -aHS from/ to/
echo changed >>from/deep/er/7; rm from/deep/er/8
rsync -a --delete --inplace from/ to/`,
		again: `
rsync -a --checksum --delete --dry-run --itemize-changes from/ to/
diff -r from to && ls to/deep/er | wc -l`,
	},
	{
		name: "truncate and mv",
		script: `
for i in 1 2 3; do truncate -s ${i}M t$i; done
printf head | dd of=t2 conv=notrunc status=none
truncate -s -1 t1; truncate -s 100 t3; mkdir -p d/e
mv t1 d/; mv -n t2 d/e/; mv d/e moved; mv moved/t2 t2; rmdir moved
echo one >x; echo two >y; mv -f x y`,
		again: `sha256sum t2 t3 d/t1 y; ls -R`,
	},
	{
		name:  "sqlite3",
		needs: [][2]string{{"sqlite3", "sqlite3"}},
		script: `
for mode in delete wal; do
	sqlite3 $mode.db "pragma journal_mode=$mode; create table t(id integer primary key, v blob);" 
	for i in 1 2 3 4 5; do
		sqlite3 $mode.db "begin; with recursive n(i) as (select 1 union all select i+1 from n where i<300) insert into t(v) select zeroblob(500) from n; commit; delete from t where id % 7 = 0;"
	done
done`,
		again: `for mode in delete wal; do cp $mode.db copy.db; sqlite3 copy.db 'pragma integrity_check; select count(*), sum(length(v)) from t;'; rm -f copy.db*; done`,
	},
	{
		name:  "git",
		needs: [][2]string{{"git", "git"}},
		script: `
export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.com GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.com
export GIT_AUTHOR_DATE='2024-01-01T00:00:00Z' GIT_COMMITTER_DATE='2024-01-01T00:00:00Z'
git init -q -b main source && cd source
for c in 1 2 3; do for i in $(seq 1 40); do seq $c $i 500 >f$i; done; git add . && git commit -q -m "c$c"; done
cd .. && git clone -q --no-local source clone && git -C clone gc -q && git clone -q --no-hardlinks clone second`,
		again: `
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
git -C clone fsck --full 2>&1; git -C second status --porcelain; git -C second log --format=%H`,
	},
	{
		name:  "fio",
		needs: [][2]string{{"fio", "fio"}},
		script: `
for engine in psync libaio; do
	for direct in 0 1; do
		fio --name=$engine$direct --filename=$engine$direct --ioengine=$engine --iodepth=8 --direct=$direct --rw=randrw --bs=4k-64k --bsrange=4k-64k --blockalign=4k \
			--size=16m --verify=crc32c --verify_fatal=1 --randrepeat=1 --fsync=64 --minimal >out.$engine$direct 2>&1 || { cat out.$engine$direct; exit 1; }
	done
done
fio --name=mmap --filename=mmap --ioengine=mmap --rw=randwrite --bs=4k --size=8m --verify=crc32c --verify_fatal=1 --minimal >out.mmap 2>&1 || { cat out.mmap; exit 1; }
rm out.*`,
		again: `
for f in psync0 libaio1; do
	fio --name=$f --filename=$f --ioengine=psync --rw=randread --bs=4k --size=16m --minimal >/dev/null
done
stat -c '%n %s' *`,
	},
	{
		name:  "xorriso",
		needs: [][2]string{{"xorriso", "xorriso"}},
		script: `
mkdir src && for i in $(seq 1 20); do seq $i 5000 >src/file$i; done
xorriso -report_about FAILURE -outdev image.iso -map src / -commit >/dev/null 2>&1`,
		again: `xorriso -report_about FAILURE -indev image.iso -find / -type f 2>/dev/null | sort; xorriso -report_about FAILURE -osirrox on -indev image.iso -extract / x >/dev/null 2>&1; diff -r src x; chmod -R u+w x; rm -r x`,
	},
}

// Tools work as in a plain directory: on what is here, and on what has to be
// fetched.
func TestTools(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			z := newZone(t, on(newDepot(t)), way.set, with("--part-size", "5MiB"))
			plain := t.TempDir()
			for _, tool := range tools {
				t.Run(tool.name, func(t *testing.T) {
					z := z.as(t)
					for _, n := range tool.needs {
						need(t, n[0], n[1])
					}
					bare, mounted := filepath.Join(plain, tool.name), z.path("volumes/"+tool.name)
					for _, dir := range []string{bare, mounted} {
						if err := os.MkdirAll(dir, 0o755); err != nil {
							t.Fatal(err)
						}
					}
					want, got := shell(t, bare, tool.script), shell(t, mounted, tool.script)
					if got != want {
						t.Errorf("it printed\n%s\nin a plain directory\n%s", got, want)
					}
					want, got = shell(t, bare, tool.again), shell(t, mounted, tool.again)
					if got != want {
						t.Errorf("read, it printed\n%s\nin a plain directory\n%s", got, want)
					}
					compareContent(t, mounted, bare)
					z.flush("volumes/" + tool.name)
					evictMost(z, "volumes/"+tool.name)
					if got := shell(t, mounted, tool.again); got != want {
						t.Errorf("after evict it printed\n%s\nin a plain directory\n%s", got, want)
					}
					z.flush("volumes/" + tool.name)
					evictMost(z, "volumes/"+tool.name)
					compareContent(t, mounted, bare)
				})
			}
			z.flush()
		})
	}
}

// evictMost evicts what may be: a file with several names stays.
func evictMost(z *zone, name string) {
	z.t.Helper()
	c := z.run("evict", z.path(name))
	for line := range strings.Lines(c.stderr) {
		if !strings.Contains(line, "names") && !strings.Contains(line, "stayed here") {
			z.t.Fatalf("%v", c)
		}
	}
}

// shell runs a script in a directory and returns what it printed.
func shell(t *testing.T, dir, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/bash", "-e", "-o", "pipefail", "-c", "cd \"$0\" || exit 1\n"+script, dir)
	cmd.WaitDelay = time.Second // what it started may hold its output open
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "HOME=/nonexistent")
	out, err := cmd.CombinedOutput()
	text := strings.ReplaceAll(string(out), dir, "DIR")
	if err != nil {
		t.Fatalf("in %s: %v\n%s", dir, err, text)
	}
	return text
}

var mtimes = regexp.MustCompile(` mtime -?\d+`)

// differsEachTime are files in which two runs of one program differ anyway: they hold
// times or random numbers.
var differsEachTime = regexp.MustCompile(`base\.vhd$|\.iso$|\.tar$|/index$|/logs/|wal\.db|/\.git/|^clone|^second|^source|psync|libaio|mmap`)

// compareContent compares two trees without times.
func compareContent(t *testing.T, got, want string) {
	t.Helper()
	clean := func(tree map[string]string) map[string]string {
		for name, text := range tree {
			tree[name] = mtimes.ReplaceAllString(text, "")
			if differsEachTime.MatchString(name) {
				delete(tree, name)
			}
		}
		return tree
	}
	if diff := mapDifference(clean(treeOf(t, got)), clean(treeOf(t, want))); diff != "" {
		t.Errorf("it left another tree than in a plain directory: %s", diff)
	}
}
