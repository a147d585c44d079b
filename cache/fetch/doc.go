// Package fetch decides which ranges of a file are asked for, in which order, and
// when: the thinking half of fault-in. It does no I/O, starts no goroutine and takes
// no lock; everything belongs to its owner's lock, and time comes in from outside.
package fetch
