package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"depotfs/cache"
)

// trashHeart is what the commands of the trash need of *cache.Cache.
type trashHeart interface {
	TrashList(ctx context.Context, paths []string, fn func(cache.TrashEntry) error) error
	TrashRestore(ctx context.Context, pick cache.TrashPick, fn func(cache.Progress)) (int, []cache.NotDone, error)
	TrashPurge(ctx context.Context, pick cache.TrashPick, dry bool) (cache.Purged, []cache.NotDone, error)
}

// conflictHeart is what those of the conflicts need.
type conflictHeart interface {
	ConflictList(ctx context.Context, fn func(cache.ConflictEntry) error) error
	ConflictOpen(ctx context.Context, entry string) (io.ReadCloser, int64, error)
	ConflictDrop(ctx context.Context, entries []string, olderThan time.Duration) (cache.Purged, []cache.NotDone, error)
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

func (c *control) trashList(ctx context.Context, req pathsRequest, out *stream) error {
	return c.heart.TrashList(ctx, req.Paths, func(e cache.TrashEntry) error {
		out.send(event{Trash: &e})
		return ctx.Err()
	})
}

func (c *control) trashRestore(ctx context.Context, req pathsRequest, out *stream) error {
	back, left, err := c.heart.TrashRestore(ctx, cache.TrashPick{Entries: req.Entries, Paths: req.Paths, To: req.To}, out.progress)
	if back > 0 {
		out.send(event{Said: count(int64(back), "file is", "files are") + " back"})
	}
	return notDone(out)(left, err)
}

func (c *control) trashPurge(ctx context.Context, req pathsRequest, out *stream) error {
	sum, left, err := c.heart.TrashPurge(ctx, cache.TrashPick{Entries: req.Entries, Paths: req.Paths, OlderThan: seconds(req.OlderSeconds)}, !req.On)
	out.send(event{Purged: &sum})
	return notDone(out)(left, err)
}

func (c *control) conflictsList(ctx context.Context, _ pathsRequest, out *stream) error {
	return c.heart.ConflictList(ctx, func(e cache.ConflictEntry) error {
		out.send(event{Conflict: &e})
		return ctx.Err()
	})
}

func (c *control) conflictsDrop(ctx context.Context, req pathsRequest, out *stream) error {
	sum, left, err := c.heart.ConflictDrop(ctx, req.Entries, seconds(req.OlderSeconds))
	out.send(event{Purged: &sum})
	return notDone(out)(left, err)
}

// conflictsGet answers with the bytes of one entry.
func (c *control) conflictsGet(w http.ResponseWriter, r *http.Request) {
	body, size, err := c.heart.ConflictOpen(r.Context(), r.URL.Query().Get("entry"))
	if err != nil {
		answerError(w, http.StatusInternalServerError, err.Error())
		return
	}
	defer body.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	_ = http.NewResponseController(w).Flush() // so that the client hears of an end in the middle as that
	if n, err := io.Copy(w, body); err != nil || n < size {
		c.log.Warn("a conflict's version was not sent whole", "entry", r.URL.Query().Get("entry"), "sent", n, "size", size, "err", err)
		panic(http.ErrAbortHandler) // the client must not take it for whole
	}
}

// fetch asks for the bytes of one entry of the conflicts.
func (c *client) fetch(ctx context.Context, entry string, into io.Writer) error {
	body, size, err := c.open(ctx, "conflicts/get", entry)
	if err != nil {
		return err
	}
	defer body.Close()
	n, err := io.Copy(into, body)
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("%d of %d bytes came: %w", n, size, err)
	}
	return nil
}
