// Command bench compares depotfs with the directory behind it and with its peers,
// and prints one table; `make bench` runs it. docs/benchmarks.md says how to read it.
//
// The table has two sections. In the first all files are here, and the figure to
// beat is that of the bare directory. In the second the bytes are behind a line of
// 20 ms to the embedded store, and the figure to reach is that of a plain program
// which uses the same SDK with the same parallelism.
//
// A column is a file system (column.go), a row is a workload (sequential.go,
// random.go, small.go, images.go, cold.go, upload.go). In every round each row runs
// in all columns one after the other, and ratios are taken within the round, so
// that a machine that drifts does not change them (bench.go). What is not installed
// has no column.
//
// All state is below one temporary directory. Mounts, servers and the directory go
// at the end, also after ctrl-C or SIGTERM.
package main
