package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// keys are the store's credentials, made for this run.
type keys struct{ access, secret string }

func (k keys) env() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + k.access, "AWS_SECRET_ACCESS_KEY=" + k.secret, "AWS_REGION=us-east-1"}
}

// server is the embedded store.
type server struct {
	*process
	keys
	dir     string
	address string // 127.0.0.1:port
}

// buckets of the run: local files and cold ones do not see each other.
const (
	localBucket = "local"
	coldBucket  = "cold"
)

func startServer(ctx context.Context, program, dir string) (*server, error) {
	s := &server{keys: keys{"bench" + rand.Text()[:12], rand.Text() + rand.Text()}, dir: filepath.Join(dir, "buckets")}
	for _, bucket := range []string{localBucket, coldBucket} {
		if err := os.MkdirAll(filepath.Join(s.dir, bucket), 0o755); err != nil {
			return nil, err
		}
	}
	var err error
	s.process, err = startProcess(filepath.Join(dir, "store.log"), s.env(), program, "--dir", s.dir, "--listen", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the embedded store: %w", err)
	}
	err = s.until(ctx, "it listens", func() bool {
		text, _ := os.ReadFile(s.log)
		_, after, ok := strings.Cut(string(text), "listening on http://")
		s.address, _, _ = strings.Cut(after, " ")
		return ok && strings.Contains(after, " ")
	})
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}
