package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func noEnv(string) (string, bool) { return "", false }

func fakeEnv(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { text, ok := vars[name]; return text, ok }
}

func writeConfig(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "depotfs.yaml")
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestPrecedence(t *testing.T) {
	file := writeConfig(t, "zone: from-file\ncache-size: 1GiB\n", 0o600)
	for _, tt := range []struct {
		name       string
		flags, env map[string]string
		zone, from string
	}{
		{name: "flag over all", flags: map[string]string{"zone": "from-flag", "config": file}, env: map[string]string{"DEPOTFS_ZONE": "from-env"}, zone: "from-flag", from: "flag --zone"},
		{name: "environment over file", flags: map[string]string{"config": file}, env: map[string]string{"DEPOTFS_ZONE": "from-env"}, zone: "from-env", from: "environment DEPOTFS_ZONE"},
		{name: "file over default", flags: map[string]string{"config": file}, zone: "from-file", from: "file " + file + ":1"},
		{name: "file named by the environment", env: map[string]string{"DEPOTFS_CONFIG": file}, zone: "from-file", from: "file " + file + ":1"},
		{name: "an empty variable is none", flags: map[string]string{"config": file}, env: map[string]string{"DEPOTFS_ZONE": ""}, zone: "from-file", from: "file " + file + ":1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := loadConfig(tt.flags, fakeEnv(tt.env))
			if err != nil {
				t.Fatal(err)
			}
			if cfg.Zone != tt.zone || cfg.origin["zone"] != tt.from {
				t.Errorf("zone %q from %q, want %q from %q", cfg.Zone, cfg.origin["zone"], tt.zone, tt.from)
			}
			if cfg.UploadFiles != 4 || cfg.origin["upload-files"] != "default" {
				t.Errorf("upload-files %d from %q, want the default 4", cfg.UploadFiles, cfg.origin["upload-files"])
			}
		})
	}
}

// Every row of the table can be set from every place that it allows.
func TestEveryOptionIsReadFromEverywhere(t *testing.T) {
	sample := map[string]string{"deploy": "beside", "share-deletes": "restore", "brake": "4,20%,30,5m", "deletes": "template=origin,snapshot=global", "passthrough": "off", "log-format": "json", "log-level": "debug", "list-interval": "11m"}
	for i := range options {
		o := &options[i]
		if o.name == "config" {
			continue
		}
		t.Run(o.name, func(t *testing.T) {
			text := sample[o.name]
			switch o.at(&Config{}).(type) {
			case boolValue:
				text = "true"
				if o.fixed == "true" {
					text = "false"
				}
			case countValue:
				text = "7"
			case sizeValue:
				text = "6MiB"
			case durationValue, optionalDuration:
				if text == "" {
					text = "7s"
				}
			case pathValue:
				text = "/tmp/x"
			case textValue, secretValue:
				text = "word"
			}
			places := map[string]func() (Config, error){}
			if o.only != onlyFile {
				places["flag"] = func() (Config, error) { return loadConfig(map[string]string{o.name: text}, noEnv) }
				places["environment"] = func() (Config, error) {
					return loadConfig(nil, fakeEnv(map[string]string{o.envName(): text}))
				}
			}
			if o.only != onlyCommand {
				file := writeConfig(t, o.fileKey()+": "+text+"\n", 0o600)
				places["file"] = func() (Config, error) { return loadConfig(map[string]string{"config": file}, noEnv) }
			}
			for place, load := range places {
				cfg, err := load()
				if err != nil {
					t.Fatalf("%s: %v", place, err)
				}
				if !strings.HasPrefix(cfg.origin[o.name], place) {
					t.Errorf("%s: came from %q", place, cfg.origin[o.name])
				}
				want := text
				if o.isSecret() {
					want = masked
				} else if strings.HasSuffix(o.name, "-limit") {
					want += "/s"
				} else if o.name == "endpoint" {
					want = "https://word"
				} else if o.name == "prefix" {
					want = "word/"
				}
				if got := o.at(&cfg).show(); got != want {
					t.Errorf("%s: shows %q, want %q", place, got, want)
				}
			}
		})
	}
}

