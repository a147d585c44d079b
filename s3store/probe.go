package s3store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/crc64nvme"

	"depotfs/cache"
)

// Probe implements cache.Store. From then on the Store relies on what was found
// and makes up for the rest. It takes about 35 small requests.
//
// The ability to list uploads by prefix, and to guard the target of a copy, is
// found out too, and only used here. ClockSkew is the store's clock minus ours,
// good to a second.
func (s *Store) Probe(ctx context.Context, scratch string) (caps cache.Capabilities, err error) {
	ctx, c := newCall(ctx, kindBucket, "")
	// A second Store with its own abilities, so that what is not proven yet
	// disturbs no other request.
	p := &probe{
		s:   &Store{cfg: s.cfg, keys: s.keys, trans: s.trans, client: s.client},
		ctx: ctx, key: scratch + "probe-" + rand.Text(), can: assumed,
	}
	p.learn()
	defer func() {
		if cleanErr := p.clean(); err == nil {
			err = cleanErr
		}
		if err != nil {
			caps, err = cache.Capabilities{}, fmt.Errorf("probe of %s: %w", s.cfg.where(), err)
			return
		}
		found := p.can
		s.can.Store(&found)
	}()
	for _, step := range []func(*call) error{p.bucket, p.puts, p.deletes, p.copies, p.copied, p.multipart} {
		if err := step(c); err != nil {
			return cache.Capabilities{}, err
		}
		p.learn()
	}
	p.can.ClockSkew, p.can.Server = c.clock()
	return p.can.Capabilities, nil
}

// probe is one run of Probe. Its objects are key and key + a suffix.
type probe struct {
	s      *Store
	ctx    context.Context
	key    string
	can    abilities
	etag   string // of the object at key
	upload string // the open upload of key + "-multi"
	stored bool   // there may be something to clean
}

// learn makes p.s rely on what was found so far.
func (p *probe) learn() {
	found := p.can
	p.s.can.Store(&found)
}

// probeData is what the probe stores.
var probeData = []byte("depotfs asks what this store can do")

// wrongETag is a version that is nowhere.
const wrongETag = "00000000000000000000000000000000"

// inability says whether an answer means "this store cannot", as opposed to
// "nobody could tell".
func inability(err error) bool {
	return errors.Is(err, cache.ErrRejected) || errors.Is(err, cache.ErrChanged) || errors.Is(err, cache.ErrChecksum) ||
		errors.Is(err, cache.ErrNotFound)
}

// bucket asks whether bucket and keys are good at all, by requests whose
// answers have a body that says why not.
func (p *probe) bucket(c *call) error {
	_, err := p.s.client.ListObjectsV2(p.ctx, &s3.ListObjectsV2Input{Bucket: p.s.bucket(), Prefix: &p.key, MaxKeys: aws.Int32(1)})
	if err != nil {
		return p.s.fail(p.ctx, c, err)
	}
	c.next()
	versions, err := p.s.client.GetBucketVersioning(p.ctx, &s3.GetBucketVersioningInput{Bucket: p.s.bucket()})
	if err != nil {
		// Not every key may ask, not every store knows the question.
		if err = p.s.fail(p.ctx, c, err); inability(err) || errors.Is(err, cache.ErrDenied) {
			return nil
		}
		return err
	}
	p.can.Versioning = versions.Status == types.BucketVersioningStatusEnabled
	return nil
}

// put stores probeData as p.key + suffix, relying on what was found so far.
func (p *probe) put(suffix string, o cache.PutOptions) (cache.ObjectInfo, error) {
	p.stored = true
	ctx, c := newCall(p.ctx, kindPut, p.key+suffix)
	return p.s.put(ctx, c, bytes.NewReader(probeData), int64(len(probeData)), o, &p.can)
}

