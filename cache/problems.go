package cache

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// maxProblems bounds what is remembered; beyond it the oldest goes.
const maxProblems = 1000

// problemList is what a person may have to look at, by kind and path.
type problemList struct {
	mu sync.Mutex // guards m
	m  map[problemKey]*Problem
}

// problemKey names one thing that can be wrong.
type problemKey struct{ kind, path string }

// add notes a problem, or one more attempt at a known one.
func (l *problemList) add(kind, path, reason string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m == nil {
		l.m = map[problemKey]*Problem{}
	}
	k := problemKey{kind, path}
	p := l.m[k]
	if p == nil {
		if len(l.m) >= maxProblems {
			l.dropOldestLocked()
		}
		p = &Problem{Path: path, Kind: kind, Since: now}
		l.m[k] = p
	}
	p.Reason = reason
	p.Attempts++
}

func (l *problemList) dropOldestLocked() {
	var oldest problemKey
	var at time.Time
	for k, p := range l.m {
		if at.IsZero() || p.Since.Before(at) {
			oldest, at = k, p.Since
		}
	}
	delete(l.m, oldest)
}

func (l *problemList) clear(kind, path string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.m, problemKey{kind, path})
}

// clearReason forgets the problems that had one reason in common, now that it is gone.
func (l *problemList) clearReason(reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, p := range l.m {
		if p.Reason == reason {
			delete(l.m, k)
		}
	}
}

// list returns up to n problems, the oldest first.
func (l *problemList) list(n int) []Problem {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Problem, 0, len(l.m))
	for _, p := range l.m {
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b Problem) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Path, b.Path)) })
	return out[:min(n, len(out))]
}

// transferList is what is under way, for status.
type transferList struct {
	mu sync.Mutex // guards m
	m  map[*transfer]struct{}
}

type transfer struct {
	path        string
	total, done int64 // guarded by list.mu
	list        *transferList
}

func (l *transferList) add(path string, total int64) *transfer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m == nil {
		l.m = map[*transfer]struct{}{}
	}
	t := &transfer{path: path, total: total, list: l}
	l.m[t] = struct{}{}
	return t
}

func (l *transferList) remove(t *transfer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.m, t)
}

func (t *transfer) grow(n int64) {
	t.list.mu.Lock()
	defer t.list.mu.Unlock()
	t.done += n
}

func (t *transfer) set(n int64) {
	t.list.mu.Lock()
	defer t.list.mu.Unlock()
	t.done = n
}

func (l *transferList) list() []Transfer {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Transfer, 0, len(l.m))
	for t := range l.m {
		out = append(out, Transfer{Path: t.path, Done: t.done, Total: t.total})
	}
	slices.SortFunc(out, func(a, b Transfer) int { return cmp.Compare(a.Path, b.Path) })
	return out
}

// of returns the bytes of one path that are under way already.
func (l *transferList) of(path string) (int64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for t := range l.m {
		if t.path == path {
			return t.done, true
		}
	}
	return 0, false
}
