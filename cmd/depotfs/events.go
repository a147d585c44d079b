package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"depotfs/cache"
	"depotfs/s3store/events"
)

// minEventsSecret is the shortest secret: anybody who reaches the address may guess.
const minEventsSecret = 16

// validEvents finds what is wrong with the settings for event notifications. It never
// repeats the secret.
func (c *Config) validEvents() error {
	if secret := string(c.EventsSecret); secret != "" {
		if len(secret) < minEventsSecret || len(secret) > 1024 || strings.ContainsFunc(secret, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return usagef("events-secret: %d to 1024 letters, digits and signs without spaces, such as openssl rand -hex 24 prints", minEventsSecret)
		}
	}
	if c.EventsListen == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(c.EventsListen)
	if err != nil {
		return usagef("--events-listen %q is no address: write it like 10.1.0.5:9400, or :9400 for all addresses", c.EventsListen)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return usagef("--events-listen %q: name a port from 1 to 65535", c.EventsListen)
	}
	if c.EventsSecret == "" && !isLoopback(host) {
		return usagef("--events-listen %s can be reached by others: set events-secret in the --config file, or listen at 127.0.0.1", c.EventsListen)
	}
	return nil
}

// isLoopback knows addresses that only this machine reaches.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// receiver is the optional accelerator: where the store says what it has.
type receiver struct {
	*events.Receiver
	listener net.Listener
	address  string
}

// openEvents takes the address, so that a mount whose address is taken is refused.
func (m *mount) openEvents(ctx context.Context) error {
	if m.cfg.EventsListen == "" {
		return nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", m.cfg.EventsListen)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) { // which repeats the address
			err = op.Err
		}
		return fmt.Errorf("--events-listen %s: %w: name another address, or leave it out", m.cfg.EventsListen, err)
	}
	m.closers = append(m.closers, closeFunc(func() error {
		listener.Close() // serve has closed it, where it came so far
		return nil
	}))
	m.events = &receiver{listener: listener, address: listener.Addr().String(),
		Receiver: events.New(events.Config{Secret: string(m.cfg.EventsSecret), Heard: m.heart.HeardOf, Log: m.log})}
	return nil
}

// serve receives until ctx ends. A mount does without it.
func (r *receiver) serve(ctx context.Context, m *mount) {
	if err := r.Run(ctx, r.listener); err != nil {
		m.log.Error("no events are received any more; what other zones do is found by looking", "err", err)
	}
}

// describe adds what was received to a status.
func (r *receiver) describe(st *cache.Status) {
	n := r.Counts()
	st.Events = cache.EventStatus{Listen: r.address, Received: n.Received, Woken: n.Woken, Refused: n.Refused, Invalid: n.Invalid, Last: n.Last}
	if n.Ended != nil {
		st.Events.Error = n.Ended.Error()
	}
}

// eventsLine says what came of events, "" where none are received.
func eventsLine(e cache.EventStatus) string {
	if e.Listen == "" {
		return ""
	}
	if e.Error != "" {
		return "NOT RECEIVED: " + printable(e.Error)
	}
	parts := []string{"received at " + printable(e.Listen), count(e.Received, "notification", "notifications")}
	if e.Refused > 0 {
		parts = append(parts, count(e.Refused, "request", "requests")+" with a WRONG SECRET")
	}
	if e.Invalid > 0 {
		parts = append(parts, count(e.Invalid, "request that is none", "requests that are none"))
	}
	return strings.Join(parts, ", ")
}
