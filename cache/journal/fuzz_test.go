package journal_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"depotfs/cache/journal"
)

// FuzzBatch holds that what was read of a bucket's bytes is written and read again as the
// same. The lines get checksums, which random bytes would not have. Seeds are short: the
// fuzzer spends a minute on making each that is long shorter.
func FuzzBatch(f *testing.F) {
	f.Add(`{"format":1,"zone":"z","seq":1,"epoch":"e","records":2}`, "{\"op\":\"rmdir\",\"path\":\"a\"}\n{\"op\":\"clone\"}", true)
	f.Add(`{"format":1,"zone":"z","seq":9,"made":-1,"epoch":"e","records":1}`, `{"op":"rename","path":"a","from64":"/w=="}`, false)
	f.Add(`{"format":2}`, "", true)
	f.Fuzz(func(t *testing.T, head, body string, whole bool) {
		text := framed(head)
		if whole {
			for line := range strings.Lines(body) {
				text += framed(strings.TrimSuffix(line, "\n"))
			}
		} else {
			text += body
		}
		h, records, bad, err := journal.DecodeBatch([]byte(text))
		if err != nil {
			if len(records)+len(bad) > 0 {
				t.Fatal("records of a batch that could not be read")
			}
			return
		}
		if len(records)+len(bad) == 0 {
			t.Fatal("a batch of nothing, and nobody is told")
		}
		if len(records) == 0 {
			return
		}
		again, err := journal.EncodeBatch(h, records)
		if err != nil {
			t.Fatal(err)
		}
		h2, records2, bad, err := journal.DecodeBatch(again)
		if err != nil || len(bad) > 0 || !reflect.DeepEqual(h2, h) || !slices.Equal(records2, records) {
			t.Fatalf("%+v became %+v, %v, %v", records, records2, bad, err)
		}
	})
}

// FuzzRecord holds the same of one record.
func FuzzRecord(f *testing.F) {
	for _, r := range golden {
		b, err := journal.Encode(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"op":"rename","path64":"/w==","from":"a/..","mode":"0100644","crc64":"0000000000000000","uid":1e3}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := journal.Decode(b)
		if err != nil {
			if r != (journal.Record{}) {
				t.Fatal("part of a record that is not valid")
			}
			return
		}
		again, err := journal.Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		if r2, err := journal.Decode(again); err != nil || r2 != r {
			t.Fatalf("%+v became %+v, %v", r, r2, err)
		}
	})
}

// FuzzIndex holds the same of the index of a checkpoint.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"format":1,"zone":"z","made":1,"epoch":"e","pages":2,"graves":1,"cursors":{"z":7}}`))
	f.Add([]byte(`{"format":2}`))
	f.Add([]byte(`{"format":1,"zone":"z","epoch":"e","pages":1,"graves":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := journal.DecodeIndex(b)
		if err != nil {
			return
		}
		again, err := journal.EncodeIndex(x)
		if err != nil {
			t.Fatal(err)
		}
		y, err := journal.DecodeIndex(again)
		if err != nil || !reflect.DeepEqual(x, y) {
			t.Fatalf("%+v became %+v, %v", x, y, err)
		}
	})
}
