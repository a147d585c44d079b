// Package queue is a delayed, de-duplicating work queue in memory: every key is
// in it at most once, handed to one worker at a time, no earlier than its time.
// What the work is, and what must survive a restart, its user knows.
//
// # Who is next
//
// Keys wait in lanes, each with workers of its own, so that short work never waits
// for long work to end. Of those of a lane that are due, the one with the earliest
// turn is next. A turn is a time: since when the key waits, plus a handicap for what is
// less urgent. So the less urgent goes behind what became due up to its handicap later
// than itself, and behind nothing else: nobody starves, however much of the more urgent
// keeps coming. Slots are given to who carries bytes by the same rule.
package queue
