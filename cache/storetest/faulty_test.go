package storetest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/minio/crc64nvme"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

var content = []byte("0123456789")

// store makes a faulty store that holds content as "x".
func store(t *testing.T, faults ...*storetest.Fault) *storetest.Faulty {
	t.Helper()
	f := storetest.NewFaulty(storetest.NewMem())
	if err := put(t, f, "x"); err != nil {
		t.Fatal(err)
	}
	f.Inject(faults...)
	return f
}

func put(t *testing.T, s cache.Store, key string) error {
	t.Helper()
	_, err := s.Put(t.Context(), key, bytes.NewReader(content), int64(len(content)), cache.PutOptions{CRC64: crc64nvme.Checksum(content), HasCRC64: true})
	return err
}

func get(t *testing.T, s cache.Store) ([]byte, error) {
	t.Helper()
	body, _, err := s.Get(t.Context(), "x", 0, -1, "")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

func TestFail(t *testing.T) {
	f := store(t, storetest.Fail(storetest.Put, cache.ErrDenied).On("y").After(1).Times(2))
	for i, want := range []error{nil, cache.ErrDenied, cache.ErrDenied, nil} {
		if err := put(t, f, "x"); err != nil {
			t.Errorf("another key: %v", err)
		}
		if err := put(t, f, "y"); !errors.Is(err, want) {
			t.Errorf("put %d answers %v, want %v", i, err, want)
		}
	}
	if n := f.Pending(); n != 0 {
		t.Errorf("%d faults left", n)
	}
	if n := f.Calls(storetest.Put); n != 9 {
		t.Errorf("%d puts counted, want 9", n)
	}
}

func TestCutAndCorrupt(t *testing.T) {
	f := store(t, storetest.Cut(storetest.Get, 4), storetest.Corrupt(storetest.Get, 4))
	if data, err := get(t, f); string(data) != "0123" || err != io.ErrUnexpectedEOF {
		t.Errorf("cut: %q, %v", data, err)
	}
	if data, err := get(t, f); len(data) != 10 || data[4] == '4' || data[5] != '5' || err != nil {
		t.Errorf("corrupted: %q, %v", data, err)
	}
	if data, err := get(t, f); !bytes.Equal(data, content) || err != nil {
		t.Errorf("after the faults: %q, %v", data, err)
	}
	f.Inject(storetest.Cut(storetest.Put, 4), storetest.Corrupt(storetest.Put, 4))
	if err := put(t, f, "y"); !errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("cut put answers %v", err)
	}
	if err := put(t, f, "y"); !errors.Is(err, cache.ErrChecksum) {
		t.Errorf("corrupted put answers %v", err)
	}
	if _, err := f.Head(t.Context(), "y"); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("after failed puts: %v", err)
	}
}

func TestLoseAnswer(t *testing.T) {
	f := store(t, storetest.LoseAnswer(storetest.Put))
	if err := put(t, f, "y"); !errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("put answers %v", err)
	}
	if _, err := f.Head(t.Context(), "y"); err != nil {
		t.Errorf("the put did not happen: %v", err)
	}
}

func TestDelayAndBefore(t *testing.T) {
	gate := make(chan struct{})
	f := store(t, storetest.Delay(storetest.Get, gate), storetest.Delay(storetest.Get, gate))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := f.Get(ctx, "x", 0, -1, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("a delayed get whose context ends answers %v", err)
	}
	close(gate)
	if data, err := get(t, f); err != nil || !bytes.Equal(data, content) {
		t.Errorf("released: %q, %v", data, err)
	}
	f.Inject(storetest.Before(storetest.Get, func(ctx context.Context, key string) error { return f.Delete(ctx, key, "") }))
	if _, err := get(t, f); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("after a delete in between: %v", err)
	}
}

func TestDown(t *testing.T) {
	f := store(t)
	body, _, err := f.Get(t.Context(), "x", 0, -1, "")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	f.SetDown(true)
	if _, err := body.Read(make([]byte, 1)); err != io.ErrUnexpectedEOF {
		t.Errorf("a body under way answers %v", err)
	}
	if err := put(t, f, "x"); !errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("put answers %v", err)
	}
	f.SetDown(false)
	if err := put(t, f, "x"); err != nil {
		t.Error(err)
	}
}
