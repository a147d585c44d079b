package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// newLogger makes the daemon's logger.
func newLogger(cfg Config, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.LogLevel)) // loadConfig checked it
	how := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, how))
	}
	return slog.New(slog.NewTextHandler(w, how))
}

// logFile is a log that can be opened anew after somebody rotated it (SIGHUP).
type logFile struct {
	path string
	std  bool // standard output and error go here too, so that a crash leaves its trace

	mu sync.Mutex
	f  *os.File // guarded by mu
}

func openLog(path string, std bool) (*logFile, error) {
	l := &logFile{path: path, std: std}
	return l, l.reopen()
}

// Write implements io.Writer.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Write(p)
}

// reopen goes on in the file that is at the path now; after an error in the old one.
func (l *logFile) reopen() error {
	f, err := createLog(l.path)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil {
		l.f.Close()
	}
	l.f = f
	if l.std {
		for fd := 1; fd <= 2; fd++ {
			if err := unix.Dup3(int(f.Fd()), fd, 0); err != nil {
				return fmt.Errorf("log to %s: %w", l.path, err)
			}
		}
	}
	return nil
}

// createLog opens a log for its owner's eyes only.
func createLog(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w: name another file with --log-file", err)
	}
	return f, nil
}
