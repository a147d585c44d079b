// Package extent keeps sets of byte ranges.
//
// A partial file is described by two such sets (which bytes are here, which of
// them were written here), and by questions about them: is all of a read here,
// what has to be fetched for it, what is left of the file after a truncation.
// A Set holds sorted, disjoint ranges that never touch each other, so two sets
// with the same bytes are equal element by element, and every question costs a
// binary search. Nothing here does I/O or locks: a Set belongs to its owner's lock.
package extent
