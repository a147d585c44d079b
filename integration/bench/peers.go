package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// peer is another file system, mounted by a child process. Its version of "cold" is
// a new mount with an empty cache.
type peer struct {
	dir   string // holds mnt, cache and the log
	mnt   string
	start func(p *peer) (*process, error)
	proc  *process
}

func newPeer(dir string, start func(p *peer) (*process, error)) (*peer, error) {
	p := &peer{dir: dir, mnt: filepath.Join(dir, "mnt"), start: start}
	return p, os.MkdirAll(p.mnt, 0o755)
}

func (p *peer) cache() string { return filepath.Join(p.dir, "cache") }
func (p *peer) log() string   { return filepath.Join(p.dir, "log") }

func (p *peer) mount(ctx context.Context) (err error) {
	if err := os.MkdirAll(p.cache(), 0o755); err != nil {
		return err
	}
	spread(p.cache())
	if p.proc, err = p.start(p); err != nil {
		return err
	}
	return p.proc.until(ctx, "it has mounted", func() bool { return isMount(p.mnt) })
}

func (p *peer) stop() error {
	if p.proc == nil {
		return nil
	}
	unmount(p.mnt)
	_ = p.proc.stop() // a peer that had to be killed is gone too
	if isMount(p.mnt) {
		unmount(p.mnt)
	}
	p.proc = nil
	return nil
}

// remount empties its cache.
func (p *peer) remount(ctx context.Context) error {
	if err := p.stop(); err != nil {
		return err
	}
	if err := os.RemoveAll(p.cache()); err != nil {
		return err
	}
	return p.mount(ctx)
}

// loopback is go-fuse's own loopback over the peer's cache directory.
func loopback(program string, passthrough bool) func(*peer) (*process, error) {
	return func(p *peer) (*process, error) {
		return startProcess(p.log(), nil, program, fmt.Sprintf("-passthrough=%t", passthrough), p.cache(), p.mnt)
	}
}

// rclone keeps whole files in a cache directory, as depotfs does. In rows of local
// files it is told to wait with uploads, so that they measure local files.
func rclone(at keys, endpoint, bucket string) func(*peer) (*process, error) {
	wait := "0s"
	if bucket == localBucket {
		wait = "24h"
	}
	return func(p *peer) (*process, error) {
		env := append(at.env(), "RCLONE_CONFIG="+os.DevNull, "RCLONE_S3_PROVIDER=Other", "RCLONE_S3_ENDPOINT="+endpoint,
			"RCLONE_S3_ENV_AUTH=true", "RCLONE_S3_REGION=us-east-1",
			"AWS_CA_BUNDLE=") // its SDK refuses to start where one is set; the store here speaks HTTP
		args := []string{"mount", ":s3:" + bucket, p.mnt, "--cache-dir", p.cache(), "--vfs-cache-mode", "full", "--vfs-write-back", wait}
		if os.Geteuid() == 0 {
			args = append(args, "--allow-other")
		}
		return startProcess(p.log(), env, "rclone", args...)
	}
}

// s3fs uploads when a file is closed; it has no other way.
func s3fs(at keys, endpoint, bucket string) func(*peer) (*process, error) {
	return func(p *peer) (*process, error) {
		args := []string{bucket, p.mnt, "-f", "-o", "url=" + endpoint, "-o", "use_path_request_style", "-o", "use_cache=" + p.cache()}
		if os.Geteuid() == 0 {
			args = append(args, "-o", "allow_other")
		}
		return startProcess(p.log(), append(at.env(), "AWSACCESSKEYID="+at.access, "AWSSECRETACCESSKEY="+at.secret), "s3fs", args...)
	}
}

// geesefs keeps what it reads in memory, and on the disk what it is told to.
func geesefs(at keys, endpoint, bucket string) func(*peer) (*process, error) {
	return func(p *peer) (*process, error) {
		args := []string{"--endpoint", endpoint, "--region", "us-east-1", "--cache", p.cache(), "-f"}
		if os.Geteuid() == 0 {
			args = append(args, "-o", "allow_other")
		}
		return startProcess(p.log(), at.env(), "geesefs", append(args, bucket, p.mnt)...)
	}
}
