// Package integration tests depotfs as its users meet it: the built programs, real
// mounts, a real S3 server, kills and outages.
//
// It knows nothing of the inside of depotfs. What a test may look at is what an
// operator can look at: the mount, the cache directory, the bucket through an S3
// client of its own, the output of the commands and the log. Several zones of one depot
// are a bed (zones_test.go), each with a line, and where a test wants it a clock, of its own.
//
// # How a run is built
//
// The test binary starts itself a second time, and the second process runs the
// tests (see reaper_test.go). The first makes one directory on a real disk in
// which everything happens, builds the programs into it, and in the end, however
// the tests ended, kills the daemons that run from it and unmounts what lies below
// it. So a test that panics, or is cut short by its timeout, leaves nothing
// behind.
//
// A zone (zone_test.go) is one mount with its own cache and state directory; a
// depot (depot_test.go) is a bucket on a server of its own, with a proxy before it
// where a test wants to spoil the line. Tests wait for conditions with deadlines,
// never for time to pass.
//
// # What it needs
//
// Root, /dev/fuse, and the programs whose users depotfs serves (qemu-img, fio,
// rsync, sqlite3, git, tar). A missing one fails the test that needs it, by the
// name of its Debian package: nothing is skipped.
//
//	DEPOTFS_REQUIRE_PASSTHROUGH=1  fail where the kernel cannot do passthrough
//	DEPOTFS_MODEL_TIME=10m         run the random operations for longer
//	DEPOTFS_MODEL_SEED=7           run them from this seed only
//	DEPOTFS_CRASH_ROUNDS=50        kill the daemon this often
//	DEPOTFS_TEMPLATE_SIZE=2GiB     install a larger template
//	DEPOTFS_RENAME_FILES=10000     rename a directory of more files
package integration
