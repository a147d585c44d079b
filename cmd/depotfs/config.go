package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"depotfs/cache/journal"
)

// loadConfig makes the Config of a mount: flag, else environment, else file,
// else default. given holds the flags that were set. Every mistake is a
// usageError that says what to do.
func loadConfig(given map[string]string, lookupEnv func(string) (string, bool)) (Config, error) {
	c := Config{origin: map[string]string{}}
	cwd, err := os.Getwd()
	if err != nil {
		cwd = "/"
	}
	set := func(o *option, text, dir, label, origin string) error {
		if err := o.at(&c).set(text, dir); err != nil {
			return usagef("%s: %v", label, err)
		}
		c.origin[o.name] = origin
		return nil
	}
	for i := range options {
		o := &options[i]
		c.origin[o.name] = "default"
		if o.fixed == "" {
			continue
		}
		if err := set(o, o.fixed, cwd, o.name, "default"); err != nil {
			return c, fmt.Errorf("default of %w", err)
		}
	}
	fromAbove := func(o *option) error { // the environment, then the flag over it
		if o.only == onlyFile {
			return nil
		}
		if text, ok := lookupEnv(o.envName()); ok && text != "" {
			if err := set(o, text, cwd, "environment "+o.envName(), "environment "+o.envName()); err != nil {
				return err
			}
		}
		if text, ok := given[o.name]; ok {
			return set(o, text, cwd, "--"+o.name, "flag --"+o.name)
		}
		return nil
	}
	if err := fromAbove(&options[0]); err != nil { // config itself comes first
		return c, err
	}
	if c.File != "" {
		settings, err := readConfigFile(c.File)
		if err != nil {
			return c, err
		}
		for _, s := range settings {
			label := fmt.Sprintf("config file %s:%d: %s", filepath.Base(c.File), s.line, s.option.fileKey())
			if err := set(s.option, s.text, filepath.Dir(c.File), label, fmt.Sprintf("file %s:%d", c.File, s.line)); err != nil {
				return c, err
			}
		}
	}
	for i := range options[1:] {
		if err := fromAbove(&options[1+i]); err != nil {
			return c, err
		}
	}
	c.fillIn(lookupEnv)
	return c, nil
}

// fillIn computes the defaults that depend on other things.
func (c *Config) fillIn(lookupEnv func(string) (string, bool)) {
	byDefault := func(name string) bool { return c.origin[name] == "default" }
	env := func(name string) string { text, _ := lookupEnv(name); return text }
	root := os.Geteuid() == 0
	if byDefault("zone") {
		if host, err := os.Hostname(); err == nil {
			c.Zone, c.origin["zone"] = host, "default (the host's name)"
		}
	}
	if byDefault("state-dir") {
		switch {
		case root:
			c.StateDir = filepath.Join("/var/lib/depotfs", c.Zone)
		case filepath.IsAbs(env("XDG_STATE_HOME")):
			c.StateDir = filepath.Join(env("XDG_STATE_HOME"), "depotfs", c.Zone)
		case filepath.IsAbs(env("HOME")):
			c.StateDir = filepath.Join(env("HOME"), ".local/state/depotfs", c.Zone)
		}
	}
	if byDefault("log-file") && c.StateDir != "" && !c.Foreground {
		c.LogFile = filepath.Join(c.StateDir, "depotfs.log")
	}
	if byDefault("allow-other") && root {
		c.AllowOther, c.origin["allow-other"] = true, "default (root)"
	}
	if byDefault("region") {
		c.Region = "us-east-1"
		for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
			if text := env(name); text != "" {
				c.Region, c.origin["region"] = text, "environment "+name
				break
			}
		}
	}
	c.fillStore()
	c.Prefix = strings.TrimLeft(c.Prefix, "/")
	if c.Prefix != "" && !strings.HasSuffix(c.Prefix, "/") {
		c.Prefix += "/"
	}
}

// fillStore computes what follows from the store's settings. unfillStore undoes it.
func (c *Config) fillStore() {
	c.givenEndpoint = c.Endpoint
	if c.Endpoint != "" {
		if !strings.Contains(c.Endpoint, "://") {
			scheme := "http://"
			if c.UseHTTPS {
				scheme = "https://"
			}
			c.Endpoint = scheme + c.Endpoint
		}
		c.Endpoint = strings.TrimSuffix(c.Endpoint, "/")
		if c.origin["path-style"] == "default" {
			c.PathStyle, c.origin["path-style"] = true, pathStyleForEndpoint
		}
	}
}

