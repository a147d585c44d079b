package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"depotfs/cache"
)

// heart is what the control API needs of *cache.Cache.
type heart interface {
	Status(ctx context.Context) (cache.Status, error)
	StatPath(ctx context.Context, path string) (cache.FileStatus, error)
	Walk(ctx context.Context, path, state string, fn func(cache.FileStatus) error) error
	Flush(ctx context.Context, paths []string, fn func(cache.Progress)) ([]cache.NotDone, error)
	Warm(ctx context.Context, paths []string, fn func(cache.Progress)) ([]cache.NotDone, error)
	Evict(ctx context.Context, paths []string, fn func(cache.Progress)) ([]cache.NotDone, error)
	Pin(ctx context.Context, paths []string, on bool) ([]cache.NotDone, error)
	trashHeart
	conflictHeart
	Refresh(ctx context.Context) error
	Zones(ctx context.Context) ([]cache.ZoneStatus, error)
	RemoveZone(ctx context.Context, zone string) error
}

// errMountBusy is what control.unmount answers while files are open.
var errMountBusy = errors.New("the mount is busy")

// control is the server side of the control API: HTTP over the unix socket.
type control struct {
	heart    heart
	describe func(*cache.Status)         // adds what only the wiring knows
	unmount  func(context.Context) error // starts the end of the daemon; errMountBusy: nothing happened
	store    *storeSwitch
	deletes  *deletes
	tuning   *tuning
	log      *slog.Logger
}

// Times of the control API. Work itself has no limit: the client's connection is its life.
const (
	readTimeout     = 10 * time.Second       // for a request's headers and body
	progressEvery   = 100 * time.Millisecond // smooth for the eye, nothing for the CPU
	shutdownTimeout = time.Second            // for answers under way at the end
)

// serve answers until ctx ends; then it ends the work under way and returns.
func (c *control) serve(ctx context.Context, listener net.Listener) error {
	work, endWork := context.WithCancel(context.WithoutCancel(ctx))
	defer endWork()
	server := &http.Server{
		Handler:           c.authorised(c.routes()),
		ReadHeaderTimeout: readTimeout,
		ErrorLog:          slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return work },
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, conn)
		},
	}
	stopped := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(stopped)
		endWork()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
	})
	err := server.Serve(listener)
	if errors.Is(err, http.ErrServerClosed) {
		<-stopped
		return nil
	}
	return fmt.Errorf("serve the control socket: %w", err)
}

type peerKey struct{}

// authorised lets the mount's owner and root in. The socket's mode says the
// same; this holds where somebody loosened it.
func (c *control) authorised(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _ := r.Context().Value(peerKey{}).(net.Conn)
		cred, err := peer(conn)
		if err != nil || cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
			answerError(w, http.StatusForbidden, "only root and the owner of the mount may do that")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (c *control) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", c.status)
	mux.HandleFunc("GET /v1/config", func(w http.ResponseWriter, _ *http.Request) { answer(w, c.tuning.settings()) })
	mux.HandleFunc("POST /v1/stat", c.streamed(c.stat))
	mux.HandleFunc("POST /v1/ls", c.streamed(c.ls))
	mux.HandleFunc("POST /v1/flush", c.streamed(c.flush))
	mux.HandleFunc("POST /v1/warm", c.streamed(func(ctx context.Context, req pathsRequest, out *stream) error {
		return notDone(out)(c.heart.Warm(ctx, req.Paths, out.progress))
	}))
	mux.HandleFunc("POST /v1/evict", c.streamed(func(ctx context.Context, req pathsRequest, out *stream) error {
		return notDone(out)(c.heart.Evict(ctx, req.Paths, out.progress))
	}))
	mux.HandleFunc("POST /v1/pin", c.streamed(func(ctx context.Context, req pathsRequest, out *stream) error {
		return notDone(out)(c.heart.Pin(ctx, req.Paths, req.On))
	}))
	mux.HandleFunc("POST /v1/trash/list", c.streamed(c.trashList))
	mux.HandleFunc("POST /v1/trash/restore", c.streamed(c.trashRestore))
	mux.HandleFunc("POST /v1/trash/purge", c.streamed(c.trashPurge))
	mux.HandleFunc("POST /v1/conflicts/list", c.streamed(c.conflictsList))
	mux.HandleFunc("POST /v1/conflicts/drop", c.streamed(c.conflictsDrop))
	mux.HandleFunc("GET /v1/conflicts/get", c.conflictsGet)
	mux.HandleFunc("POST /v1/refresh", c.streamed(func(ctx context.Context, _ pathsRequest, _ *stream) error {
		return c.heart.Refresh(ctx)
	}))
	mux.HandleFunc("POST /v1/config", c.streamed(c.tuning.change))
	mux.HandleFunc("POST /v1/enable", c.streamed(c.store.enable))
	mux.HandleFunc("POST /v1/disable", c.streamed(c.store.disable))
	c.deletes.routes(mux, c)
	mux.HandleFunc("POST /v1/zones", c.streamed(c.zones))
	mux.HandleFunc("POST /v1/zones/remove", c.streamed(c.removeZone))
	mux.HandleFunc("POST /v1/umount", c.umount)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answerError(w, http.StatusNotFound, "this daemon does not know "+r.URL.Path+": it may be of another version than the command")
	})
	return mux
}