func TestConfigMistakes(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		flags      map[string]string
		want       string
	}{
		{name: "unknown key", file: "zone: a\nbuket: b\n", want: `depotfs.yaml:2: unknown key "buket": did you mean bucket?`},
		{name: "unknown nested key", file: "s3:\n  buckett: b\n", want: `depotfs.yaml:2: unknown key "s3.buckett": did you mean s3.bucket?`},
		{name: "unknown without a guess", file: "frobnicate: 1\n", want: `unknown key "frobnicate": see depotfs mount --help`},
		{name: "twice under two names", file: "bucket: abc\ns3.bucket: abd\n", want: "depotfs.yaml:2: s3.bucket is set twice, first in line 1"},
		{name: "twice nested", file: "s3: {bucket: abc}\ns3.bucket: abd\n", want: "set twice"},
		{name: "no value", file: "zone:\n", want: "depotfs.yaml:1: zone needs one value"},
		{name: "a list", file: "zone: [a, b]\n", want: "zone needs one value"},
		{name: "no mapping", file: "- a\n", want: "expected lines of the form `name: value`"},
		{name: "no YAML", file: "zone: a\n\tbucket: [\n", want: "this is not valid YAML"},
		{name: "two documents", file: "zone: a\n---\nzone: b\n", want: "more than one document"},
		{name: "command line only", file: "foreground: true\n", want: "can only be given on the command line, as --foreground"},
		{name: "bad value in file", file: "\ncache-size: many\n", want: `depotfs.yaml:2: cache-size: "many" is no size: write it like 500GiB or 1.5TB`},
		{name: "bad duration", flags: map[string]string{"cold-timeout": "20"}, want: `--cold-timeout: "20" is no duration: write it with its unit`},
		{name: "bad choice", flags: map[string]string{"deploy": "besides"}, want: `--deploy: "besides" is none of gateway, beside`},
		{name: "zero uploads", flags: map[string]string{"upload-files": "0"}, want: "no whole number from 1"},
		{name: "negative size", flags: map[string]string{"cache-size": "-1"}, want: "is no size"},
		{name: "no cache directory", flags: map[string]string{}, want: "--cache-dir DIR"},
		{name: "URL as bucket", flags: map[string]string{"cache-dir": "/c", "bucket": "s3://b/p"}, want: "name the bucket alone"},
		{name: "short bucket", flags: map[string]string{"cache-dir": "/c", "bucket": "b"}, want: "is no bucket name"},
		{name: "endpoint scheme", flags: map[string]string{"cache-dir": "/c", "endpoint": "ftp://h"}, want: `--endpoint "ftp://h" is no URL of a server`},
		{name: "endpoint port", flags: map[string]string{"cache-dir": "/c", "endpoint": "http://h:port"}, want: "--endpoint is no URL of a server"},
		{name: "endpoint with bucket", flags: map[string]string{"cache-dir": "/c", "endpoint": "http://h/b"}, want: "name the server alone"},
		{name: "prefix leads out", flags: map[string]string{"cache-dir": "/c", "prefix": "a/../b"}, want: `".." cannot be a part`},
		{name: "private prefix", flags: map[string]string{"cache-dir": "/c", "prefix": "a/.depotfs"}, want: `".depotfs" cannot be a part`},
		{name: "half a pair of keys", file: "cache-dir: /c\ns3.access-key: AKIA\n", want: "set both or neither"},
		{name: "zone with a slash", flags: map[string]string{"cache-dir": "/c", "zone": "a/b"}, want: `--zone "a/b"`},
		{name: "events for everybody", flags: map[string]string{"cache-dir": "/c", "events-listen": ":9400"}, want: "--events-listen :9400 can be reached by others: set events-secret"},
		{name: "events at a name", flags: map[string]string{"cache-dir": "/c", "events-listen": "gw:9400"}, want: "can be reached by others"},
		{name: "events without a port", flags: map[string]string{"cache-dir": "/c", "events-listen": "127.0.0.1"}, want: "is no address: write it like 10.1.0.5:9400"},
		{name: "events at port 0", flags: map[string]string{"cache-dir": "/c", "events-listen": "127.0.0.1:0"}, want: "name a port from 1 to 65535"},
		{name: "events at a port with a name", flags: map[string]string{"cache-dir": "/c", "events-listen": "127.0.0.1:http"}, want: "name a port from 1 to 65535"},
		{name: "a short secret", file: "cache-dir: /c\nevents-secret: hush\n", want: "events-secret: 16 to 1024 letters"},
		{name: "a secret of words", file: "cache-dir: /c\nevents-secret: correct horse battery staple\n", want: "events-secret: 16 to 1024 letters"},
		{name: "missing file", flags: map[string]string{"config": "/does/not/exist.yaml"}, want: "config file: open /does/not/exist.yaml"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			flags := map[string]string{}
			for k, v := range tt.flags {
				flags[k] = v
			}
			if tt.file != "" {
				flags["config"] = writeConfig(t, tt.file, 0o600)
			}
			cfg, err := loadConfig(flags, noEnv)
			if err == nil {
				err = cfg.validate()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want ...%s...", err, tt.want)
			}
			if exitCode(err) != exitUsage {
				t.Errorf("exit code %d, want 2", exitCode(err))
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %v", err)
			}
		})
	}
}

