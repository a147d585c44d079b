package s3store_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"depotfs/s3store"
)

func TestValidate(t *testing.T) {
	good := s3store.Config{Bucket: "depot", Endpoint: "store.example:9000", AccessKey: "ak", SecretKey: "sk"}
	for _, c := range []struct {
		name   string
		change func(*s3store.Config)
		want   string // in the message; "" = valid
	}{
		{"good", func(c *s3store.Config) {}, ""},
		{"default", func(c *s3store.Config) { b := c.Bucket; *c = s3store.DefaultConfig(); c.Bucket = b }, ""},
		{"endpoint with scheme", func(c *s3store.Config) { c.Endpoint = "http://[::1]:9000" }, ""},
		{"endpoint with path", func(c *s3store.Config) { c.Endpoint = "https://store.example/s3/" }, ""},
		{"no bucket", func(c *s3store.Config) { c.Bucket = "" }, "bucket: no name"},
		{"bucket as URL", func(c *s3store.Config) { c.Bucket = "s3://depot" }, "no bucket name"},
		{"bucket as path", func(c *s3store.Config) { c.Bucket = "depot/prefix" }, "no bucket name"},
		{"scheme", func(c *s3store.Config) { c.Endpoint = "ftp://store.example" }, "neither http nor https"},
		{"no host", func(c *s3store.Config) { c.Endpoint = "https://" }, "no host"},
		{"query", func(c *s3store.Config) { c.Endpoint = "store.example?x=1" }, "must end after the host"},
		{"password", func(c *s3store.Config) { c.Endpoint = "https://me:hunter2@store.example" }, "must not hold a user"},
		{"region", func(c *s3store.Config) { c.Region = "eu west" }, "no region name"},
		{"half a key", func(c *s3store.Config) { c.SecretKey = "" }, "set both"},
		{"token alone", func(c *s3store.Config) { c.AccessKey, c.SecretKey, c.SessionToken = "", "", "t" }, "only with an access key"},
		{"line end", func(c *s3store.Config) { c.SecretKey = "sk\n" }, "line ends"},
		{"negative time", func(c *s3store.Config) { c.SocketTimeout = -1 }, "must not be negative"},
		{"threshold", func(c *s3store.Config) { c.CopyPartThreshold = 1 }, "copy part threshold"},
		{"limit", func(c *s3store.Config) { c.UploadLimit = -1 }, "transfer limits"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := good
			c.change(&cfg)
			err := cfg.Validate()
			switch {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want a word of %q", err, c.want)
			case err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "sk\n")):
				t.Errorf("a secret is in %q", err)
			}
			if _, newErr := s3store.New(cfg); (newErr == nil) != (err == nil) {
				t.Errorf("New answers %v, Validate %v", newErr, err)
			}
		})
	}
}

func TestSecretIsHidden(t *testing.T) {
	const secret = "wJalrXUtnFEMI/K7MDENG"
	cfg := s3store.Config{Bucket: "b", AccessKey: secret, SecretKey: secret, SessionToken: secret}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&out, verb+verb+verb+"\n", cfg.SecretKey, cfg, &cfg)
	}
	fmt.Fprintln(&out, fmt.Errorf("with %w and %v", fmt.Errorf("%v", cfg), []s3store.Secret{secret}), map[string]any{"k": cfg.AccessKey})
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(text)
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("settings", "cfg", cfg, "key", cfg.SecretKey)
	}
	for _, form := range []string{secret, fmt.Sprintf("%x", secret), "wJalr", "K7MDENG"} {
		if strings.Contains(out.String(), form) {
			t.Errorf("%q shows in\n%s", form, &out)
		}
	}
	if string(cfg.SecretKey) != secret {
		t.Error("the plain text is lost")
	}
}
