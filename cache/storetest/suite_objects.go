package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"depotfs/cache"
)

func testRoundTrip(f *fixture) {
	for _, size := range []int{0, 1, 4096, 5<<20 + 1} {
		name := fmt.Sprintf("size-%d", size)
		data := random(1, size)
		before := time.Now()
		put := f.put(name, data)
		if put.ETag == "" || strings.Contains(put.ETag, `"`) || put.Key != f.key(name) || put.Size != int64(size) {
			f.Errorf("%d bytes: put answers %+v", size, put)
		}
		got := f.holds(name, data)
		head, err := f.s.Head(f.ctx, f.key(name))
		f.must(err)
		for _, info := range []cache.ObjectInfo{got, head} {
			if info.Key != f.key(name) || info.Size != int64(size) || info.ETag != put.ETag {
				f.Errorf("%d bytes: described as %+v, put answered %+v", size, info, put)
			}
			if age := info.Modified.Sub(before); age < -10*time.Minute || age > 10*time.Minute {
				f.Errorf("%d bytes: modified at %v, it is %v", size, info.Modified, before)
			}
		}
		if want := sum(cache.PutOptions{}, data).CRC64; head.HasCRC64 && head.CRC64 != want {
			f.Errorf("%d bytes: checksum %016x, want %016x", size, head.CRC64, want)
		}
	}
}

func testMetadata(f *fixture) {
	meta := map[string]string{
		"file-permissions": "0100644", "file-owner": "1000", "file-mtime": "1700000000123456789ns", "note": "two words; a=b, 100 %",
	}
	data := []byte("content")
	_, err := f.s.Put(f.ctx, f.key("x"), bytes.NewReader(data), int64(len(data)), sum(cache.PutOptions{Metadata: meta, ContentType: "text/plain"}, data))
	f.must(err)
	head, err := f.s.Head(f.ctx, f.key("x"))
	f.must(err)
	_, get := f.get("x", 2, 3, "")
	for _, info := range []cache.ObjectInfo{head, get} {
		if !maps.Equal(info.Metadata, meta) {
			f.Errorf("metadata is %v, want %v", info.Metadata, meta)
		}
	}
	f.put("x", data)
	if head, err = f.s.Head(f.ctx, f.key("x")); err != nil || len(head.Metadata) != 0 {
		f.Errorf("an overwrite without metadata leaves %v, %v", head.Metadata, err)
	}
}

func testMissing(f *fixture) {
	_, err := f.s.Head(f.ctx, f.key("nothing"))
	f.want(err, cache.ErrNotFound)
	_, _, err = f.s.Get(f.ctx, f.key("nothing"), 0, -1, "")
	f.want(err, cache.ErrNotFound)
	_, _, err = f.s.Get(f.ctx, f.key("nothing"), 10, 5, "")
	f.want(err, cache.ErrNotFound)
	if keys, prefixes := f.list(cache.ListQuery{}); len(keys)+len(prefixes) != 0 {
		f.Errorf("nothing lists as %q, %q", keys, prefixes)
	}
}

func testRange(f *fixture) {
	data := random(2, 100_000)
	f.put("x", data)
	f.put("empty", nil)
	size := int64(len(data))
	for _, r := range []struct {
		name           string
		offset, length int64
	}{
		{"whole", 0, size}, {"first byte", 0, 1}, {"middle", 1000, 5000}, {"last byte", size - 1, 1}, {"to the end", 40_000, -1},
		{"suffix", size - 10, -1}, {"beyond the end", size - 10, 1000}, {"more than there is", 0, size + 1}, {"nothing", 7, 0},
	} {
		got, info := f.get("x", r.offset, r.length, "")
		want := data[r.offset:]
		if r.length >= 0 && r.length < int64(len(want)) {
			want = want[:r.length]
		}
		if !bytes.Equal(got, want) {
			f.Errorf("%s: %d bytes, want %d", r.name, len(got), len(want))
		}
		if info.Size != size {
			f.Errorf("%s: size is %d, want that of the object, %d", r.name, info.Size, size)
		}
	}
	for _, length := range []int64{-1, 0, 1, 1000} {
		if got, info := f.get("empty", 0, length, ""); len(got) != 0 || info.Size != 0 {
			f.Errorf("an empty object answers %d bytes, size %d", len(got), info.Size)
		}
	}
	for _, offset := range []int64{size, size + 1000} {
		_, _, err := f.s.Get(f.ctx, f.key("x"), offset, 10, "")
		f.want(err, cache.ErrRejected)
	}
}

func testGetIfMatch(f *fixture) {
	old := f.put("x", []byte("old"))
	if got, _ := f.get("x", 0, -1, old.ETag); string(got) != "old" {
		f.Errorf("the version that is there reads %q", got)
	}
	f.put("x", []byte("new"))
	_, _, err := f.s.Get(f.ctx, f.key("x"), 0, -1, old.ETag)
	f.want(err, cache.ErrChanged)
	_, _, err = f.s.Get(f.ctx, f.key("x"), 1, 1, old.ETag)
	f.want(err, cache.ErrChanged)
	f.must(f.s.Delete(f.ctx, f.key("x"), ""))
	_, _, err = f.s.Get(f.ctx, f.key("x"), 0, -1, old.ETag)
	f.want(err, cache.ErrNotFound)
}

