package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"depotfs/cache"
)

// change is `depotfs config set`.
func (t *tuning) change(ctx context.Context, req pathsRequest, out *stream) error {
	changes, err := parseChanges(req.Set)
	if err != nil {
		return err
	}
	unlock, err := t.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	var said []string
	if req.AllZones {
		said, err = t.announce(ctx, changes)
	} else {
		said, err = t.put(ctx, changes, nil)
	}
	if err != nil {
		return fmt.Errorf("%w; nothing was changed", err)
	}
	for _, line := range said {
		out.send(event{Said: line})
	}
	return nil
}

// put has changes count, all or none, over restarts too. first, if not nil, is done when
// nothing else can fail any more but to write the file, on the store as it will be; it may
// add to what is saved. The caller holds t.changing.
func (t *tuning) put(ctx context.Context, changes []change, first func(ctx context.Context, s cache.Store, saved *savedSettings) error) (said []string, err error) {
	t.mu.Lock()
	was, store, saved := t.now, t.store, t.saved.clone()
	t.mu.Unlock()
	saved.merge(changes)
	next, err := t.with(saved.Set)
	if err == nil {
		err = schemeClash(changes, saved.Set, next)
	}
	if err != nil {
		return nil, err
	}
	record := func(ctx context.Context, s cache.Store) error {
		if first != nil {
			if err := first(ctx, s, &saved); err != nil {
				return err
			}
		}
		return saved.write(t.dir)
	}
	on := t.heart.StoreOn()
	switch {
	case sameStore(was, next) || !on:
		err = record(ctx, store)
	case next.Bucket == "":
		err = errors.New("no bucket is left: switch the store off first, with depotfs disable")
	default:
		store, err = t.replace(ctx, next, store, record)
	}
	if err != nil {
		return nil, err
	}
	if err := t.heart.SetTransfers(next.transfers()); err != nil { // validated above
		t.log.Error("set the limits of transfers", "err", err)
	}
	t.heart.SetTrashRetention(next.TrashRetention)
	t.mu.Lock()
	t.now, t.saved, t.store = next, saved, store
	t.limitLocked()
	t.mu.Unlock()
	t.forgetFormer(ctx)
	for _, ch := range changes {
		before, after := shown(ch.option, was), shown(ch.option, next)
		t.log.Info("setting changed", "key", ch.option.fileKey(), "from", before, "to", after)
		said = append(said, fmt.Sprintf("%s is %s, was %s", ch.option.fileKey(), after, before))
	}
	if !sameStore(was, next) {
		if !on {
			said = append(said, "the store is off: these are tried out, and count, when depotfs enable switches it on")
		}
		if storeInfo(was) != storeInfo(next) && t.moved != nil {
			t.moved(next)
		}
	}
	return said, nil
}

// shown is a setting in a message.
func shown(o *option, c Config) string {
	text := o.at(&c).show()
	if text == "" {
		return "not set"
	}
	return text
}

// merge makes changes part of what is saved. A session token is of the keys that it came
// with.
func (s *savedSettings) merge(changes []change) {
	for _, ch := range changes {
		if ch.option.name == "access-key" {
			delete(s.Set, "session-token")
		}
	}
	for _, ch := range changes {
		if s.Set[ch.option.name] = ch.text; ch.text == "" {
			delete(s.Set, ch.option.name)
		}
	}
}

// schemeClash refuses use-https for an endpoint that says the opposite itself.
func schemeClash(changes []change, set map[string]string, next Config) error {
	scheme, _, named := strings.Cut(next.givenEndpoint, "://")
	for _, ch := range changes {
		if ch.option.name == "use-https" && ch.text != "" && named && next.UseHTTPS != (scheme == "https") {
			return usagef("s3.use-https=%s does not count for an endpoint that names its scheme (%s): set s3.endpoint too, with the other scheme or none", ch.text, next.givenEndpoint)
		}
	}
	return nil
}

// tryTimeout is how long a store may take to be tried out: some 40 small requests.
const tryTimeout = 2 * time.Minute

// replace has the heart use the store of next, if it is the right one and works.
func (t *tuning) replace(ctx context.Context, next Config, old cache.Store, record func(ctx context.Context, s cache.Store) error) (cache.Store, error) {
	store, asker, err := t.connect(next, old)
	if err != nil {
		return nil, err
	}
	defer closeStore(asker)
	limited, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	err = askStore(limited, asker, next.Prefix)
	if err == nil {
		err = t.heart.ReplaceStore(limited, store, storeInfo(next), record)
	}
	switch {
	case err == nil:
		closeStore(old)
		return store, nil
	case ctx.Err() != nil:
		err = ctx.Err()
	case limited.Err() != nil:
		err = fmt.Errorf("the store could not be tried out within %v", tryTimeout)
	case errors.Is(err, cache.ErrUnavailable):
		err = fmt.Errorf("%w: check the address and the network; to set it all the same, say depotfs disable first", err)
	}
	closeStore(store)
	return nil, err
}

// forgetFormer removes from the catalog what the settings file has now.
func (t *tuning) forgetFormer(ctx context.Context) {
	former := map[string]string{}
	for i := range options {
		name := settingPrefix + options[i].name
		if text, err := t.heart.Setting(name); options[i].live && err == nil && text != "" {
			former[name] = ""
		}
	}
	if len(former) == 0 {
		return
	}
	if err := t.heart.PutSettings(ctx, former); err != nil {
		t.log.Warn("forget settings that are kept elsewhere now", "err", err)
	}
}