func (c *control) status(w http.ResponseWriter, r *http.Request) {
	status, err := c.heart.Status(r.Context())
	if err != nil {
		answerError(w, http.StatusInternalServerError, err.Error())
		return
	}
	c.describe(&status)
	answer(w, status)
}

// umount answers once the mount is gone; the daemon ends after it.
func (c *control) umount(w http.ResponseWriter, r *http.Request) {
	switch err := c.unmount(r.Context()); {
	case err == nil:
		answer(w, event{Done: true})
	case errors.Is(err, errMountBusy):
		answerError(w, http.StatusConflict, err.Error())
	default:
		answerError(w, http.StatusInternalServerError, err.Error())
	}
}

// stat answers for every path; one that fails is a NotDone.
func (c *control) stat(ctx context.Context, req pathsRequest, out *stream) error {
	for _, path := range req.Paths {
		file, err := c.heart.StatPath(ctx, path)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			out.send(event{NotDone: &cache.NotDone{Path: path, Reason: plainReason(err)}})
		default:
			out.send(event{File: &file})
		}
	}
	return nil
}

func (c *control) ls(ctx context.Context, req pathsRequest, out *stream) error {
	path := ""
	if len(req.Paths) > 0 {
		path = req.Paths[0]
	}
	return c.heart.Walk(ctx, path, req.State, func(file cache.FileStatus) error {
		out.send(event{File: &file})
		return ctx.Err()
	})
}

// flush reports what had not arrived when the time was over.
func (c *control) flush(ctx context.Context, req pathsRequest, out *stream) error {
	limited := ctx
	if req.TimeoutSeconds > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, time.Duration(req.TimeoutSeconds*float64(time.Second)))
		defer cancel()
	}
	left, err := c.heart.Flush(limited, req.Paths, out.progress)
	if ctx.Err() == nil && limited.Err() != nil && errors.Is(err, limited.Err()) {
		err = nil
		if len(left) == 0 {
			return fmt.Errorf("not everything had arrived after %v", time.Duration(req.TimeoutSeconds*float64(time.Second)))
		}
	}
	return notDone(out)(left, err)
}

// notDone sends what a piece of work left over.
func notDone(out *stream) func([]cache.NotDone, error) error {
	return func(left []cache.NotDone, err error) error {
		for i := range left {
			out.send(event{NotDone: &left[i]})
		}
		return err
	}
}

// plainReason says an errno as people know it.
func plainReason(err error) string {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "no such file or directory"
	case errors.Is(err, unix.ENOTDIR):
		return "not a directory"
	default:
		return err.Error()
	}
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a client that went away needs no answer
}

func answerError(w http.ResponseWriter, code int, msg string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(apiError{Error: msg})
}
