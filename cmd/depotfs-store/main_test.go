package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// binary is the program under test, built once by TestMain.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "depotfs-store-test-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "depotfs-store")
	out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

const (
	testAccess = "TESTACCESSKEY"
	testSecret = "test-secret-key"
)

// process is a running depotfs-store.
type process struct {
	cmd    *exec.Cmd
	url    string
	stdout string        // what it printed up to its ready line
	ended  chan struct{} // closed when err is set
	err    error
	stderr *lockedBuffer
}

// lockedBuffer is written by the process's copier and read by the test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// testEnv is the environment without the developer's own keys.
func testEnv(more ...string) []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "AWS_") {
			env = append(env, v)
		}
	}
	return append(env, more...)
}

// start runs the program in dir on a free port and waits for its ready line.
func start(t *testing.T, dir string, env ...string) *process {
	t.Helper()
	if env == nil {
		env = []string{"AWS_ACCESS_KEY_ID=" + testAccess, "AWS_SECRET_ACCESS_KEY=" + testSecret}
	}
	p := &process{cmd: exec.Command(binary, "--dir", dir, "--listen", "127.0.0.1:0"), ended: make(chan struct{}), stderr: new(lockedBuffer)}
	p.cmd.Env = testEnv(env...)
	p.cmd.Stderr = p.stderr
	// An own pipe, not StdoutPipe: Wait must not race with the reading here.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p.cmd.Stdout = w
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	go func() { p.err = p.cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() { p.cmd.Process.Kill(); <-p.ended })
	r.SetReadDeadline(time.Now().Add(2 * time.Minute))
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		p.stdout += lines.Text() + "\n"
		if rest, ok := strings.CutPrefix(lines.Text(), "depotfs-store: listening on "); ok {
			p.url, _, _ = strings.Cut(rest, " ")
			return p
		}
	}
	t.Fatalf("no ready line: %v\nstdout: %s\nstderr: %s", lines.Err(), p.stdout, p.stderr)
	return nil
}

// end sends sig and waits for the process.
func (p *process) end(t *testing.T, sig syscall.Signal) error {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.ended:
		return p.err
	case <-time.After(2 * time.Minute):
		t.Fatalf("still running 2 minutes after %v", sig)
		return nil
	}
}

// client speaks to p, with one attempt per request.
func (p *process) client(access, secret string) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(p.url),
		UsePathStyle: true,
		Region:       "us-east-1",
		Credentials:  credentials.NewStaticCredentialsProvider(access, secret, ""),
		Retryer:      aws.NopRetryer{},
	})
}

func put(t *testing.T, c *s3.Client, bucket, key, body string) {
	t.Helper()
	_, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(body)})
	if err != nil {
		t.Fatalf("put %s/%s: %v", bucket, key, err)
	}
}

func get(ctx context.Context, c *s3.Client, bucket, key string) (string, error) {
	out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return "", err
	}
	defer out.Body.Close()
	b, err := io.ReadAll(out.Body)
	return string(b), err
}

// wantObject fails unless the object's bytes are want.
func wantObject(t *testing.T, c *s3.Client, bucket, key, want string) {
	t.Helper()
	got, err := get(t.Context(), c, bucket, key)
	if err != nil || got != want {
		t.Fatalf("get %s/%s: got %d bytes, %v; want %d bytes", bucket, key, len(got), err, len(want))
	}
}

// keys lists the bucket.
func keys(t *testing.T, c *s3.Client, bucket string) []string {
	t.Helper()
	out, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &bucket})
	if err != nil {
		t.Fatalf("list %s: %v", bucket, err)
	}
	var names []string
	for _, o := range out.Contents {
		names = append(names, *o.Key)
	}
	return names
}
