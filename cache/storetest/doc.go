// Package storetest holds the contract of cache.Store as an executable suite,
// and two stores for tests: Mem, which keeps everything in memory, and Faulty,
// which makes any store fail in the ways that networks and servers do.
//
// Mem is strict where real servers are: it verifies checksums, refuses small
// parts and odd keys, forgets an upload once it is completed, and gives the same
// ETag to the same bytes. It keeps no versions. Test runs the same subtests over
// Mem here and over real servers in package s3store; what passes there and fails
// here, or the reverse, is an error of Mem.
//
// Tests of package cache that import storetest must be in package cache_test:
// storetest imports cache.
package storetest
