package storetest

import (
	"bytes"
	"maps"
	"slices"

	"github.com/minio/crc64nvme"

	"depotfs/cache"
)

func testCopyPart(f *fixture) {
	old := random(11, 2*partSize)
	src := f.put("old", old)
	fresh := random(12, 1000)
	id := f.upload("new", cache.PutOptions{})
	_, err := f.s.CopyPart(f.ctx, f.key("new"), id, 1, f.key("old"), "0123456789abcdef0123456789abcdef", 0, partSize)
	f.want(err, cache.ErrChanged)
	_, err = f.s.CopyPart(f.ctx, f.key("new"), id, 1, f.key("nothing"), "", 0, partSize)
	f.want(err, cache.ErrNotFound)
	copied, err := f.s.CopyPart(f.ctx, f.key("new"), id, 1, f.key("old"), src.ETag, 1000, partSize)
	f.must(err)
	if copied.Number != 1 || copied.Size != partSize || copied.ETag == "" {
		f.Errorf("copied part is %+v", copied)
	}
	sent := f.part("new", id, 2, fresh)
	whole := slices.Concat(old[1000:1000+partSize], fresh)
	_, err = f.s.CompleteMultipart(f.ctx, f.key("new"), id, []cache.Part{copied, sent}, int64(len(whole)), sum(cache.PutOptions{}, whole))
	f.must(err)
	f.holds("new", whole)
	f.holds("old", old)
}

// testCopyPartDelta makes a version of another, as an upload of few changes does:
// what was copied has not passed through here, and the whole has its checksum.
func testCopyPartDelta(f *fixture) {
	old := random(16, 3*partSize+1000)
	src := f.put("image", old)
	fresh := random(17, partSize)
	want := slices.Concat(old[:partSize], fresh, old[2*partSize:])
	before := f.s.Usage()
	meta := map[string]string{"file-mtime": "5ns"}
	id := f.upload("image", cache.PutOptions{Copies: true, Metadata: meta})
	copied := func(n, off, end int) cache.Part {
		p, err := f.s.CopyPart(f.ctx, f.key("image"), id, n, f.key("image"), src.ETag, int64(off), int64(end-off))
		f.must(err)
		if p.Number != n || p.Size != int64(end-off) || p.ETag == "" {
			f.Fatalf("copied part is %+v, want number %d with %d bytes", p, n, end-off)
		}
		if p.HasCRC64 && p.CRC64 != crc64nvme.Checksum(old[off:end]) {
			f.Errorf("copied part %d has checksum %016x", n, p.CRC64)
		}
		p.CRC64, p.HasCRC64 = crc64nvme.Checksum(old[off:end]), true // as who knows the image passes it on
		return p
	}
	parts := []cache.Part{copied(1, 0, partSize), f.part("image", id, 2, fresh), copied(3, 2*partSize, len(old))}
	listed, err := f.s.ListParts(f.ctx, f.key("image"), id)
	f.must(err)
	for i, p := range parts {
		if len(listed) != len(parts) || listed[i].ETag != p.ETag || listed[i].Size != p.Size {
			f.Fatalf("listed are %+v, want %+v", listed, parts)
		}
	}
	if after := f.s.Usage(); after.BytesSent-before.BytesSent != partSize || after.BytesReceived != before.BytesReceived {
		f.Errorf("%d bytes were sent and %d received, want %d and 0", after.BytesSent-before.BytesSent, after.BytesReceived-before.BytesReceived, partSize)
	}
	o := sum(cache.PutOptions{IfMatch: src.ETag}, want)
	done, err := f.s.CompleteMultipart(f.ctx, f.key("image"), id, parts, int64(len(want)), o)
	f.must(err)
	f.holds("image", want)
	head, err := f.s.Head(f.ctx, f.key("image"))
	f.must(err)
	if head.ETag != done.ETag || !maps.Equal(head.Metadata, meta) || head.HasCRC64 && head.CRC64 != o.CRC64 {
		f.Errorf("the object is %+v, complete answered %+v", head, done)
	}
}

// copySizes has one size that a store with a low threshold copies in parts.
var copySizes = []int{0, 1000, partSize + 1000}

