// Package cache is the heart of depotfs: one zone's tree of files, of which every
// byte is in a local directory (the share), in an object store (the depot), or both.
//
// # Nouns
//
//   - The share is an ordinary directory, usually on NFS, that others use too. A
//     file at its plain path there is always complete. What is incomplete, or ours
//     alone, is under .depotfs in it.
//   - The depot is a bucket and a key prefix. An object is a file's bytes under the
//     prefix plus its path.
//   - The catalog (package catalog, Badger) knows every name and attribute, what is
//     here, what is dirty, and what waits for the depot.
//   - An inode number is handed out once and is the FUSE node id. The object's key
//     is data of the inode: a rename changes names at once and keys later.
//   - A node is the live side of an inode: it exists while a handle is open or work
//     on the bytes is under way, and has the ONE backing file of the inode.
//   - A version is identified by size and CRC-64/NVME; the entity tag only guards
//     requests. A generation (Gen) numbers the versions of an inode in this zone.
//   - A stamp (share inode number, size, mtime, ctime) says that a file in the share
//     has not changed, if it is older than the grain of the share's clock (grain.go):
//     2 s on a network or where whole seconds are kept. A younger one is waited for
//     before the file is read to be uploaded.
//   - The queue says which inodes need attention; what is to be done follows from
//     comparing the record with what the depot has. A removal is an object that
//     no inode owns any more.
//
// # States of a regular file
//
// The table in state.go is the whole machine; setting State elsewhere is a bug.
//
//	            import                fetch                 whole
//	(none) ---------------> Remote -----------> Partial -----------------> Clean
//	   |                      |  ^ ^ evict         |  write                 |  ^
//	   | create               |  | +--- evict, vanish -------- Clean        |  | uploaded,
//	   |                write |  |  uploaded ^     v                  write |  | unchanged
//	   |                      +--|------> PartialDirty                      v  |
//	   |                         |             | whole                      |  |
//	   +-------------------------|-------------+---------------------> Dirty --+
//	                             +---- vanish (the share lost it; the depot has Base)
//
// Remote: no byte here. Partial: some bytes in .depotfs/partial/<inode>, all equal
// to the depot's version. Clean: whole at the plain path, and in the depot.
// PartialDirty: some bytes here, written ranges among them; the rest comes from the
// version Base, of which [0,BaseLimit) still counts. Dirty: whole at the plain path,
// the depot lacks it. "uploading" and "fetching" are no states: a crash during either
// leaves Dirty or Partial, and the work starts again from what is on record.
//
// Bytes that only we have leave Dirty and PartialDirty by uploaded alone; unchanged
// means that there were none, vanish that others removed them.
//
// # Only what changed is sent
//
// A version that was uploaded in parts, or fetched and verified, leaves the checksums of
// its grains in the catalog (Sums), a grain being a part that is sent. A changed file is
// read once; grains that are as they were are copied inside the store, many in one
// request, under the condition that the object still is that version (delta.go). If it
// is not, they are sent.
//
// A file that lacks bytes is uploaded as it is (partialsend.go): grains that nobody wrote
// to are copied, of the others what is missing is fetched, and then it is Partial again,
// at the new version. The checksum of the whole follows from what is known of the
// grains; from what the store says of parts that it copied; or, where it says nothing, from
// that of the version before and of the bytes that were replaced in it, which are
// asked for (wholesum.go). A store that can do none of it, or copies no parts, gets the
// file whole, and it is fetched first.
//
// Such an upload replaces the object that has the missing bytes. So its record says
// durably, before the object is made, which size and checksum it will have, and who finds
// another object than the base compares: readers, and the next attempt (rebase.go).
// While the upload runs, readers who find its object wait for the commit. A write that
// comes meanwhile is counted: the version that arrived is the base then, and the file
// stays PartialDirty. The last missing byte stops the upload, which goes on as that of a
// whole file. That the base was replaced by another zone leaves the file PartialDirty, as a
// problem in status, with what was written here.
//
// A file that somebody has open for writing stays Dirty, but nobody waits for its
// close, which over NFS may never come: it is uploaded when it is quiet, and its node
// remembers the stamp that the depot has. While the file has that stamp the depot
// lacks nothing (lacks), and unchanged at the last release is meant against it
// (openwriter.go).
//
// # Locks
//
// In this order, and released before anything that waits for the network:
//
//	Cache.tree    shared by whoever uses a path in the share, exclusive while a
//	              directory is renamed
//	dirLocks      one per directory: a name means the same in share and catalog while
//	              it is held; several in the order of their inode numbers
//	partial.promoting  one at a time verifies a complete file and moves it to its place
//	node.mu       handles, writers, the backing file, which state the bytes are in
//	partial.storing  shared by fetched bytes on their way into the partial file,
//	              exclusive for written ones and for declaring it whole
//	partial.mu    extents, the plan of what is fetched, waiters
//	Cache.marker  reads and changes of the marker; the catalog takes it to reserve numbers
//	Cache.mu      the table of nodes and their reference counts
//	leaves        orders.mu, keyLocks.mu, depot.mu, dispatch.mu, hydration.mu, problemList.mu, zoneTable.mu …: never held
//	              while another is taken
//
// node.mu and partial.mu may cover calls to the share and one catalog transaction.
// keyLocks serialise requests that change one key; they are held across requests,
// and taken with none of the above held. Notifications to the kernel are handed to
// a queue (Notifier must not block).
//
// # Fetching
//
// A reader of bytes that are not here tells the plan of the file what it needs and, by
// how its handle has read so far (fetch.Streams: several sequential readers of one
// handle are told apart), what will be welcome next. The plan (fetch.Plan) decides on
// flights, which are ranged GETs: of whole blocks, never of what is on its way, and in
// one request what is near each other. All flights of all files wait in one queue
// (fetch.Budget), which bounds requests and bytes and starts them by class:
//
//	demand      somebody waits for these bytes
//	header      what tools read first of an image (aheadLocked)
//	readahead   what comes next of a sequential reader, or of a file wanted whole
//	background  the rest of a file whose class is filled once it was read
//
// Within a class the file with the fewest flights is next, and no file takes the last
// places. Background starts when nobody has asked for anything for a while, in small
// pieces while somebody may come back, and pauses when somebody does; one small flight
// now and then goes on whatever happens. Who waits too long is served before demand,
// one at a time.
//
// A reader that needs bytes which a flight under way will bring soon waits for it, and
// raises its class; where much else would come first, the flight is cut there and its
// rest follows behind. When the last one goes who wanted a flight (its handle was closed,
// its read interrupted, filling was stopped), it leaves the queue, or is broken off if
// much of it is left; what has arrived stays.
//
// Bytes go into the partial file and to whoever waits for them as they arrive. A request
// whose first byte is late by what the store usually takes is made a second time, and
// who answers first has it; a body that breaks off or stands still is gone on with from
// where it was. Both are a small share of all requests (fetch.Latency). Every GET names
// the entity tag of the one version that the inode derives from, so all reads of an open
// file are of one version: the same bytes under another key or tag are followed
// (version.go), anything else is ErrGone.
//
// The checksum is of the whole file, so it is verified when the last byte has come
// (promote). Bytes that were damaged on a line without TLS are found then, thrown away and
// fetched again, but may have been read before.
//
// # Switched off
//
// The store of a Cache is a pointer: nil is off, for want of one or because Disable said
// so, which is on record. All work on a store happens within depot.use, whose context
// ends when that store is switched off; what it has begun to make visible is heard out
// (linger.go), and Disable returns after it. Everything else goes on: changes are
// queued in the catalog, the share is looked at, and nothing is evicted. Switched on,
// the queue in memory is made from the catalog (loadQueue); the share is not walked.
// Reads and writes of what is here go by none of this: they have a file.
//
// # Adoption
//
// Directories that appeared in the share without us are on the frontier, in the
// catalog, from before they have a record until they were looked through
// (adoption.go). What is found has FlagAdopted: before it is sent it is compared with
// the object under its key (conflict.go). Large files are read for that by one comparer
// (compare.go), which holds no lock and no worker; a result counts only for the stamp
// that it was read under. Until all was compared the clean log is neither forgotten nor
// rewritten (proof.go).
//
// # What is fetched first
//
// The first read of a file that is not here is asked for as it is; then, or with it where
// it is a read of a header, follows what tools read first of an image (hydrate.go,
// package image), and the headers of the files that the image names beside it. Of what is
// no image these are the first and the last 256 KiB and no more. Where the class fills,
// the image's maps come before the rest; elsewhere once somebody reads past the headers.
//
// # What is on disk, and what a crash leaves
//
// A kill leaves everything that a system call wrote, in share and catalog. A power
// cut leaves what was synced: fsync syncs the file, then, for one that is new or
// renamed, its directory and the catalog. Opening a clean file for writing syncs the
// catalog before it returns. After an unclean stop, New does the following before
// anything else happens:
//
//   - Adopting: the frontier, then the record. A directory that was being looked through
//     is looked through again; a file that was being compared is read again.
//   - Creating: share first, then catalog. In between: a file without a record,
//     adopted when its directory is next looked at. A record whose file never
//     became durable (power cut, no fsync) is dropped.
//   - Unlink, rmdir, rename, exchange: intent, share, catalog (the transaction that
//     changes names also ends the intent). An intent found at start is undone where
//     the share was not changed yet and finished where it was.
//   - A file unlinked while open: moved to .depotfs/open/<inode>; removed at start.
//   - Fetching: bytes go into the partial file; the catalog names them only after
//     fdatasync (every 256 MiB, at the last close, at fsync). Others are fetched again.
//   - Writing into a partial file: the file, then the sidecar log, then the
//     acknowledgement. After a kill all records count, after a power cut those
//     before the last mark (fsync), and every cut of the length.
//   - Upload of a file that lacks bytes: extents and sidecar durable, record, parts, record
//     with the checksum of the whole (synced), completion; then one transaction (base,
//     object, sums, extents without written ranges, Partial), synced, then the sidecar
//     goes. Before the completion a restart goes on with the parts. After it, the object
//     is known by mark, size and checksum, and is the base from then on; the file stays
//     PartialDirty, and the next upload finds that its grains are the depot's. A sidecar of
//     a file that is Partial is what a crash before the last step left: it is removed.
//   - Promotion (last byte came): verify the checksum, dress and fsync the partial
//     file, intent, rename to the plain path, catalog. Either name is found at start.
//   - Eviction: intent, rename to .depotfs/evict/<inode>, wait until every NFS client
//     has noticed, compare the stamp, catalog, unlink. Undone at start.
//   - Upload: the record (Upload) is written before the first request that may make
//     an object. Parts are recorded as the store confirms them; a restart asks
//     ListParts and goes on. An object whose answer was lost is known by the version
//     mark in its metadata, and is the version only if its checksum says so; what such
//     an attempt left elsewhere is removed (attempt.go). The transaction that records the object
//     also makes the file clean, if stamp and generation are still the same and no
//     writer is open. One that was uploaded while a writer has it open is Dirty with no
//     DirtySince: after a crash it is compared with the version's checksum before it
//     is sent again. A file that is unlinked meanwhile leaves a removal that names
//     the mark.
//   - A rename during an upload in parts: its record keeps the key that it was begun with,
//     and follows the ctime that our rename moved. It is completed there if no other
//     file has that key, and the object then follows (renamedupload.go).
//   - Key migration: copy, then one transaction that owns the new key and makes a
//     removal of the old one, then the delete. Each step is repeated until done.
//   - Inode numbers are reserved in blocks, in catalog and share, before use.
//
// Losing the whole state directory loses no content: files are adopted from the share
// and compared with the depot (the clean log saves reading those whose stamp has not
// moved), remote names come from the depot's listing, and partial files with written
// bytes from their sidecars. New numbers start above the mark in the share and have
// another epoch.
// One case needs a person: state lost between the completion of an upload of a file that
// is here in part and its commit. The sidecar names the version before, which is gone; the
// object has all bytes.
//
// # What others do in the share
//
// A name is compared with the share (lookAt) when it is opened, when the directory is
// opened and its mtime has moved, before it is evicted, when a complete file is to move
// to its place, and by the scanner; an unknown name is looked for when it is looked up.
// Looking at a name needs its directory locked exclusively; who only has it shared
// answers errOutside and tries again after lookAtInode has looked.
//
//	share has                     catalog has           then
//	a name                        nothing               adopted: dirty, compared with the depot, uploaded after 60 s of quiet
//	the same file, other stamp    Clean                 Dirty; uploaded unless its checksum is Base's; attributes follow
//	                              Dirty                 its quiet time begins again
//	                              open for writing      nothing: the last writer's end looks
//	another file                  whole here            a new inode with the old one's objects and base (replace); the old one
//	                                                    lives without a name until its last release, on its own bytes
//	a file                        Remote, Partial       the same; the depot's version, which its maker could not see, is copied to
//	                                                    conflicts before the upload replaces it (who removes the name removes both);
//	                                                    open handles go on from the object
//	                              PartialDirty          the mount's file keeps the name; theirs goes to .depotfs/conflicts in the share
//	a directory or symlink        a file that is here   adopted in its place; the file's object goes
//	                              one that is not       the file stays; status says what is in the way
//	a file                        a directory           adopted in its place if the directory is empty; else status says so
//	a directory                   a remote directory    it is here; what is in it is looked at
//	nothing                       Clean, Dirty+Base     restore: Remote at Base (open: under a new inode); symlinks and further
//	                                                    names are made again. delete: ENOENT at once, gone everywhere after two
//	                                                    looks 10 minutes apart; template/ is always restored
//	                              never uploaded        EIO, then its name goes after 10 minutes
//	                              a directory           remote; delete: goes once it is empty. One that was never in the
//	                                                    depot goes with the last name in it
//	a missing directory           makes a name in it    made again as long as it is remote, else ENOENT
//	the file under another name   Clean, Dirty          the old name goes, the new one has its objects (moves): nothing is sent
//
// A directory's mtime is remembered (dirSeen) by agreeLocked alone: after a change of
// our own it is read again, since others may have changed it just before.
//
// The share itself may go (gone.go): its path leads elsewhere, its marker is missing or
// another one's. Then no name can be used (ErrMarker, EIO): nothing is opened, changed,
// evicted or uploaded, while names and attributes are shown from the catalog, and what
// is open goes on, on the files that it has. The same share mounted again takes the
// place of the directory that we hold.
//
// # Order
//
// Within a directory files become visible in the order in which they were finished; a
// properties file waits for the images it names. Their bytes travel side by side: a few
// files set out behind the first (mayOvertake), and each asks for its turn
// (awaitEarlier) with the last byte of its request unsent (PutOptions.Before), or its
// parts not completed. That costs no request more than one after the other would, and
// one round trip for each file of a directory: nothing less lets a store refuse the
// later one when the earlier one fails. A file that has to wait while its request is
// held up gives its worker's slot to others (job.rest), never its key's lock.
//
// Who is next is the queue's affair (queue.Place): lanes for short and long work, in
// each the earliest turn, which is since when a file waits plus its class's handicap.
// A store that is down is asked by one small request at a time; all others wait in
// front of it (breaker.go).
//
// # Settings of the store
//
// Keys, address and timeouts change under a depot that stays (ReplaceStore): only the
// innermost layer of its store is another one then (breaker, lingering, replaceable, the
// adapter), so that locks of keys, the breaker and what is joined go on, and no key ever has
// two requests at once. New settings are tried out past all that before they count. Requests
// end on the settings that they began with; one that is refused there is made again on the
// new ones, and one that failed, with the queue. Switching the store off and on makes another
// depot, and waits until the former one has no request left (Enable).
//
// # Zeros
//
// A hole is not read, not even for a checksum (sparse.go). Grains of an upload that are
// zeros are copied inside the store from an object of zeros that all zones share
// (zeroplan.go, zeroobject.go), and where a version is zeros travels as a map in its
// object's metadata (zeros.go, extent.EncodeZeros), which is bound to size and checksum.
// The map is in the inode's record (Zeros) and survives eviction. A partial file counts
// those ranges as here from the moment that it is opened: they are holes in it. A
// version that turns out to have other bytes loses its map with what was fetched.
//
// # Zones
//
// What this zone did to names goes to the other zones as change records (package journal).
// A record is put into the catalog (tx.PutNews) in the transaction that made the change
// here: that which records an object as this file's (announceObject), a delete, a rename, an
// attribute. So a crash loses none and makes none twice, and a rename of 10,000 files is one.
// What no other zone can know of (a file that the depot never had, a temporary class) is not
// told. The teller (newsLoop) makes numbered batches of them: the batch is put together and
// sealed in the catalog first, so that another try has the same bytes; then it is created
// with If-None-Match; then its records go. Flush waits for that.
//
// The listener (listenLoop) lists what is behind the cursor of each other zone and applies it
// in order (applyRecord); the cursor follows in the catalog. A batch waits until those that its
// zone had heard before were applied here, too (seen.go). It looks after an interval, sooner
// after a miss or when the store is said to have a new batch (wake.go), at once when somebody
// waits. Applying the same twice changes nothing: a version counts if it is later
// (journal.Later) than what the path has (MadeAt, Origin) or had (Tombstone). Applying never
// touches bytes that only we have, and neither tells others nor makes removals (the zone that
// made the change removes its objects) but of what that zone did not know of: a record for a
// file that is dirty waits (tx.PutHeld) until it was uploaded or lost to the other version:
// conflict.go decides which.
//
// A zone has its name by a registration in the depot, which it writes again every minute
// (lease.go, zones.go). Who finds another daemon's there has lost the name, and does nothing
// with that store any more (depot.lease.lost, in the breaker and in admit). Who has not
// written for nearly as long as its lease lasts writes first, and works then
// (untilRegistered). All times are the store's. A zone that is removed stays registered as
// such until all others have read its journal. Which regions share a depot: region.go.
//
// A zone that is new lists the depot, and then reads the journals from where they begin: a
// listing has no times, and not what is under way. Before it lists it notes durably where
// they end. What they say up to there of an object that the listing shows otherwise, or not at
// all, is passed over; behind that the store is asked, once for each name, which of the two is
// later (beforelisting.go).
//
// The zone that has the lease sums the journals up in a checkpoint now and then, and removes
// the batches that it has and all registered zones have applied (checkpoint.go, trim.go). The index
// comes last, before anything is removed, and the last batch of a journal stays. Who misses
// batches applies the checkpoint (catchup.go), and its cursors follow when all of it was.
//
// What counts for a path is what was made of it last (moment: store's time, then zone). What a
// zone does after it has heard of something is later than that, whatever its clock says
// (causal.go), unless the clock of who did it is hours ahead.
//
// A rename of a file at t is two changes at t: the old name is gone, and the new one has that
// version, made by who renamed (applymovefile.go). Its record says which version, so that the
// file with its bytes is moved where it is that one. What others finished or set under the old
// name before t, not knowing of it, is nothing to any zone but to the one that renamed, which
// does the same under the new name, just after t (renamedhere.go). A rename of a directory at t
// moves what is older in it; a record from before t of a path in it is one of the path in its
// new place, just after t (afterRename, Tombstone.RmdirTo), and what is done after t is later
// than all of that (doneIn, Inode.MovedAt). What a record meets here:
//
//	record      here                          then
//	put         nothing                       a remote file
//	            the same version              key, tag and attributes are taken; no byte is touched
//	            older, clean or remote        the name gets a new inode; who has the old one open reads on
//	            dirty, or open for writing    it waits (held.go); the upload meets the object: the later version
//	                                          has the name, the other goes to conflicts
//	            a directory                   waits; its maker keeps the file as a conflict and tells that it is gone
//	mkdir       a file                        the directory has the name; whose file it was keeps it as a conflict
//	delete      a directory                   it is not what was deleted
//	            older, clean or remote        gone from share and catalog; who has it open reads on
//	            older, of ours, not the one   the same, and this zone keeps its bytes: who deleted did not know of them
//	            that was deleted
//	            older, dirty                  our bytes go to conflicts, then the name goes
//	            later                         ours stays
//	            under another name            read from the trash; gone where nothing was kept
//	attr        set later, or with a version  passed over
//	            finished later
//	put         attributes set later          the bytes are taken, the attributes stay, and who set them tells again
//	rmdir       names in it                   stays until its last name goes (fade)
//	            a file                        it is not what was deleted
//	rename      its source, another version   the source goes (after passedGrace, if it was ours, to the trash);
//	                                          the new name has the version that was renamed
//	            its source, dirty             is moved: what only we have goes along
//	            its target, later or dirty    the source goes; put records say what the target is
//	            its source, a directory that  the later rename counts, of the directory where it is now
//	            was renamed before
//	            its target, a directory       the source goes; whose version it was keeps it as a conflict
//	put         what this zone has renamed    has that version under its new name, if it was not changed since;
//	                                          the bytes that were there are kept (keepPassed)
//
// Keys follow names in the zone that renamed, with a put record for each. Until one comes,
// the object is under the key before, and who does not find it there has the journals read,
// and looks for the bytes in the trash and the conflicts (keptversion.go). What others put under a name that this zone has
// renamed, and what it had not moved yet when another version got the new name, is this
// zone's to remove (passed.go, releaseObjects); the trash has it then. A new file of the old
// name is not put over an object there that this zone has not heard of yet (leaveToMove). What
// an upload set aside for a file that is gone by then is deleted for all (Upload.Replaced).
//
// Nothing here waits for uploads: fsync means durable in the share.
package cache
