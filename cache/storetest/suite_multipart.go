package storetest

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/minio/crc64nvme"

	"depotfs/cache"
)

// partSize is the smallest part that S3 takes.
const partSize = 5 << 20

func testMultipart(f *fixture) {
	data := random(6, 2*partSize+12345)
	meta := map[string]string{"file-permissions": "0100600"}
	id := f.upload("x", cache.PutOptions{Metadata: meta})
	parts := make([]cache.Part, 3)
	var wg sync.WaitGroup
	for _, n := range []int{3, 1, 2} {
		wg.Go(func() {
			chunk := data[(n-1)*partSize : min(n*partSize, len(data))]
			p, err := f.s.PutPart(f.ctx, f.key("x"), id, n, bytes.NewReader(chunk), int64(len(chunk)), crc64nvme.Checksum(chunk))
			if err != nil {
				f.Errorf("part %d: %v", n, err)
			}
			parts[n-1] = p
		})
	}
	wg.Wait()
	if f.Failed() {
		return
	}
	f.absent("x") // nothing is visible before the completion
	done, err := f.s.CompleteMultipart(f.ctx, f.key("x"), id, parts, int64(len(data)), sum(cache.PutOptions{}, data))
	f.must(err)
	if done.Key != f.key("x") || done.Size != int64(len(data)) || done.ETag == "" || strings.Contains(done.ETag, `"`) {
		f.Errorf("complete answers %+v", done)
	}
	f.holds("x", data)
	head, err := f.s.Head(f.ctx, f.key("x"))
	f.must(err)
	if head.ETag != done.ETag || !maps.Equal(head.Metadata, meta) {
		f.Errorf("the object is %+v, complete answered %+v", head, done)
	}
	if head.HasCRC64 && head.CRC64 != crc64nvme.Checksum(data) {
		f.Errorf("checksum is %016x, want that of the whole object, %016x", head.CRC64, crc64nvme.Checksum(data))
	}
}

func testMultipartResume(f *fixture) {
	data := random(7, partSize+1000)
	id := f.upload("x", cache.PutOptions{})
	first := f.part("x", id, 1, data[:partSize])
	f.part("x", id, 4, []byte("a part that will be sent again"))
	last := f.part("x", id, 4, data[partSize:])

	// Another process, which knows the upload only by its name.
	have, err := f.s.ListParts(f.ctx, f.key("x"), id)
	f.must(err)
	if len(have) != 2 {
		f.Fatalf("%d parts listed, want 2: %+v", len(have), have)
	}
	for i, want := range []cache.Part{first, last} {
		got := have[i]
		if got.Number != want.Number || got.Size != want.Size || got.ETag != want.ETag {
			f.Errorf("part %+v is listed as %+v", want, got)
		}
		if got.HasCRC64 && want.HasCRC64 && got.CRC64 != want.CRC64 {
			f.Errorf("part %d is listed with checksum %016x, want %016x", got.Number, got.CRC64, want.CRC64)
		}
	}
	_, err = f.s.CompleteMultipart(f.ctx, f.key("x"), id, have, int64(len(data)), sum(cache.PutOptions{}, data))
	f.must(err)
	f.holds("x", data)
}

func testMultipartChecksum(f *fixture) {
	data := random(8, partSize+1000)
	id := f.upload("x", cache.PutOptions{})
	_, err := f.s.PutPart(f.ctx, f.key("x"), id, 1, bytes.NewReader(data[:partSize]), partSize, 1)
	f.want(err, cache.ErrChecksum)
	parts := []cache.Part{f.part("x", id, 1, data[:partSize]), f.part("x", id, 2, data[partSize:])}

	wrong := sum(cache.PutOptions{}, data)
	wrong.CRC64++
	_, err = f.s.CompleteMultipart(f.ctx, f.key("x"), id, parts, int64(len(data)), wrong)
	f.want(err, cache.ErrChecksum)
	f.absent("x")
	f.must(f.s.AbortMultipart(f.ctx, f.key("x"), id))

	id = f.upload("x", cache.PutOptions{})
	parts = []cache.Part{f.part("x", id, 1, data[:partSize]), f.part("x", id, 2, data[partSize:])}
	_, err = f.s.CompleteMultipart(f.ctx, f.key("x"), id, parts[:1], int64(len(data)), sum(cache.PutOptions{}, data))
	f.want(err, cache.ErrChecksum)
	f.absent("x")
}

