package storetest_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

func TestMem(t *testing.T) {
	storetest.Test(t, func(t *testing.T) (cache.Store, string) { return storetest.NewMem(), "depot/" })
}

func TestMemWithoutPrefix(t *testing.T) {
	storetest.Test(t, func(t *testing.T) (cache.Store, string) { return storetest.NewMem(), "" })
}

// A Faulty without faults must not be felt.
func TestFaultyWithoutFaults(t *testing.T) {
	storetest.Test(t, func(t *testing.T) (cache.Store, string) {
		return storetest.NewFaulty(storetest.NewMem()), "depot/"
	})
}

func TestMemSmallPages(t *testing.T) {
	storetest.Test(t, func(t *testing.T) (cache.Store, string) {
		m := storetest.NewMem()
		m.PageSize = 7
		return m, ""
	})
}

func TestMemClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMem()
		at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
		m.SetClock(func() time.Time { return at })
		if _, err := m.Put(t.Context(), "x", bytes.NewReader(nil), 0, cache.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		info, err := m.Head(t.Context(), "x")
		if err != nil || !info.Modified.Equal(at) || !info.Date.Equal(at) {
			t.Errorf("modified %v, date %v, error %v; want the clock that was set, %v", info.Modified, info.Date, err, at)
		}
	})
}

// S3 keeps "a", "a/" and "a/b" apart.
func TestMemKeyBesideFolder(t *testing.T) {
	m := storetest.NewMem()
	for _, key := range []string{"a", "a/", "a/b"} {
		if _, err := m.Put(t.Context(), key, bytes.NewReader(nil), 0, cache.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	err := m.List(t.Context(), cache.ListQuery{Delimiter: "/"}, func(p cache.ListPage) error {
		if len(p.Objects) != 1 || p.Objects[0].Key != "a" || len(p.Prefixes) != 1 || p.Prefixes[0] != "a/" {
			t.Errorf("listed %+v", p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
