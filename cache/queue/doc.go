// Package queue is a delayed, de-duplicating work queue in memory: every key is
// in it at most once, handed to one worker at a time, no earlier than its time.
// What the work is, and what must survive a restart, its user knows.
package queue