func TestConfigFileForms(t *testing.T) {
	for name, text := range map[string]string{
		"flat":          "s3.bucket: abc\ns3.connect-timeout: 7s\n",
		"nested":        "s3:\n  bucket: abc\n  connect-timeout: 7s\n",
		"flag names":    "bucket: abc\nconnect-timeout: 7s\n",
		"with comments": "# depot\nbucket: \"abc\" # quoted\nconnect-timeout: 7s\n",
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := loadConfig(map[string]string{"config": writeConfig(t, text, 0o644)}, noEnv)
			if err != nil {
				t.Fatal(err)
			}
			if cfg.Bucket != "abc" || cfg.ConnectTimeout != 7*time.Second {
				t.Errorf("got bucket %q, connect-timeout %v", cfg.Bucket, cfg.ConnectTimeout)
			}
		})
	}
	for _, text := range []string{"", "# nothing\n", "---\n", "null\n"} {
		if _, err := loadConfig(map[string]string{"config": writeConfig(t, text, 0o600)}, noEnv); err != nil {
			t.Errorf("empty file %q: %v", text, err)
		}
	}
}

func TestRelativePaths(t *testing.T) {
	file := writeConfig(t, "cache-dir: cache\n", 0o600)
	cfg, err := loadConfig(map[string]string{"config": file, "state-dir": "state"}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	cwd, _ := os.Getwd()
	if want := filepath.Join(filepath.Dir(file), "cache"); cfg.CacheDir != want {
		t.Errorf("in the file: %s, want %s (beside the file)", cfg.CacheDir, want)
	}
	if want := filepath.Join(cwd, "state"); cfg.StateDir != want {
		t.Errorf("on the command line: %s, want %s (from here)", cfg.StateDir, want)
	}
}

func TestComputedDefaults(t *testing.T) {
	cfg, err := loadConfig(map[string]string{"zone": "z1", "endpoint": "store:9000", "use-https": "false", "prefix": "/depot"}, fakeEnv(map[string]string{"AWS_REGION": "eu-1"}))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Endpoint != "http://store:9000" || !cfg.PathStyle || cfg.Region != "eu-1" || cfg.Prefix != "depot/" || cfg.Settle != nil {
		t.Errorf("got endpoint %q, path style %v, region %q, prefix %q, settle %v", cfg.Endpoint, cfg.PathStyle, cfg.Region, cfg.Prefix, cfg.Settle)
	}
	if filepath.Base(cfg.StateDir) != "z1" || cfg.LogFile != filepath.Join(cfg.StateDir, "depotfs.log") {
		t.Errorf("got state directory %q, log %q", cfg.StateDir, cfg.LogFile)
	}
	cfg, err = loadConfig(map[string]string{"settle": "0s"}, noEnv)
	if err != nil || cfg.Settle == nil || *cfg.Settle != 0 {
		t.Errorf("settle 0s: got %v, %v", cfg.Settle, err)
	}
}

func TestSecretsOfReadableFilesAreRefused(t *testing.T) {
	const text = "s3.access-key: AKIDEXAMPLE\ns3.secret-key: hush-hush\n"
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o640: false, 0o604: false, 0o644: false} {
		name := writeConfig(t, text, mode)
		_, err := loadConfig(map[string]string{"config": name}, noEnv)
		if ok != (err == nil) {
			t.Errorf("mode %o: got %v", mode, err)
		}
		if err != nil && !strings.Contains(err.Error(), "chmod 600 "+name) {
			t.Errorf("mode %o: %v does not say what to do", mode, err)
		}
	}
}

