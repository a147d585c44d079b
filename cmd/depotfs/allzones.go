package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"depotfs/cache"
	"depotfs/cache/settings"
)

// How often it is looked whether settings were announced to all zones: one request a
// minute; more often only until the depot is joined. An announcement that cannot be taken
// up is tried again ever more rarely: it is tried out by some 40 requests each time.
const (
	sharedFirst = 2 * time.Second
	sharedEvery = time.Minute
	sharedMost  = 30 * time.Minute
)

// sharedNames are the settings that can be announced.
func sharedNames() (names []string) {
	for i := range options {
		if options[i].all {
			names = append(names, options[i].fileKey())
		}
	}
	return names
}

// mayShare refuses what is a zone's own affair.
func mayShare(changes []change) error {
	for _, ch := range changes {
		switch o := ch.option; {
		case o.isSecret():
			return usagef("%s is a secret, and secrets never go through the depot: set it in each zone, without --all-zones", o.fileKey())
		case !o.all:
			return usagef("%s is set in each zone, without --all-zones", o.fileKey())
		}
	}
	return nil
}

// announce is `depotfs config set --all-zones`: what counts here is announced.
func (t *tuning) announce(ctx context.Context, changes []change) ([]string, error) {
	if err := mayShare(changes); err != nil {
		return nil, err
	}
	if !t.heart.StoreOn() {
		return nil, errors.New("the store is off, and only through it other zones can be told: say depotfs enable first, or leave out --all-zones")
	}
	values := map[string]string{}
	for _, ch := range changes {
		values[ch.option.fileKey()] = ch.text
	}
	var now settings.Shared
	said, err := t.put(ctx, changes, func(ctx context.Context, s cache.Store, saved *savedSettings) error {
		before, announced, err := t.heart.ShareSettings(ctx, s, values)
		if err != nil {
			return err
		}
		now = announced
		if before.Seq <= saved.Shared { // else there is something that does not count here yet
			saved.Shared = now.Seq
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	t.tell(now, nil)
	return append(said, "announced to all zones: depotfs status in each says whether it took it up"), nil
}

// follow takes up what other zones announce, until ctx ends.
func (t *tuning) follow(ctx context.Context) {
	look := lookout{t: t}
	for wait := sharedFirst; ; {
		timer := time.NewTimer(wait - wait/8 + rand.N(wait/4))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if joined := look.once(ctx, time.Now()); joined {
			wait = sharedEvery
		} else {
			wait = min(2*wait, sharedEvery)
		}
	}
}

// lookout is what is known from one look for announcements to the next.
type lookout struct {
	t       *tuning
	failing uint64        // the announcement that could not be taken up; 0: none
	pause   time.Duration // before it is tried again
	again   time.Time
}

// once looks for an announcement and takes it up. It reports false while no depot is
// joined.
func (l *lookout) once(ctx context.Context, now time.Time) bool {
	t := l.t
	shared, err := t.heart.SharedSettings(ctx)
	switch {
	case ctx.Err() != nil, errors.Is(err, cache.ErrOff), errors.Is(err, cache.ErrUnavailable), errors.Is(err, cache.ErrDenied):
		return !errors.Is(err, cache.ErrUnavailable) // status says what is with the store
	case err != nil:
		t.tell(settings.Shared{}, err)
		return true
	}
	if shared.Seq == l.failing && l.failing != 0 && now.Before(l.again) {
		return true
	}
	err = t.takeUp(ctx, shared)
	if ctx.Err() != nil {
		return true
	}
	t.tell(shared, err)
	if err == nil {
		l.failing, l.pause = 0, 0
		return true
	}
	if shared.Seq != l.failing {
		l.pause = 0
	}
	l.failing, l.pause = shared.Seq, min(max(2*l.pause, sharedEvery), sharedMost)
	l.again = now.Add(l.pause)
	return true
}

// takeUp has the news of an announcement count here, all or none, once.
func (t *tuning) takeUp(ctx context.Context, shared settings.Shared) error {
	unlock, err := t.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	t.mu.Lock()
	seen := t.saved.Shared
	t.mu.Unlock()
	if shared.Seq <= seen {
		return nil
	}
	var words []string
	for key, text := range shared.Since(seen) {
		words = append(words, key+"="+text)
	}
	slices.Sort(words)
	changes, err := parseChanges(words)
	if err == nil {
		err = mayShare(changes)
	}
	if err != nil {
		return fmt.Errorf("not taken up: %w", err)
	}
	_, err = t.put(ctx, changes, func(_ context.Context, _ cache.Store, saved *savedSettings) error {
		saved.Shared = shared.Seq
		return nil
	})
	if err != nil {
		return fmt.Errorf("not taken up, the former settings count: %w", err)
	}
	t.log.Info("settings taken up that another zone announced", "seq", shared.Seq, "zone", shared.Zone)
	return nil
}

// tell notes for status what came of an announcement, and logs a failure once.
func (t *tuning) tell(shared settings.Shared, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.told
	if shared.Seq > 0 || err == nil {
		t.told = cache.SharedStatus{Seq: shared.Seq, Zone: shared.Zone, At: shared.At}
	}
	t.told.Error = ""
	if err != nil {
		t.told.Error = err.Error()
		if t.told.Error != was.Error || t.told.Seq != was.Seq {
			t.log.Warn("settings that were announced to all zones do not count here", "seq", shared.Seq, "zone", shared.Zone, "err", err)
		}
	}
}

// sharedLine says in status what is wrong with an announcement, "" where nothing is.
func sharedLine(s cache.SharedStatus) string {
	if s.Error == "" {
		return ""
	}
	if s.Zone == "" {
		return "settings for all zones: " + s.Error
	}
	return fmt.Sprintf("settings announced by zone %s: %s", s.Zone, s.Error)
}
