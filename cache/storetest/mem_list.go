package storetest

import (
	"context"
	"slices"
	"strings"

	"depotfs/cache"
)

// List implements cache.Store. Each page shows the store as it is when the page
// is made, as S3 does.
func (m *Mem) List(ctx context.Context, q cache.ListQuery, page func(cache.ListPage) error) error {
	after := q.StartAfter
	for continued := false; ; continued = true {
		m.mu.Lock()
		if err := m.beginLocked(ctx, "list", q.Prefix); err != nil {
			m.mu.Unlock()
			return err
		}
		p, last := m.pageLocked(q, after, continued)
		m.mu.Unlock()
		if err := page(p); err != nil {
			return err
		}
		if last == "" {
			return nil
		}
		after = last
	}
}

// pageLocked makes the page of what follows after; last is what the next page
// starts after, "" at the end of the listing. continued says that after is such
// a last entry, and not the caller's.
func (m *Mem) pageLocked(q cache.ListQuery, after string, continued bool) (p cache.ListPage, last string) {
	entry := ""
	for _, key := range m.keysLocked(q.Prefix) {
		group := ""
		if q.Delimiter != "" {
			if i := strings.Index(key[len(q.Prefix):], q.Delimiter); i >= 0 {
				group = key[:len(q.Prefix)+i+len(q.Delimiter)]
			}
		}
		// A page that ends with a group continues after all of that group.
		inLast := continued && group != "" && group == after
		if key <= after || inLast || group != "" && group == entry {
			continue
		}
		if len(p.Objects)+len(p.Prefixes) == m.PageSize {
			return p, entry
		}
		if group != "" {
			p.Prefixes = append(p.Prefixes, group)
			entry = group
			continue
		}
		info := m.answerLocked(m.objects[key].info)
		info.Metadata, info.CRC64, info.HasCRC64 = nil, 0, false
		p.Objects = append(p.Objects, info)
		entry = key
	}
	return p, ""
}

func (m *Mem) keysLocked(prefix string) []string {
	var keys []string
	for key := range m.objects {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}
