package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ganesha is an NFS server that exports a zone, in a network of its own, as
// docs/nfs.md says.
type ganesha struct {
	t    testing.TB
	z    *zone
	dir  string
	conf string

	portmap *exec.Cmd // rpcbind, whose namespace is that of all
	server  *exec.Cmd // nil while it is stopped
}

// export is where clients find the mount; docs/nfs.md has it so.
const export = "/export/secondary"

var configBlock = regexp.MustCompile("(?s)```ganesha\n(.*?)```")

// idleDescriptors is the part of the documented configuration that has the server
// close files that nobody uses.
var idleDescriptors = regexp.MustCompile(`(?s)MDCACHE \{.*?\}\n`)

// ganeshaConfig is the configuration of docs/nfs.md for a zone.
func ganeshaConfig(t testing.TB, z *zone, dir string) string {
	t.Helper()
	doc, err := os.ReadFile("../docs/nfs.md")
	if err != nil {
		t.Fatal(err)
	}
	block := configBlock.FindSubmatch(doc)
	if block == nil {
		t.Fatal("docs/nfs.md has no ganesha configuration")
	}
	conf := string(block[1])
	for _, change := range []struct{ from, to string }{
		{"Path = " + export + ";", "Path = \"" + z.mnt + "\";"},
		{"NFSv4 {\n", "NFSv4 {\n    RecoveryRoot = \"" + dir + "\";\n"}, // not the machine's own
	} {
		if strings.Count(conf, change.from) != 1 {
			t.Fatalf("the configuration in docs/nfs.md has %q %d times", change.from, strings.Count(conf, change.from))
		}
		conf = strings.Replace(conf, change.from, change.to, 1)
	}
	return conf
}

// newGanesha exports a zone; edit may change the configuration. Its programs are
// copies in the directory of the run, which the end of the run looks for.
func newGanesha(t testing.TB, z *zone, edit func(conf string) string) *ganesha {
	t.Helper()
	need(t, "ganesha.nfsd", "nfs-ganesha")
	need(t, "rpcbind", "rpcbind")
	need(t, "nsenter", "util-linux")
	need(t, "ip", "iproute2")
	if found, _ := filepath.Glob("/usr/lib/*/ganesha/libfsalvfs.so"); len(found) == 0 {
		t.Fatal("ganesha cannot export local file systems: apt-get install nfs-ganesha-vfs")
	}
	g := &ganesha{t: t, z: z, dir: t.TempDir()}
	g.conf = ganeshaConfig(t, z, g.dir)
	if edit != nil {
		g.conf = edit(g.conf)
	}
	for _, name := range []string{"ganesha.nfsd", "rpcbind"} {
		from, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		body, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(g.dir, name), body, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(g.path("ganesha.conf"), []byte(g.conf), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.end)
	g.startPortmap()
	g.start()
	return g
}

func (g *ganesha) path(name string) string { return filepath.Join(g.dir, name) }

// portmapScript prepares the namespaces. rpcbind has its socket at a fixed place, so
// it needs a /run of its own; with that it would keep alive all mounts that others
// unmount meanwhile.
const portmapScript = `
ip link set lo up &&
while read -r _ dir type _; do
	case $type:$dir in fuse*|*:/tmp/?*|*:/var/tmp/?*|*:"$2"/*) echo "$dir" ;; esac
done </proc/self/mounts | sort -r | while read -r dir; do umount -l "$(printf %b "$dir")"; done
mount -t tmpfs none /run && mkdir /run/rpcbind && exec "$1" -f -i`

func (g *ganesha) startPortmap() {
	g.t.Helper()
	base := filepath.Dir(filepath.Dir(depotfsBin))
	g.portmap = exec.Command("/bin/sh", "-c", portmapScript, "sh", g.path("rpcbind"), base)
	g.portmap.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	var out bytes.Buffer
	g.portmap.Stdout, g.portmap.Stderr = &out, &out
	if err := g.portmap.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.answers(111)
	if g.t.Failed() {
		g.t.Fatalf("rpcbind does not start: %s", &out)
	}
}

// answers waits until a port answers.
func (g *ganesha) answers(port int) {
	g.t.Helper()
	eventually(g.t, 60*time.Second, func() error {
		conn, err := g.dial(port)
		if err == nil {
			conn.Close()
		}
		return err
	})
}

func (g *ganesha) dial(port int) (net.Conn, error) {
	return dialIn(g.portmap.Process.Pid, fmt.Sprintf("127.0.0.1:%d", port))
}

// inside is a command in the server's network.
func (g *ganesha) inside(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{fmt.Sprintf("--net=/proc/%d/ns/net", g.portmap.Process.Pid), "--", name}, args...)...)
}

// start starts the server and waits until it answers.
func (g *ganesha) start() {
	g.t.Helper()
	g.server = g.inside(context.Background(), g.path("ganesha.nfsd"), "-F", "-L", g.path("log"), "-f", g.path("ganesha.conf"), "-p", g.path("pid"))
	if err := g.server.Start(); err != nil {
		g.t.Fatal(err)
	}
	eventually(g.t, 60*time.Second, func() error {
		_, err := g.nfs3().mount(export)
		if err != nil && g.server.Process.Signal(syscall.Signal(0)) != nil {
			g.t.Fatalf("ganesha ended: %s", g.log())
		}
		return err
	})
}

// stop stops the server as its service does. Clients keep trying.
func (g *ganesha) stop() {
	g.t.Helper()
	if err := g.server.Process.Signal(unix.SIGTERM); err != nil {
		g.t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { _ = g.server.Process.Kill() })
	defer timer.Stop()
	err := g.server.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		g.t.Fatal(err)
	}
	g.server = nil
}

// end leaves nothing running; the zone unmounts after it.
func (g *ganesha) end() {
	for _, cmd := range []*exec.Cmd{g.server, g.portmap} {
		if cmd != nil && cmd.Process != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	if g.t.Failed() {
		g.t.Logf("ganesha's log ends:\n%s", g.log())
	}
}

func (g *ganesha) log() string {
	text, _ := os.ReadFile(g.path("log"))
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// nfs3 is a client that knows no handles yet.
func (g *ganesha) nfs3() *nfs3 { return &nfs3{g: g} }

// holds says whether the server has a file of the mount open.
func (g *ganesha) holds(name string) bool {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", g.server.Process.Pid))
	for _, link := range links {
		if to, _ := os.Readlink(link); to == g.z.path(name) {
			return true
		}
	}
	return false
}

// url is how libnfs calls a path below the export. It reconnects as a hard mount.
func (g *ganesha) url(version int, name string) string {
	return fmt.Sprintf("nfs://127.0.0.1%s/%s?version=%d&autoreconnect=-1", export, name, version)
}

// run runs a program of libnfs-utils and returns what it printed.
func (g *ganesha) run(name string, args ...string) string {
	g.t.Helper()
	need(g.t, name, "libnfs-utils")
	ctx, cancel := context.WithTimeout(g.t.Context(), commandTime)
	defer cancel()
	cmd := g.inside(ctx, name, args...)
	var out, text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &text
	if err := cmd.Run(); err != nil {
		g.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, &text)
	}
	return out.String()
}