func (p *probe) puts(*call) error {
	right := cache.PutOptions{CRC64: crc64nvme.Checksum(probeData), HasCRC64: true}
	wrong := right
	wrong.CRC64++
	switch _, err := p.put("-sum", wrong); {
	case err == nil:
		p.can.CRC64 = false
	case errors.Is(err, cache.ErrChecksum):
	case inability(err):
		p.can.CRC64 = false
	default:
		return err
	}
	right.IfNoneMatch = true
	info, err := p.put("", right)
	if err != nil && inability(err) {
		p.can.ConditionalPut = false
		info, err = p.put("", right)
	}
	if err != nil {
		return err
	}
	p.etag = info.ETag
	if !p.can.ConditionalPut {
		return nil
	}
	for _, o := range []cache.PutOptions{right, {CRC64: right.CRC64, HasCRC64: true, IfMatch: wrongETag}} {
		switch info, err := p.put("", o); {
		case err == nil:
			p.can.ConditionalPut, p.etag = false, info.ETag
			return nil
		case errors.Is(err, cache.ErrChanged):
		case inability(err):
			p.can.ConditionalPut = false
			return nil
		default:
			return err
		}
	}
	return nil
}

func (p *probe) deletes(*call) error {
	if _, err := p.put("-delete", cache.PutOptions{CRC64: crc64nvme.Checksum(probeData), HasCRC64: true}); err != nil {
		return err
	}
	ctx, c := newCall(p.ctx, kindDelete, p.key+"-delete")
	err := p.s.remove(ctx, c, wrongETag)
	p.can.ConditionalDelete = errors.Is(err, cache.ErrChanged)
	if err != nil && !inability(err) {
		return err
	}
	if p.can.ConditionalDelete { // it must not only say so
		_, err := p.s.Head(p.ctx, p.key+"-delete")
		if err != nil && !inability(err) {
			return err
		}
		p.can.ConditionalDelete = err == nil
	}
	return nil
}

func (p *probe) copies(*call) error {
	p.can.conditionalCopy = true
	ctx, c := newCall(p.ctx, kindCopy, p.key)
	// Metadata is replaced: else it would be refused as a copy onto itself.
	_, err := p.s.copyWhole(ctx, c, p.key, p.etag, int64(len(probeData)), cache.PutOptions{IfNoneMatch: true, Metadata: map[string]string{"probe": "1"}}, &p.can)
	p.can.conditionalCopy = errors.Is(err, cache.ErrChanged)
	if err != nil && !inability(err) {
		return err
	}
	info, err := p.s.Head(p.ctx, p.key) // it may be a new version now
	if err != nil {
		return err
	}
	p.etag = info.ETag
	return nil
}

// What the multipart part of the probe works with: some bytes from the middle of
// probeData, which stores that take the whole object for a range get wrong.
const probeFirst, probeLast = 8, 12

func (p *probe) target() string { return p.key + "-multi" }

// begin opens an upload of those bytes, copied or sent.
func (p *probe) begin(copied bool) (parts []cache.Part, err error) {
	id, err := p.s.create(p.ctx, p.target(), cache.PutOptions{}, copied)
	if err != nil {
		return nil, err
	}
	p.upload = id
	data := probeData[probeFirst:probeLast]
	var part cache.Part
	if copied {
		ctx, c := newCall(p.ctx, kindPartCopy, p.target())
		part, err = p.s.copyPart(ctx, c, uploadID(id), 1, p.key, p.etag, probeFirst, probeLast-probeFirst)
	} else {
		part, err = p.s.PutPart(p.ctx, p.target(), id, 1, bytes.NewReader(data), int64(len(data)), crc64nvme.Checksum(data))
	}
	return []cache.Part{part}, err
}

func (p *probe) complete(parts []cache.Part, o cache.PutOptions) error {
	ctx, c := newCall(p.ctx, kindComplete, p.target())
	_, err := p.s.complete(ctx, c, uploadID(p.upload), parts, probeLast-probeFirst, o, &p.can)
	if err == nil {
		p.upload = ""
	}
	return err
}

// copied finds out whether parts can be copied, in an upload with checksums
// and, if not, in a plain one.
func (p *probe) copied(*call) error {
	data := probeData[probeFirst:probeLast]
	right := cache.PutOptions{CRC64: crc64nvme.Checksum(data), HasCRC64: true}
	try := func() (bool, error) {
		p.learn()
		parts, err := p.begin(true)
		if err == nil {
			if err = p.complete(parts, right); err == nil {
				return p.holds(data)
			}
		}
		if !inability(err) {
			return false, err
		}
		return false, p.abort()
	}
	var err error
	if p.can.CRC64 {
		p.can.copiedSums = true
		if p.can.copiedSums, err = try(); err != nil || p.can.copiedSums {
			return err
		}
	}
	p.can.CopyPart, err = try()
	return err
}

