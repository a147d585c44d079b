package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// answerTimeout is how long a living daemon may take to begin an answer. It
// answers status from memory; streamed answers begin before their work.
const answerTimeout = 15 * time.Second

// errNoDaemon: nobody listens on the control socket of a mount.
var errNoDaemon = errors.New("its daemon is not running")

// client speaks to the daemon of one mount.
type client struct {
	mount mountEntry
	http  *http.Client
}

func newClient(m mountEntry) *client {
	return &client{mount: m, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialControl(ctx, m.StateDir)
		},
		ResponseHeaderTimeout: answerTimeout,
		DisableKeepAlives:     true,
	}}}
}

// get asks for one JSON answer.
func (c *client) get(ctx context.Context, what string, into any) error {
	body, err := c.do(ctx, http.MethodGet, what, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(into); err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	return nil
}

// stream asks for work and calls on for every event but the last. The work
// ends with ctx.
func (c *client) stream(ctx context.Context, what string, req pathsRequest, on func(event) error) error {
	if req.Paths == nil {
		req.Paths = []string{}
	}
	body, err := c.do(ctx, http.MethodPost, what, req)
	if err != nil {
		return err
	}
	defer body.Close()
	for dec := json.NewDecoder(body); ; {
		var e event
		if err := dec.Decode(&e); ctx.Err() != nil {
			return ctx.Err()
		} else if err != nil {
			return fmt.Errorf("the daemon of %s ended before it was done; see its log", c.mount.Mountpoint)
		}
		switch {
		case e.Error != "":
			return errors.New(e.Error)
		case e.Done:
			return nil
		}
		if err := on(e); err != nil {
			return err
		}
	}
}

// open asks for the bytes of an entry; the caller closes them.
func (c *client) open(ctx context.Context, what, entry string) (io.ReadCloser, int64, error) {
	answer, err := c.ask(ctx, http.MethodGet, what+"?entry="+url.QueryEscape(entry), nil)
	if err != nil {
		return nil, 0, err
	}
	return answer.Body, answer.ContentLength, nil
}

func (c *client) do(ctx context.Context, method, what string, req any) (io.ReadCloser, error) {
	answer, err := c.ask(ctx, method, what, req)
	if err != nil {
		return nil, err
	}
	return answer.Body, nil
}

// ask sends a request and returns the answer of one that succeeded.
func (c *client) ask(ctx context.Context, method, what string, req any) (*http.Response, error) {
	var body io.Reader
	if req != nil {
		text, err := json.Marshal(req)
		if err != nil {
			return nil, fmt.Errorf("write the request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://depotfs/v1/"+what, body)
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	if answer.StatusCode == http.StatusOK {
		return answer, nil
	}
	defer answer.Body.Close()
	var said apiError
	if json.NewDecoder(answer.Body).Decode(&said) != nil || said.Error == "" {
		said.Error = answer.Status
	}
	if answer.StatusCode == http.StatusConflict {
		return nil, errMountBusy
	}
	return nil, errors.New(said.Error)
}

// explain says what a failed connection means and what to do.
func (c *client) explain(ctx context.Context, err error) error {
	m := c.mount
	var timeout net.Error
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%s: %w: say depotfs umount %s, then mount it again; its log is in %s", m.Mountpoint, errNoDaemon, m.Mountpoint, m.StateDir)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%s belongs to another user: only root and the owner of the mount may do that", m.Mountpoint)
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("the daemon of %s%s does not answer: see its log in %s; as a last resort end it with kill -9 and mount again", m.Mountpoint, c.pidText(), m.StateDir)
	default:
		return fmt.Errorf("the daemon of %s broke off: see its log in %s", m.Mountpoint, m.StateDir)
	}
}

// pid returns the daemon's process, or 0 where it cannot be known.
func (c *client) pid(ctx context.Context) int {
	conn, err := dialControl(ctx, c.mount.StateDir)
	if err != nil {
		return 0
	}
	defer conn.Close()
	cred, err := peer(conn)
	if err != nil {
		return 0
	}
	return int(cred.Pid)
}

func (c *client) pidText() string {
	if pid := c.pid(context.Background()); pid != 0 {
		return fmt.Sprintf(" (process %d)", pid)
	}
	return ""
}
