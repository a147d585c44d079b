package share

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// MountWarnings says which options of the mount that the share is on hide what
// other machines do there, or lose data, and what to do about each. It is empty
// for local file systems, and where the mount cannot be found out.
func (s *Share) MountWarnings() []string {
	m, err := findMount(s.fd)
	if err != nil {
		s.log.Debug("cannot tell how the share is mounted", "dir", s.dir, "err", err)
		return nil
	}
	return m.warnings()
}

// mount is one line of /proc/self/mountinfo, as far as we need it.
type mount struct {
	point  string
	fsType string
	opts   map[string]string // of the mount and of the file system; "" for flags
}

// findMount finds the mount that an open directory is on.
func findMount(fd int) (mount, error) {
	info, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return mount{}, err
	}
	id := ""
	for line := range strings.Lines(string(info)) {
		if rest, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			id = strings.TrimSpace(rest)
		}
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return mount{}, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20) // overlays name all their layers in one line
	for lines.Scan() {
		if m, ok := parseMount(lines.Text(), id); ok {
			return m, nil
		}
	}
	if err := lines.Err(); err != nil {
		return mount{}, err
	}
	return mount{}, fmt.Errorf("no mount with id %q", id)
}

// parseMount reads a line of mountinfo if it is that of mount id: "id parent dev
// root point options [tags] - type source superoptions".
func parseMount(line, id string) (mount, bool) {
	left, right, ok := strings.Cut(line, " - ")
	a, b := strings.Fields(left), strings.Fields(right)
	if !ok || len(a) < 6 || len(b) < 3 || a[0] != id {
		return mount{}, false
	}
	m := mount{point: unescapeMount(a[4]), fsType: b[0], opts: make(map[string]string)}
	for opt := range strings.SplitSeq(a[5]+","+b[2], ",") {
		name, value, _ := strings.Cut(opt, "=")
		m.opts[name] = value
	}
	return m, true
}

// unescapeMount undoes the octal escapes of blanks in mountinfo.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// longestCache is the attribute cache, in seconds, that the waiting times are
// made for: NFS's own default.
const longestCache = 60

func (m mount) warnings() []string {
	var out []string
	warn := func(opt, why, do string) {
		out = append(out, fmt.Sprintf("%s is mounted with %s: %s; %s", m.point, opt, why, do))
	}
	has := func(name string) bool { _, ok := m.opts[name]; return ok }
	over := func(name string) (string, bool) {
		n, err := strconv.Atoi(m.opts[name])
		return name + "=" + m.opts[name], err == nil && n > longestCache
	}
	cached := func(names ...string) {
		for _, name := range names {
			if opt, yes := over(name); yes {
				warn(opt, "changes that other machines make stay unseen for that many seconds", fmt.Sprintf("mount with %s=%d or less", name, longestCache))
			}
		}
	}
	soft := func() {
		for _, name := range []string{"soft", "softerr"} {
			if has(name) {
				warn(name, "writes that were acknowledged are lost when the server does not answer for a while", "mount with hard")
			}
		}
	}
	switch {
	case m.fsType == "nfs" || m.fsType == "nfs4":
		if has("nocto") {
			warn("nocto", "an open may show old content of files that other machines changed", "mount with cto")
		}
		cached("acregmax", "acdirmax", "acregmin", "acdirmin")
		soft()
		if local := m.opts["local_lock"]; local == "all" || local == "flock" {
			warn("local_lock="+local, "a second depotfs on another machine would not notice this one", "mount with local_lock=none, without nolock")
		}
	case m.fsType == "cifs" || m.fsType == "smb3":
		if m.opts["cache"] == "loose" {
			warn("cache=loose", "changes that other machines make are not seen while files are cached here", "mount with cache=strict")
		}
		cached("actimeo", "acregmax", "acdirmax")
		soft()
		if has("noserverino") {
			warn("noserverino", "inode numbers change, and every file looks changed after a restart", "mount with serverino")
		}
		if has("nobrl") {
			warn("nobrl", "a second depotfs on another machine would not notice this one", "mount without nobrl")
		}
		if has("nostrictsync") {
			warn("nostrictsync", "fsync does not reach the server's disk, and what was acknowledged can be lost", "mount without nostrictsync")
		}
	case m.fsType == "9p":
		if cache := m.opts["cache"]; cache != "" && cache != "none" {
			warn("cache="+cache, "changes made outside of this machine may never be seen", "mount with cache=none")
		}
	}
	return out
}