func testCopy(f *fixture) {
	meta := map[string]string{"file-permissions": "0100644", "file-owner": "7"}
	for i, size := range copySizes {
		data := random(13, size)
		src, err := f.s.Put(f.ctx, f.key("src"), bytes.NewReader(data), int64(size), sum(cache.PutOptions{Metadata: meta}, data))
		f.must(err)
		for _, c := range []struct {
			name string
			meta map[string]string
			want map[string]string
		}{
			{"same metadata", nil, meta},
			{"new metadata", map[string]string{"file-owner": "8"}, map[string]string{"file-owner": "8"}},
			{"no metadata", map[string]string{}, nil},
		} {
			dst, err := f.s.Copy(f.ctx, f.key("src"), src.ETag, f.key(c.name), int64(size), sum(cache.PutOptions{Metadata: c.meta}, data))
			f.must(err)
			f.holds(c.name, data)
			head, err := f.s.Head(f.ctx, f.key(c.name))
			f.must(err)
			if dst.ETag == "" || dst.ETag != head.ETag || dst.Size != int64(size) || head.Size != int64(size) {
				f.Errorf("%d bytes, %s: copy answers %+v, the object is %+v", copySizes[i], c.name, dst, head)
			}
			if !maps.Equal(head.Metadata, c.want) {
				f.Errorf("%d bytes, %s: metadata is %v, want %v", size, c.name, head.Metadata, c.want)
			}
			if head.HasCRC64 && head.CRC64 != sum(cache.PutOptions{}, data).CRC64 {
				f.Errorf("%d bytes, %s: checksum is %016x", size, c.name, head.CRC64)
			}
		}
		f.holds("src", data)
	}
}

func testCopyGuards(f *fixture) {
	for _, size := range copySizes {
		data := random(14, size)
		src := f.put("src", data)
		there := f.put("there", []byte("there before"))
		n := int64(size)
		refused := func(src, etag, dst string, want error, o cache.PutOptions) {
			f.Helper()
			_, err := f.s.Copy(f.ctx, f.key(src), etag, f.key(dst), n, o)
			f.want(err, want)
		}
		refused("src", there.ETag, "dst", cache.ErrChanged, cache.PutOptions{})
		refused("nothing", "", "dst", cache.ErrNotFound, cache.PutOptions{})
		refused("src", src.ETag, "there", cache.ErrChanged, cache.PutOptions{IfNoneMatch: true})
		refused("src", src.ETag, "there", cache.ErrChanged, cache.PutOptions{IfMatch: src.ETag})
		refused("src", src.ETag, "dst", cache.ErrChanged, cache.PutOptions{IfMatch: src.ETag})
		f.absent("dst")
		f.holds("there", []byte("there before"))

		_, err := f.s.Copy(f.ctx, f.key("src"), src.ETag, f.key("dst"), n, cache.PutOptions{IfNoneMatch: true})
		f.must(err)
		f.holds("dst", data)
		_, err = f.s.Copy(f.ctx, f.key("src"), src.ETag, f.key("there"), n, cache.PutOptions{IfMatch: there.ETag})
		f.must(err)
		f.holds("there", data)
		f.must(f.s.Delete(f.ctx, f.key("dst"), ""))
	}
	uploads, err := f.s.ListMultiparts(f.ctx, f.prefix)
	f.must(err)
	if len(uploads) != 0 {
		f.Errorf("copies left uploads behind: %+v", uploads)
	}
}

// testCopyReplace gives an object new metadata in its place.
func testCopyReplace(f *fixture) {
	for _, size := range copySizes {
		data := random(15, size)
		src := f.put("x", data)
		meta := map[string]string{"file-mtime": "5ns"}
		_, err := f.s.Copy(f.ctx, f.key("x"), src.ETag, f.key("x"), int64(size), cache.PutOptions{Metadata: meta})
		f.must(err)
		f.holds("x", data)
		head, err := f.s.Head(f.ctx, f.key("x"))
		f.must(err)
		if !maps.Equal(head.Metadata, meta) {
			f.Errorf("%d bytes: metadata is %v, want %v", size, head.Metadata, meta)
		}
	}
}
