package cache

import (
	"context"
	"time"

	"depotfs/cache/journal"
)

// wakePace is the least time between a look at the other zones' journals and the next one
// that events of the store ask for: however many come, they cost few requests.
const wakePace = 300 * time.Millisecond

// HeardOf takes a word of somebody else that there is a new object under a key. It has the
// journals read soon where the key is that of another zone's batch, and says whether it is.
// Nothing else comes of it: a word that is wrong costs a look, one that is lost nothing but
// the time until the next look. Objects that other tools put are left to the listing, and
// names of zones that the depot does not have are not believed beyond a look at which it has.
func (c *Cache) HeardOf(key string) bool {
	zone, _, ok := journal.ParseKey(c.cfg.Prefix, key)
	if !ok || zone == c.zoneName() {
		return false
	}
	if !c.knowsZone(zone) {
		c.listening.stranger.Store(true)
	}
	select {
	case c.listening.woken <- struct{}{}:
	default: // somebody said so already, and no look has begun since
	}
	return true
}

// awaitTurn waits until the journals are to be looked at: after the interval, sooner where
// something was missed or an event came, at once where somebody waits. last is when the last
// look ended. It returns who waits for the look.
func (c *Cache) awaitTurn(ctx context.Context, interval time.Duration, last time.Time) (answers []chan error, err error) {
	at := time.Now().Add(interval)
	for {
		wait := time.NewTimer(time.Until(at))
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil, ctx.Err()
		case a := <-c.listening.asked:
			wait.Stop()
			return c.allWaiting(a), nil
		case <-wait.C:
			return c.allWaiting(), nil
		case <-c.listening.nudged: // misses come in numbers
			at = earlier(at, last.Add(c.cfg.PollInterval))
		case <-c.listening.woken:
			at = earlier(at, last.Add(wakePace))
		}
		wait.Stop()
	}
}

// allWaiting adds who else waits by now: one look answers all who asked before it.
func (c *Cache) allWaiting(answers ...chan error) []chan error {
	for {
		select {
		case a := <-c.listening.asked:
			answers = append(answers, a)
		default:
			return answers
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
