// Command depotfs-store is an S3-compatible server for trying depotfs out and
// for its tests: one process, one directory, no set-up.
//
// versitygw does the work; this program chooses its settings. Each bucket is a
// folder of the directory and each object a plain file in it, at the path that
// its key spells; entity tags, checksums and user metadata are extended
// attributes of the files, or files of a sidecar directory where the file
// system keeps no user attributes (meta.go). A bucket comes into being when a
// signed request first names it (buckets.go).
//
// It is not a production store: one root key pair, plain HTTP, no replication,
// no fsync of objects. A kill loses nothing that was answered, a power cut may.
//
// The program is a module of its own so that depotfs does not gain versitygw's
// dependencies.
package main
