package cache_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"depotfs/cache"
)

// distant is a store behind a line: a request's bytes take their time to be sent, and
// everything takes half a round trip each way. Time is the test's own.
type distant struct {
	cache.Store
	roundTrip, send time.Duration
}

func (s *distant) Put(ctx context.Context, key string, body io.ReaderAt, size int64, o cache.PutOptions) (cache.ObjectInfo, error) {
	time.Sleep(s.send) // in the test's own time, like all here
	if before := o.Before; before != nil {
		if err := before(ctx); err != nil {
			return cache.ObjectInfo{}, err
		}
		o.Before = nil
	}
	time.Sleep(s.roundTrip / 2)       // there
	defer time.Sleep(s.roundTrip / 2) // and back
	return s.Store.Put(ctx, key, body, size, o)
}

// Files of one directory arrive one round trip after another, whatever their bytes
// take; of several directories at once, as many as are sent at once. Each is one request.
func TestRoundTripsOfUploads(t *testing.T) {
	const files, roundTrip, send = 200, 20 * time.Millisecond, 15 * time.Millisecond
	for _, tt := range []struct {
		dirs int
		most time.Duration
	}{
		{1, files*roundTrip + files*roundTrip/10},         // one after the other it would be 35 ms for each
		{10, files * (roundTrip + send) / 4 * 14 / 10},    // four at once; the last directories may be fewer
		{files, files * (roundTrip + send) / 4 * 11 / 10}, // four at once
	} {
		t.Run(fmt.Sprint(tt.dirs), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEnv(t)
				defer e.close()
				e.flush()
				e.c.SetStore(nil, cache.StoreInfo{})
				for i := range files {
					dir := fmt.Sprintf("volumes/%d/", i%tt.dirs)
					e.mkdirAll(dir)
					e.write(fmt.Sprintf("%sf%03d", dir, i), pattern(uint64(i), 100))
				}
				time.Sleep(time.Minute) // all have settled
				before := e.mem.Usage().Requests["put"]
				e.use(&distant{e.store, roundTrip, send})
				start := time.Now()
				e.flush()
				took := time.Since(start)
				t.Logf("%d files in %d directories took %v, %d puts", files, tt.dirs, took, e.mem.Usage().Requests["put"]-before)
				if took > tt.most {
					t.Errorf("%d files in %d directories took %v at a round trip of %v, want %v", files, tt.dirs, took, roundTrip, tt.most)
				}
				if puts, most := e.mem.Usage().Requests["put"]-before, int64(files+tt.dirs+3); puts > most { // a look at the share in between may touch a marker
					t.Errorf("%d files took %d requests", files, puts)
				}
			})
		})
	}
}