// multipart tries completions that must be refused, then one that must not.
func (p *probe) multipart(*call) error {
	data := probeData[probeFirst:probeLast]
	sum := crc64nvme.Checksum(data)
	if _, err := p.put("-multi", cache.PutOptions{CRC64: crc64nvme.Checksum(probeData), HasCRC64: true}); err != nil {
		return err
	}
	parts, err := p.begin(false)
	if err != nil {
		return err
	}
	listed, err := p.s.listUploads(p.ctx, p.key, p.key)
	if err != nil && !inability(err) {
		return err
	}
	p.can.uploadsByPrefix = len(listed) == 1

	for _, try := range []struct {
		ability *bool
		o       cache.PutOptions
		answer  error
	}{
		{&p.can.CRC64, cache.PutOptions{CRC64: sum + 1, HasCRC64: true}, cache.ErrChecksum},
		{&p.can.ConditionalComplete, cache.PutOptions{CRC64: sum, HasCRC64: true, IfNoneMatch: true}, cache.ErrChanged},
		{&p.can.ConditionalComplete, cache.PutOptions{CRC64: sum, HasCRC64: true, IfMatch: wrongETag}, cache.ErrChanged},
	} {
		if !*try.ability {
			continue
		}
		if p.upload == "" {
			if parts, err = p.begin(false); err != nil {
				return err
			}
		}
		err := p.complete(parts, try.o)
		if errors.Is(err, cache.ErrNotFound) { // the refusal before has ended the upload
			if parts, err = p.begin(false); err != nil {
				return err
			}
			err = p.complete(parts, try.o)
		}
		if err != nil && !inability(err) {
			return err
		}
		*try.ability = errors.Is(err, try.answer)
		p.learn()
	}
	return p.abort()
}

// holds says whether the target has these bytes, with their checksum.
func (p *probe) holds(want []byte) (bool, error) {
	got, err := p.s.Head(p.ctx, p.target())
	if err != nil {
		return false, err
	}
	if got.Size != int64(len(want)) || got.HasCRC64 && got.CRC64 != crc64nvme.Checksum(want) {
		return false, nil
	}
	data, err := p.s.fetch(p.ctx, p.target(), 0, got.Size, got.ETag)
	return bytes.Equal(data, want), err
}

func (p *probe) abort() error {
	id := p.upload
	p.upload = ""
	if id == "" {
		return nil
	}
	return p.s.AbortMultipart(p.ctx, p.target(), id)
}

// clean removes everything, whatever became of the probe's context.
func (p *probe) clean() error {
	if !p.stored {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), cleanupTime)
	defer cancel()
	var errs []error
	if p.upload != "" {
		errs = append(errs, p.s.AbortMultipart(ctx, p.target(), p.upload))
	}
	for _, suffix := range []string{"", "-sum", "-delete", "-multi"} {
		if p.can.Versioning {
			errs = append(errs, p.cleanVersions(ctx, p.key+suffix))
			continue
		}
		deleteCtx, c := newCall(ctx, kindDelete, p.key+suffix)
		errs = append(errs, p.s.remove(deleteCtx, c, ""))
	}
	return errors.Join(errs...)
}

// cleanVersions removes all versions of a key for good.
func (p *probe) cleanVersions(ctx context.Context, key string) error {
	ctx, c := newCall(ctx, kindDelete, key)
	out, err := p.s.client.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: p.s.bucket(), Prefix: &key})
	if err != nil {
		return p.s.fail(ctx, c, err)
	}
	var errs []error
	remove := func(k, id *string) {
		if aws.ToString(k) == key {
			c.next()
			_, err := p.s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: p.s.bucket(), Key: k, VersionId: id})
			errs = append(errs, p.s.fail(ctx, c, err))
		}
	}
	for _, v := range out.Versions {
		remove(v.Key, v.VersionId)
	}
	for _, m := range out.DeleteMarkers {
		remove(m.Key, m.VersionId)
	}
	return errors.Join(errs...)
}
