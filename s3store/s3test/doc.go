// Package s3test runs real S3 servers for tests: versitygw and MinIO, built from
// the Go module proxy at pinned versions, on loopback, on ports that the kernel
// chooses, until the test ends.
//
// The servers are built once, with go install, into $DEPOTFS_TOOLS or the user's
// cache directory; a lock file keeps test binaries that run side by side from
// building twice. A server that cannot be built or does not answer fails the
// test: no skip can hide that nothing was tested.
//
// Proxy stands between a client and a server and makes the line slow, or cuts it.
package s3test
