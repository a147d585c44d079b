// Package catalog keeps what depotfs must remember of the tree between two
// starts, in a Badger database on the local disk: inodes, names, residency,
// queues, intents and settings, never file contents.
//
// # The story
//
// A Catalog is opened once per mount (ErrInUse otherwise). The heart reads in
// View and changes in Update, both of which run a function on a Tx. An Update
// is all or nothing, and one runs at a time; nothing here knows what the records mean, except that DeleteInode removes all that hangs
// on an inode, that every name of a directory has a cookie, and that Totals
// counts regular files by State.
//
// # Keys
//
// One byte of kind, then fixed-size big endian numbers, then at most one name
// up to the key's end, so that the order of keys is the natural one and every
// list is one scan of a prefix:
//
//	a name            meta: format version, epoch, number limits, tick
//	i ino             Inode
//	d parent name     Dirent, found by name
//	c parent cookie   the same, in listing order
//	x ino name        extended attribute
//	e ino chunk       Extents, in pieces of 256 KiB
//	q ino             QueueItem
//	r key             Removal
//	u ino             Upload
//	p ino number      UploadPart
//	t seq             Intent
//	k key             the inode that owns an object key
//	n number          change record that other zones are to be told
//	b path            Tombstone
//	w path            change record of another zone that waits
//	v path            attributes of what has lost its name, as a change record
//	l 'p' path        HeldDelete
//	l 'k' key         the path of the one that has the object
//	s name            setting
//
// Values start with a version byte; fields are varints and counted strings.
// Fields are only ever appended: a reader skips what it does not know and
// takes a missing field as zero. The directory as a whole has a format version
// in its first record and in catalog.json (ErrNewer).
//
// # Commits
//
// A commit is a record in the journal (catalog.journal, one write(2)) and its values in
// the overlay, a map in memory. Some hundreds of commits later, and for each Sync, the last
// values of all keys go into Badger in one transaction (flush) and the journal is emptied:
// a directory's record that each of its new files changes is stored once, and an intent
// that came and went is not stored at all. What Update, View and scans see is Badger's
// content under the overlay's. A View has a snapshot of both; the overlay keeps older
// values for it.
//
//	crash                         then Open finds
//	while a record is written     its beginning, at the journal's end: nobody was told
//	before a flush                the journal's records, and does the flush
//	within a flush                the same: Badger has all of it or nothing
//	before the journal is empty   records with numbers up to Badger's, and passes over them
//
// Locks, in this order: Catalog.commit (one Update or flush), numbers.mu,
// Catalog.state (what a View begins with), overlay.mu, and recent's and tally's.
//
// # Durability
//
// When Update returns, the change survives a kill of the process: the kernel has the
// journal and Badger's log, which is a mapped file. When a Sync that was called later
// returns, it survives a power cut: Sync flushes, calls fdatasync on the logs of all
// memory tables (one, except right after a rotation) and syncs the directory
// when files came or went; callers share it. Tables are synced by Badger before
// their log is removed; that the name of a new file comes to the disk with its
// content is left to the file system, as ext4, XFS and btrfs do it.
// A power cut takes the newest Updates that were not synced, and never an
// older one without the newer ones.
//
// Numbers (inodes; cookies, generations and intents) are reserved in blocks of
// 65,536, durably, before the first of a block is handed out.
//
// # Damage
//
// The catalog can be rebuilt from share and depot, so it never guesses: what
// looks damaged is refused as a whole, with ErrDamaged, whose text says what to
// do. Badger alone would be too trusting (it skips tables with bad checksums,
// deletes tables that a cut MANIFEST does not name, and cuts its log at the
// first bad entry) or too harsh (it exits the process over a bad footer, and
// refuses to open over the empty log that a kill may leave), so Open looks at
// the files before Badger does:
//
//   - after a clean stop, catalog.json lists every file with size and checksum;
//   - always, every block of every table that MANIFEST names is verified;
//   - after a kill, every record of the journal has checksums and the next number, but
//     for one that is cut short at its end;
//   - after a kill, bytes behind the end of a log show that the end is a hole;
//     after a power cut, logs behind a hole are removed (they were not synced);
//   - catalog.floor, written after every Sync, has the number of the Sync, which
//     must be found in the log, and the length and checksum of MANIFEST;
//   - what Badger keeps beside the records (DISCARD, KEYREGISTRY, the empty
//     value log) is made anew at every Open.
//
// What cannot be noticed: after a kill or power cut, the loss of the last
// commits if they were never synced; and damage that arises while the catalog
// is open, beyond what faults and record checks show. A disk that fills up
// under Badger's mapped files would kill the process, so Update stops with
// ErrFull while 256 MiB are left.
//
// # Questions about one record
//
// Inode, Lookup and QueueItem of the Catalog itself answer as of now and without a
// transaction, mostly from memory (type recent): they are what the kernel's questions
// come to. Who needs two records that belong together holds the heart's locks, or
// asks in a View.
//
// # Memory
//
// What recent keeps is at most some 20 MiB, the overlay 2. A memory table takes 21 MiB, a
// compaction under way some 50 MiB, an open table its mapping; nothing grows with the tree but the page cache. Totals are
// stored at a clean stop and counted by a scan after any other.
package catalog