func TestSecretsShowInNoOutput(t *testing.T) {
	const hush = "wJalrXUtnFEMI"
	cfg, err := loadConfig(map[string]string{"config": writeConfig(t, "s3:\n  access-key: "+hush+"1\n  secret-key: "+hush+"2\n", 0o600)}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	if string(cfg.SecretKey) != hush+"2" {
		t.Fatal("the secret did not arrive")
	}
	var out bytes.Buffer
	_ = printJSON(&out, cfg)
	_ = printJSON(&out, cfg.settings())
	fmt.Fprintf(&out, "%v %+v %#v %s %q %x", cfg, cfg, cfg, cfg.SecretKey, cfg.SecretKey, cfg.SecretKey)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "cfg", cfg, "key", cfg.SecretKey)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "cfg", cfg, "key", cfg.SecretKey)
	if strings.Contains(out.String(), hush) || strings.Contains(out.String(), fmt.Sprintf("%x", hush)) {
		t.Errorf("the secret shows in:\n%s", out.String())
	}
	for _, s := range cfg.settings() {
		if strings.HasPrefix(s.Key, "s3.") && strings.HasSuffix(s.Key, "-key") && s.Text != masked {
			t.Errorf("%s shows %q, want %s", s.Key, s.Text, masked)
		}
	}
}

func TestExactSizeReadsBack(t *testing.T) {
	for _, n := range []int64{0, 1, 1023, 1024, 1536, 500 << 30, 1 << 50, 123456789} {
		var back int64
		if err := (sizeValue{p: &back}).set(exactSize(n), ""); err != nil || back != n {
			t.Errorf("%d shows as %s, reads back as %d (%v)", n, exactSize(n), back, err)
		}
	}
}

func TestStrayEnvironment(t *testing.T) {
	got := strayEnvironment([]string{"DEPOTFS_BUKET=x", "DEPOTFS_ZONE=z", "DEPOTFS_TEST_TOOLS=/x", "HOME=/root", "DEPOTFS_CACHEDIR=/c"})
	want := []string{"environment DEPOTFS_BUKET is not used: did you mean DEPOTFS_BUCKET?", "environment DEPOTFS_CACHEDIR is not used: did you mean DEPOTFS_CACHE_DIR?"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Whatever a file holds: no crash, an error of one line, and never a secret in
// what is shown. The secret stands where secrets stand and where people
// misplace them.
func FuzzConfigFile(f *testing.F) {
	const hush = "QyzzySecretQ7"
	for _, form := range []string{
		"s3.secret-key: %s\n", "s3:\n  secret-key: '%s'\n", "s3.secret-key=%s\n", "s3.secret-key=%s: 1\n",
		"s3.secret-key: *%s\n", "s3.secret-key: &%s\n", "s3.secret-key: !%s x\n", "s3.secret-key: [%s]\n", "s3.secret-key: {%s: 1}\n",
		"s3.secret-key: \"%s\n", "s3.secret-key: |\n %s\n  x\n y\n", "? %s\n: 1\n", "%%YAML %s\n", "s3.secret-key %s\nzone: a",
	} {
		f.Add([]byte(fmt.Sprintf(form, hush)))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		settings, err := parseConfigFile("f.yaml", text)
		if err != nil {
			if strings.Contains(err.Error(), hush) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("the error is %q", err)
			}
			var usage *usageError
			if !errors.As(err, &usage) {
				t.Fatalf("%v is no usage error", err)
			}
			return
		}
		c := Config{origin: map[string]string{}}
		for _, s := range settings {
			if !s.option.isSecret() {
				continue
			}
			if err := s.option.at(&c).set(s.text, "/"); err != nil && strings.Contains(err.Error(), hush) {
				t.Fatal(err)
			}
		}
		shown, err := json.Marshal(c.settings())
		if err != nil || strings.Contains(string(shown), hush) {
			t.Fatalf("%v: %s", err, shown)
		}
	})
}

func TestPrintableKey(t *testing.T) {
	for name, want := range map[string]string{
		"buket":              "buket",
		"Bucket":             "Bucket",
		"s3.secret-key=hush": "s3.secret-key...",
		"AKIAIOSFODNN7":      "...",
		"frobnicate":         "frobnicate",
	} {
		if got := printableKey(name); got != want {
			t.Errorf("%q shows as %q, want %q", name, got, want)
		}
	}
}
