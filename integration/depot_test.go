package integration

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"depotfs/s3store/s3test"
)

// depot is a bucket on a server of its own. What tests do with it past depotfs
// goes through s3test's client, which shares no code with it.
type depot struct {
	*s3test.Bucket
	AccessKey, SecretKey string

	server   *s3test.Server
	endpoint string        // where depotfs finds it
	prefix   string        // "" or ends in /
	zones    *atomic.Int32 // that were made on it: each has a name of its own
}

// newDepot starts a server, which ends with the test.
func newDepot(t testing.TB) *depot {
	t.Helper()
	return depotOn(t, s3test.Start(t, s3test.Versitygw))
}

// depotOn makes a bucket on a server.
func depotOn(t testing.TB, server *s3test.Server) *depot {
	t.Helper()
	return &depot{Bucket: server.OpenBucket(server.NewBucket(t)), AccessKey: server.AccessKey, SecretKey: server.SecretKey,
		server: server, endpoint: server.Endpoint, zones: &atomic.Int32{}}
}

// behindProxy puts a proxy between depotfs and the server.
func (d *depot) behindProxy(t testing.TB) *s3test.Proxy {
	t.Helper()
	p := s3test.NewProxy(t, d.server.Address)
	d.endpoint = p.Endpoint()
	return p
}

// keys lists the objects without depotfs's own.
func (d *depot) keys(t testing.TB) map[string]s3test.Object {
	t.Helper()
	found := map[string]s3test.Object{}
	for _, o := range d.List(t, d.prefix) {
		if name := strings.TrimPrefix(o.Key, d.prefix); !strings.HasPrefix(name, ".depotfs/") {
			found[name] = o
		}
	}
	return found
}

// deadAddress is a loopback address where nobody listens.
func deadAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
