package s3store_test

import (
	"testing"

	"depotfs/cache"
	"depotfs/cache/storetest"
	"depotfs/s3store"
	"depotfs/s3store/s3test"
)

// config is for a new bucket of a server.
func config(t *testing.T, server *s3test.Server) s3store.Config {
	t.Helper()
	return s3store.Config{
		Bucket: server.NewBucket(t), Endpoint: server.Endpoint,
		AccessKey: s3store.Secret(server.AccessKey), SecretKey: s3store.Secret(server.SecretKey),
	}
}

// open makes a Store that is closed when the test ends.
func open(t *testing.T, cfg s3store.Config) *s3store.Store {
	t.Helper()
	s, err := s3store.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// eachServer runs a test on every kind of server.
func eachServer(t *testing.T, run func(t *testing.T, server *s3test.Server)) {
	for _, kind := range s3test.Kinds {
		t.Run(kind.Name, func(t *testing.T) { run(t, s3test.Start(t, kind)) })
	}
}

func TestContract(t *testing.T) {
	eachServer(t, func(t *testing.T, server *s3test.Server) {
		storetest.Test(t, func(t *testing.T) (cache.Store, string) {
			s := open(t, config(t, server))
			if _, err := s.Probe(t.Context(), "depot/.depotfs/probe/"); err != nil {
				t.Fatal(err)
			}
			return s, "depot/"
		})
	})
}

// Without a probe the contract holds as well; large copies go in parts.
func TestContractUnprobed(t *testing.T) {
	eachServer(t, func(t *testing.T, server *s3test.Server) {
		storetest.Test(t, func(t *testing.T) (cache.Store, string) {
			cfg := config(t, server)
			cfg.CopyPartThreshold = 5 << 20
			return open(t, cfg), ""
		})
	})
}
