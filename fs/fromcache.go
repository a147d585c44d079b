package fs

import (
	"context"

	"depotfs/cache"
)

// FromCache is the real heart. Go's interfaces want exact result types, so what
// returns or takes a *cache.Handle is wrapped; all else is the Cache's own.
func FromCache(c *cache.Cache) Heart { return heart{c} }

type heart struct{ *cache.Cache }

type handle struct{ *cache.Handle }

func (h heart) SetAttr(ctx context.Context, ino cache.Ino, through Handle, set cache.SetAttr) (cache.Attr, error) {
	return h.Cache.SetAttr(ctx, ino, unwrap(through), set)
}

func (h heart) Create(ctx context.Context, who cache.Owner, parent cache.Ino, name string, mode uint32, flags int) (cache.Attr, Handle, error) {
	a, opened, err := h.Cache.Create(ctx, who, parent, name, mode, flags)
	if err != nil {
		return cache.Attr{}, nil, err
	}
	return a, handle{opened}, nil
}

func (h heart) Tmpfile(ctx context.Context, who cache.Owner, parent cache.Ino, mode uint32, flags int) (cache.Attr, Handle, error) {
	a, opened, err := h.Cache.Tmpfile(ctx, who, parent, mode, flags)
	if err != nil {
		return cache.Attr{}, nil, err
	}
	return a, handle{opened}, nil
}

func (h heart) Open(ctx context.Context, ino cache.Ino, flags int) (Handle, error) {
	opened, err := h.Cache.Open(ctx, ino, flags)
	if err != nil {
		return nil, err
	}
	return handle{opened}, nil
}

func (h handle) CopyRange(ctx context.Context, off int64, dst Handle, dstOff, length int64) (int64, error) {
	return h.Handle.CopyRange(ctx, off, unwrap(dst), dstOff, length)
}

// unwrap returns nil for a handle that is none of the Cache's.
func unwrap(h Handle) *cache.Handle {
	if w, ok := h.(handle); ok {
		return w.Handle
	}
	return nil
}