func testPutIfNoneMatch(f *fixture) {
	first := []byte("first")
	_, err := f.s.Put(f.ctx, f.key("x"), bytes.NewReader(first), 5, sum(cache.PutOptions{IfNoneMatch: true}, first))
	f.must(err)
	_, err = f.s.Put(f.ctx, f.key("x"), strings.NewReader("other"), 5, cache.PutOptions{IfNoneMatch: true})
	f.want(err, cache.ErrChanged)
	f.holds("x", first)
	f.must(f.s.Delete(f.ctx, f.key("x"), ""))
	_, err = f.s.Put(f.ctx, f.key("x"), strings.NewReader("again"), 5, cache.PutOptions{IfNoneMatch: true})
	f.must(err)
	f.holds("x", []byte("again"))
}

func testPutIfMatch(f *fixture) {
	one := f.put("x", []byte("one"))
	two, err := f.s.Put(f.ctx, f.key("x"), strings.NewReader("two"), 3, cache.PutOptions{IfMatch: one.ETag})
	f.must(err)
	_, err = f.s.Put(f.ctx, f.key("x"), strings.NewReader("bad"), 3, cache.PutOptions{IfMatch: one.ETag})
	f.want(err, cache.ErrChanged)
	f.holds("x", []byte("two"))
	f.must(f.s.Delete(f.ctx, f.key("x"), ""))
	_, err = f.s.Put(f.ctx, f.key("x"), strings.NewReader("bad"), 3, cache.PutOptions{IfMatch: two.ETag})
	f.want(err, cache.ErrChanged)
	f.absent("x")
}

func testPutRace(f *fixture) {
	const writers = 8
	// All bytes differ: the same bytes would be the same version.
	race := func(o cache.PutOptions) string {
		var wg sync.WaitGroup
		errs := make([]error, writers)
		for i := range writers {
			wg.Go(func() {
				data := fmt.Appendf(nil, "writer %d over %q", i, o.IfMatch)
				_, errs[i] = f.s.Put(f.ctx, f.key("x"), bytes.NewReader(data), int64(len(data)), sum(o, data))
			})
		}
		wg.Wait()
		winner := ""
		for i, err := range errs {
			switch {
			case err == nil && winner != "":
				f.Fatalf("%s and writer %d have won; all answers: %v", winner, i, errs)
			case err == nil:
				winner = fmt.Sprintf("writer %d over %q", i, o.IfMatch)
			default:
				f.want(err, cache.ErrChanged)
			}
		}
		if winner == "" {
			f.Fatal("no writer has won")
		}
		return winner
	}
	caps, err := f.s.Probe(f.ctx, f.key("probe/"))
	f.must(err)
	if !caps.ConditionalPut {
		f.Log("this store has no conditional writes: a race of writers has no rules")
		return
	}
	info := f.holds("x", []byte(race(cache.PutOptions{IfNoneMatch: true})))
	f.holds("x", []byte(race(cache.PutOptions{IfMatch: info.ETag})))
}

func testPutChecksum(f *fixture) {
	data := random(3, 100_000)
	wrong := sum(cache.PutOptions{}, data)
	wrong.CRC64++
	_, err := f.s.Put(f.ctx, f.key("x"), bytes.NewReader(data), int64(len(data)), wrong)
	f.want(err, cache.ErrChecksum)
	f.absent("x")
	f.put("x", data)
	other := random(4, 100_000)
	_, err = f.s.Put(f.ctx, f.key("x"), bytes.NewReader(other), int64(len(other)), wrong)
	f.want(err, cache.ErrChecksum)
	f.holds("x", data)
}

// brokenBody fails as a file on a bad disk does.
type brokenBody struct{ err error }

func (b brokenBody) ReadAt(p []byte, off int64) (int, error) {
	if off >= 50_000 {
		return 0, b.err
	}
	n := min(len(p), int(50_000-off))
	clear(p[:n])
	if n < len(p) {
		return n, b.err
	}
	return n, nil
}

func testPutBody(f *fixture) {
	data := random(5, 50_000)
	_, err := f.s.Put(f.ctx, f.key("short"), bytes.NewReader(data), 100_000, sum(cache.PutOptions{}, data))
	f.want(err, cache.ErrChecksum)
	f.absent("short")

	disk := errors.New("input/output error")
	_, err = f.s.Put(f.ctx, f.key("broken"), brokenBody{disk}, 100_000, cache.PutOptions{})
	if !errors.Is(err, disk) {
		f.Errorf("a body that cannot be read answers %v, want its own error", err)
	}
	f.absent("broken")

	// What follows after size is not the object's.
	_, err = f.s.Put(f.ctx, f.key("long"), bytes.NewReader(data), 1000, sum(cache.PutOptions{}, data[:1000]))
	f.must(err)
	f.holds("long", data[:1000])
}

func testDelete(f *fixture) {
	f.put("x", []byte("x"))
	f.must(f.s.Delete(f.ctx, f.key("x"), ""))
	f.absent("x")
	f.must(f.s.Delete(f.ctx, f.key("x"), ""))
	f.must(f.s.Delete(f.ctx, f.key("never/was"), ""))
}

func testGuardedDelete(f *fixture) {
	old := f.put("x", []byte("old"))
	now := f.put("x", []byte("new"))
	f.want(f.s.Delete(f.ctx, f.key("x"), old.ETag), cache.ErrChanged)
	f.holds("x", []byte("new"))
	f.must(f.s.Delete(f.ctx, f.key("x"), now.ETag))
	f.absent("x")
	f.must(f.s.Delete(f.ctx, f.key("x"), now.ETag))
}