const pathStyleForEndpoint = "default (endpoint is set)"

func (c *Config) unfillStore() {
	c.Endpoint = c.givenEndpoint
	if c.origin["path-style"] == pathStyleForEndpoint {
		c.PathStyle, c.origin["path-style"] = false, "default"
	}
}

var (
	bucketName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]$`)
	regionName = regexp.MustCompile(`^[A-Za-z0-9-]{1,63}$`)
)

// Parts of a multipart upload have these limits in S3.
const (
	minPartSize = 5 << 20
	maxPartSize = 5 << 30
)

// validate finds what cannot work, without touching disk or network.
func (c *Config) validate() error {
	switch {
	case c.CacheDir == "":
		return usagef("no cache directory: name the directory that holds the files with --cache-dir DIR")
	case !journal.ValidZone(c.Zone):
		return usagef("--zone %q: a zone is named by up to 63 letters, digits, dots, dashes and underscores", c.Zone)
	case c.StateDir == "":
		return usagef("no state directory: name a directory on a local disk with --state-dir DIR")
	case strings.HasPrefix(c.Bucket, "s3:") || strings.Contains(c.Bucket, "/"):
		return usagef("--bucket %q: name the bucket alone; a path in it goes to --prefix, a server to --endpoint", c.Bucket)
	case c.Bucket != "" && !bucketName.MatchString(c.Bucket):
		return usagef("--bucket %q is no bucket name: 3 to 255 letters, digits, dots and dashes", c.Bucket)
	case !regionName.MatchString(c.Region):
		return usagef("--region %q is no region name, such as us-east-1", c.Region)
	case (c.AccessKey == "") != (c.SecretKey == ""):
		return usagef("s3.access-key and s3.secret-key go together: set both or neither")
	case c.SessionToken != "" && c.AccessKey == "":
		return usagef("s3.session-token goes with s3.access-key and s3.secret-key: set all three")
	case !c.AllowOther && os.Geteuid() == 0:
		return usagef("--allow-other cannot be false for root: what root mounts is for all users, as their permissions allow")
	case c.PartSize < minPartSize || c.PartSize > maxPartSize:
		return usagef("--part-size %s: S3 allows 5MiB to 5GiB", exactSize(c.PartSize))
	case c.Capacity <= 0:
		return usagef("--capacity must be larger than 0")
	}
	if err := validEndpoint(c.Endpoint); err != nil {
		return err
	}
	if err := c.validEvents(); err != nil {
		return err
	}
	return validPrefix(c.Prefix)
}

// validEndpoint never repeats what it was given where that may hold a password.
func validEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.User != nil {
		return usagef("--endpoint is no URL of a server: write it like https://s3.example.com:9000, without user and password")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.ContainsFunc(u.Host, unicode.IsSpace) {
		return usagef("--endpoint %q is no URL of a server: write it like https://s3.example.com:9000", endpoint)
	}
	if u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return usagef("--endpoint %q: name the server alone; the bucket goes to --bucket, a path in it to --prefix", endpoint)
	}
	return nil
}

func validPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	if len(prefix) > 512 || !utf8.ValidString(prefix) || strings.ContainsFunc(prefix, unicode.IsControl) {
		return usagef("--prefix: up to 512 bytes of UTF-8 without control characters")
	}
	for part := range strings.SplitSeq(strings.TrimSuffix(prefix, "/"), "/") {
		if part == "" || part == "." || part == ".." || part == ".depotfs" {
			return usagef("--prefix %q: %q cannot be a part of it", prefix, part)
		}
	}
	return nil
}

// strayEnvironment names DEPOTFS_ variables that look like a slip of the pen.
func strayEnvironment(environ []string) []string {
	var known, stray []string
	for i := range options {
		if options[i].only != onlyFile {
			known = append(known, strings.ToLower(options[i].name))
		}
	}
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		short, ours := strings.CutPrefix(name, "DEPOTFS_")
		short = strings.ToLower(strings.ReplaceAll(short, "_", "-"))
		if meant := suggest(short, known); ours && meant != "" && meant != short {
			stray = append(stray, fmt.Sprintf("environment %s is not used: did you mean DEPOTFS_%s?",
				name, strings.ToUpper(strings.ReplaceAll(meant, "-", "_"))))
		}
	}
	return stray
}
