package catalog

import (
	"fmt"
	"log/slog"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// badgerOptions are chosen for a catalog of a million inodes (some 400 MB of
// tables) beside a file server that needs the memory for itself.
func badgerOptions(dir string, log *slog.Logger) badger.Options {
	o := badger.DefaultOptions(dir)
	// 16 MiB: a skip list of 21 MiB each for the active table and at most two
	// that are being flushed. It also bounds a transaction: 15 % of it, 2.4 MiB.
	o.MemTableSize = 16 << 20
	o.NumMemtables = 2
	// All tables of 2 MiB: a compaction builds ten and more at a time in memory,
	// and a million inodes are still only 200 of them.
	o.BaseTableSize = 2 << 20
	o.TableSizeMultiplier = 1
	o.NumLevelZeroTables = 4
	o.NumLevelZeroTablesStall = 8
	o.NumCompactors = 2 // Badger's minimum
	// Uncompressed blocks are used in place from the mapping: a get copies only
	// the record, and the kernel's page cache is the one cache.
	o.Compression = options.None
	o.BlockCacheSize = 0
	o.IndexCacheSize = 0
	// Badger would keep silent about blocks that fail their checksum in the
	// middle of a scan (the scan just ends), so verifyTables reads every block
	// at Open instead and refuses the catalog as a whole.
	o.ChecksumVerificationMode = options.NoVerification
	// All values stay in the tables (maxRecord is below): the value log stays
	// empty, needs no collection and no sync.
	o.ValueThreshold = 1 << 20
	o.ValueLogFileSize = 1 << 20
	o.SyncWrites = false      // Catalog.Sync does it, for many at once
	o.DetectConflicts = false // one Update at a time
	o.MetricsEnabled = false
	o.NumGoroutines = 1
	o.Logger = bridge{log}
	return o
}

// bridge passes Badger's log on at level Debug: what matters to people comes
// back as errors.
type bridge struct{ log *slog.Logger }

func (b bridge) Errorf(f string, a ...any)   { b.print("error", f, a) }
func (b bridge) Warningf(f string, a ...any) { b.print("warning", f, a) }
func (b bridge) Infof(f string, a ...any)    { b.print("info", f, a) }
func (b bridge) Debugf(string, ...any)       {} // once per write: too much even for Debug

func (b bridge) print(level, f string, a []any) {
	b.log.Debug("badger", "level", level, "msg", fmt.Sprintf(f, a...))
}
