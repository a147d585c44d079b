package s3store

import (
	"net/url"
	"strings"
	"testing"
)

func FuzzEndpoint(f *testing.F) {
	for _, seed := range []string{"", "store", "store:9000", "http://[::1]:9", "https://u:pw@h/p", "h/../x", "%zz", "http://", "a b", "://", "h?x#y"} {
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, endpoint string, secure bool) {
		c := Config{Bucket: "depot", Endpoint: endpoint, UseHTTPS: secure}
		text, err := c.endpointURL()
		if err != nil || text == "" {
			return
		}
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
			t.Errorf("%q becomes %q (%v)", endpoint, text, err)
		}
		if _, err := New(c); err != nil && !strings.Contains(err.Error(), "store settings") {
			t.Errorf("%q: %v", endpoint, err)
		}
	})
}

func FuzzChecksum(f *testing.F) {
	f.Add(uint64(0), "AAAAAAAAAAc=")
	f.Fuzz(func(t *testing.T, sum uint64, text string) {
		if got, ok := decodeCRC(encodeCRC(sum), ""); !ok || got != sum {
			t.Errorf("%x comes back as %x, %v", sum, got, ok)
		}
		decodeCRC(&text, "")
	})
}

// The header of a copy must name exactly the key, whatever is in it.
func FuzzSource(f *testing.F) {
	for _, seed := range []string{"a/b", "sp ace", "plus+", "per%cent", "what?", "hash#", "ünï", "a//b", "../x"} {
		f.Add(seed)
	}
	s := &Store{cfg: Config{Bucket: "depot"}}
	f.Fuzz(func(t *testing.T, key string) {
		for _, decode := range []func(string) (string, error){url.PathUnescape, url.QueryUnescape} {
			got, err := decode(*s.source(key))
			if err != nil || got != "depot/"+key {
				t.Errorf("%q comes back as %q, %v", key, got, err)
			}
		}
	})
}