func testMultipartConditions(f *fixture) {
	data := random(9, 1000)
	complete := func(o cache.PutOptions) error {
		id := f.upload("x", cache.PutOptions{})
		part := f.part("x", id, 1, data)
		_, err := f.s.CompleteMultipart(f.ctx, f.key("x"), id, []cache.Part{part}, int64(len(data)), sum(o, data))
		return err
	}
	there := f.put("x", []byte("there before"))
	f.want(complete(cache.PutOptions{IfNoneMatch: true}), cache.ErrChanged)
	f.want(complete(cache.PutOptions{IfMatch: "0123456789abcdef0123456789abcdef"}), cache.ErrChanged)
	f.holds("x", []byte("there before"))
	f.must(complete(cache.PutOptions{IfMatch: there.ETag}))
	f.holds("x", data)
	f.must(f.s.Delete(f.ctx, f.key("x"), ""))
	f.want(complete(cache.PutOptions{IfMatch: there.ETag}), cache.ErrChanged)
	f.must(complete(cache.PutOptions{IfNoneMatch: true}))
	f.holds("x", data)
}

func testMultipartUnknown(f *fixture) {
	data := random(10, 1000)
	id := f.upload("x", cache.PutOptions{})
	part := f.part("x", id, 1, data)
	f.must(f.s.AbortMultipart(f.ctx, f.key("x"), id))

	_, err := f.s.CompleteMultipart(f.ctx, f.key("x"), id, []cache.Part{part}, int64(len(data)), sum(cache.PutOptions{}, data))
	f.want(err, cache.ErrNotFound)
	_, err = f.s.ListParts(f.ctx, f.key("x"), id)
	f.want(err, cache.ErrNotFound)
	_, err = f.s.PutPart(f.ctx, f.key("x"), id, 1, bytes.NewReader(data), int64(len(data)), crc64nvme.Checksum(data))
	f.want(err, cache.ErrNotFound)
	f.absent("x")
}

func testMultipartAbort(f *fixture) {
	id := f.upload("x", cache.PutOptions{})
	f.part("x", id, 1, []byte("some bytes"))
	f.must(f.s.AbortMultipart(f.ctx, f.key("x"), id))
	f.must(f.s.AbortMultipart(f.ctx, f.key("x"), id))
	f.absent("x")
	uploads, err := f.s.ListMultiparts(f.ctx, f.prefix)
	f.must(err)
	if len(uploads) != 0 {
		f.Errorf("aborted, and still listed: %+v", uploads)
	}
}

func testListMultiparts(f *fixture) {
	want := map[string]string{}
	for _, name := range []string{"a/1", "a/2", "a b/+%1"} {
		want[f.upload(name, cache.PutOptions{})] = f.key(name)
	}
	other := f.upload("b/1", cache.PutOptions{})
	uploads, err := f.s.ListMultiparts(f.ctx, f.key("a"))
	f.must(err)
	got := map[string]string{}
	for _, u := range uploads {
		got[u.UploadID] = u.Key
		if u.Initiated.IsZero() {
			f.Errorf("%+v began at no time", u)
		}
	}
	if !maps.Equal(got, want) {
		f.Errorf("uploads under a: %v, want %v", got, want)
	}
	uploads, err = f.s.ListMultiparts(f.ctx, f.prefix)
	f.must(err)
	if len(uploads) != len(want)+1 || !slices.ContainsFunc(uploads, func(u cache.MultipartInfo) bool { return u.UploadID == other }) {
		f.Errorf("%d uploads in all, want %d: %+v", len(uploads), len(want)+1, uploads)
	}
}
