package s3test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Server is a running server.
type Server struct {
	Kind      Kind
	Endpoint  string // http://127.0.0.1:port
	Address   string // 127.0.0.1:port
	AccessKey string
	SecretKey string
	Dir       string // what it keeps its data in

	client  *s3.Client
	program string

	mu  sync.Mutex
	cmd *exec.Cmd     // guarded by mu; nil while stopped
	end chan struct{} // guarded by mu; closed when cmd has ended
	out *lockedBuffer
}

// startTime is how long a server may take to answer; a loaded machine is slow.
const startTime = 3 * time.Minute

// Start builds and starts a server with an empty directory and random keys,
// and waits until it answers a request. It is killed when the test ends.
func Start(t testing.TB, kind Kind) *Server {
	t.Helper()
	s := &Server{
		Kind: kind, program: Build(t, kind), Dir: t.TempDir(), out: &lockedBuffer{},
		AccessKey: "key" + rand.Text()[:12], SecretKey: rand.Text() + rand.Text(),
	}
	// The port is free when it was chosen; where somebody else takes it before
	// the server does, another one is tried.
	var err error
	for range 5 {
		s.Address = freeAddress(t)
		s.Endpoint = "http://" + s.Address
		s.client = s.newClient()
		if err = s.start(t.Context()); err == nil {
			break
		}
		s.Stop()
	}
	t.Cleanup(s.Stop)
	if err != nil {
		t.Fatalf("start %s: %v\n%s", kind.Name, err, s.out)
	}
	return s
}

func (s *Server) newClient() *s3.Client {
	return s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: &s.Endpoint, UsePathStyle: true, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
		HTTPClient:  &http.Client{Timeout: startTime},
	})
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start runs the program at s.Address and waits for its first answer.
func (s *Server) start(ctx context.Context) error {
	cmd := exec.Command(s.program, s.Kind.args(s.Address, s.Dir)...)
	cmd.Env = append(s.Kind.env(s.AccessKey, s.SecretKey), "HOME="+s.Dir, "PATH=/usr/bin:/bin")
	cmd.Stdout, cmd.Stderr = s.out, s.out
	// The server must not outlive a test binary that was killed. The signal is
	// bound to the thread that starts it, which Go keeps.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	end := make(chan struct{})
	go func() {
		cmd.Wait()
		close(end)
	}()
	s.mu.Lock()
	s.cmd, s.end = cmd, end
	s.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		_, err := s.client.ListBuckets(ctx, &s3.ListBucketsInput{})
		if err == nil {
			return nil
		}
		select {
		case <-end:
			return fmt.Errorf("it has ended: %s", s.out)
		case <-ctx.Done():
			return fmt.Errorf("no answer within %v: %w", startTime, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop kills the server, as a failing machine would. Its data stay.
func (s *Server) Stop() {
	s.mu.Lock()
	cmd, end := s.cmd, s.end
	s.cmd = nil
	s.mu.Unlock()
	if cmd != nil {
		cmd.Process.Kill()
		<-end
	}
}

// Restart starts a stopped server again, at the same address with the same data.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop()
	if err := s.start(t.Context()); err != nil {
		t.Fatalf("restart %s: %v", s.Kind.Name, err)
	}
}

// ChangeKeys starts the server again, with the same data and other keys: the former ones
// are refused from then on. Buckets have to be opened anew.
func (s *Server) ChangeKeys(t testing.TB) {
	t.Helper()
	s.Stop()
	s.AccessKey, s.SecretKey = "key"+rand.Text()[:12], rand.Text()+rand.Text()
	s.client = s.newClient()
	s.Restart(t)
}

// NewBucket makes a bucket with a name of its own.
func (s *Server) NewBucket(t testing.TB) string {
	t.Helper()
	name := "test-" + strings.ToLower(rand.Text()[:12])
	if _, err := s.client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(name)}); err != nil {
		t.Fatalf("create bucket %s: %v", name, err)
	}
	return name
}

// Client is an S3 client of its own, for looking at the store past the code
// that is tested.
func (s *Server) Client() *s3.Client { return s.client }

// Output is what the server has printed.
func (s *Server) Output() string { return s.out.String() }

// lockedBuffer takes what a server prints, the last of it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// maxOutput is how much of a server's output is kept.
const maxOutput = 64 << 10

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.Write(p)
	if extra := b.buf.Len() - maxOutput; extra > 0 {
		b.buf.Next(extra)
	}
	return len(p), nil
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
