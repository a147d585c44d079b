// Package fetch decides which ranges of a file are asked for, in which order, and
// when: the thinking half of fault-in. It does no I/O, starts no goroutine and takes
// no lock; everything belongs to its owner's lock, and time comes in from outside.
//
//   - Streams looks at the reads of one open file, finds the sequential ones among
//     them, and says how far ahead of each to fetch.
//   - A Flight is one ranged GET that was decided on. A Plan has the flights of one
//     file and turns what is wanted into new ones: aligned to blocks, never over what
//     is on its way already, near pieces in one request.
//   - A Budget has all flights of all files that wait for their turn, as Tickets, and
//     says which is next: by class, then fairly between files.
//   - Latency knows how long stores take to the first byte, and so when a request is
//     late enough to be asked a second time, and how often that may be done.
package fetch

const (
	// Block is the smallest piece that is fetched: random 4 KiB reads may pull at most
	// 16 times what they ask for, and image formats keep their tables in clusters of
	// 64 KiB, of which a quarter to a half is used at a time.
	Block = 32 << 10
	// FlightSize is the largest single GET: large enough that its round trip does not
	// count, small enough that several streams share one file. Flights end at multiples
	// of it, so that a stream costs as few of them as there are.
	FlightSize = 4 << 20
	// MaxWindow is how far a sequential reader is run ahead of: 20 ms of a line of
	// 25 Gbit/s, half a second of one of 1 Gbit/s.
	MaxWindow = 64 << 20
	// MergeGap is how many bytes that are here already are fetched again rather than
	// made a border between two requests: what 1 Gbit/s moves in the time that a
	// request costs in work alone, without its round trip.
	MergeGap = 2 * Block
	// Patience is how many bytes a reader lets a flight bring before those that it waits
	// for. Beyond that it gets a request of its own, and the flight is cut there.
	Patience = 512 << 10
)

// alignDown and alignUp go to block borders.
func alignDown(off int64) int64 { return off &^ (Block - 1) }
func alignUp(off int64) int64   { return (off + Block - 1) &^ (Block - 1) }
