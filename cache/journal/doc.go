// Package journal is the format of what zones tell each other: numbered batches of change
// records under <prefix>.depotfs/journal/<zone>/ in the depot. It does no I/O.
//
// A record says what one zone did to one name, after it was done: a put when the object is
// there, a delete or rename when the name has changed. What a record says holds for a path
// until another record of the path that is later (Later). So records may be applied twice,
// and those of several zones in any order.
//
// Batches come from a bucket that others can write to: they are bounded, and whatever
// cannot be understood in one is reported and skipped.
//
// # Format
//
// A batch is an object of lines that end in a newline. Each line is the CRC-32C of the rest
// of it in 8 lower-case hexadecimal digits, a space, and one JSON object: first the header
// (batch.go), then the records (codec.go). Fields that are not known are ignored, so a later
// version may add some without becoming another format; an operation that is not known
// costs its line. The frame and the header's "format" are the same in every format, so
// that one which is newer is known as such. docs/depot-format.md has the fields.
package journal
