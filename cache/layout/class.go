package layout

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
)

// Class is how files of one part of the tree are treated.
type Class struct {
	Name     string
	Settle   time.Duration // quiet time (no write, no writer) before a file counts as finished
	Upload   bool          // goes to the depot at all
	Shown    bool          // other zones see it
	Eager    bool          // other zones fetch it before anybody asks
	Fill     bool          // once read in part, the rest follows in the background
	Priority int           // of transfers that wait, the largest goes first
	Deletes  Deletes       // "" = DeleteGlobal
}

// Deletes is what it means to delete a file that another zone made.
type Deletes string

const (
	DeleteGlobal Deletes = "global" // it is gone in every zone
	DeleteOrigin Deletes = "origin" // it is hidden in the zone that deletes it; only its maker's delete is for all
)

// Rule gives the paths that match Glob a class. Globs are those of doublestar:
// "*" stops at a slash, "**" does not.
type Rule struct {
	Glob  string
	Class Class
}

// Rules are tried in order; the first that matches wins. They are read-only
// once in use and then safe for concurrent use.
type Rules []Rule

// fallback is the class of a path that no rule names: the safe one.
var fallback = Class{Name: "other", Settle: 10 * time.Second, Upload: true, Shown: true, Fill: true, Priority: 10}

// Default returns the rules for the tree that CloudStack makes.
func Default() Rules {
	temporary := Class{Name: "temporary"}
	// Nobody can start a machine before its template is in the zone.
	template := Class{Name: "template", Settle: 10 * time.Second, Upload: true, Shown: true, Eager: true, Fill: true, Priority: 30}
	// A snapshot is written once by qemu-img and never touched again; the sooner
	// it is in the depot, the sooner it is a backup.
	snapshot := Class{Name: "snapshot", Settle: 2 * time.Second, Upload: true, Shown: true, Priority: 20}
	// Volumes are uploaded by browsers in many small steps, with pauses.
	volume := Class{Name: "volume", Settle: 30 * time.Second, Upload: true, Shown: true, Priority: 10}
	return Rules{
		{Glob: "**/dnld*tmp_", Class: temporary},
		{Glob: "**/*.tmp", Class: temporary},
		{Glob: "**/*-part*tmp", Class: temporary},
		{Glob: "**/.nfs*", Class: temporary},
		{Glob: "template/**", Class: template},
		{Glob: "snapshots/**", Class: snapshot},
		{Glob: "checkpoints/**", Class: snapshot},
		{Glob: "volumes/**", Class: volume},
		{Glob: "**", Class: fallback},
	}
}

// Of returns the class of a path. It allocates nothing.
func (rs Rules) Of(path string) Class {
	for i := range rs {
		if matches(rs[i].Glob, path) {
			return rs[i].Class
		}
	}
	return fallback
}

// Validate says what is wrong with rules that a person wrote.
func (rs Rules) Validate() error {
	for _, r := range rs {
		switch {
		case r.Class.Name == "":
			return fmt.Errorf("rule %q: its class has no name", r.Glob)
		case r.Glob == "":
			return fmt.Errorf("class %s: empty glob", r.Class.Name)
		case strings.HasPrefix(r.Glob, "/"):
			return fmt.Errorf("class %s: glob %q: paths are relative to the mount, without a slash in front", r.Class.Name, r.Glob)
		case !doublestar.ValidatePattern(r.Glob):
			return fmt.Errorf("class %s: glob %q: %w", r.Class.Name, r.Glob, doublestar.ErrBadPattern)
		case r.Class.Settle < 0:
			return fmt.Errorf("class %s: the settle time %s is negative", r.Class.Name, r.Class.Settle)
		case r.Class.Deletes != "" && r.Class.Deletes != DeleteGlobal && r.Class.Deletes != DeleteOrigin:
			return fmt.Errorf("class %s: deletes are %s or %s, not %q", r.Class.Name, DeleteGlobal, DeleteOrigin, r.Class.Deletes)
		}
	}
	if len(rs) == 0 {
		return errors.New("no class rules")
	}
	return nil
}

// matches asks doublestar only where the glob is neither a whole subtree nor a
// pattern for base names, which are all that most rules ever are.
func matches(glob, path string) bool {
	if glob == "**" {
		return true
	}
	if tree, ok := strings.CutSuffix(glob, "/**"); ok && !strings.ContainsAny(tree, `*?[{\`) {
		return strings.HasPrefix(path, tree) && (len(path) == len(tree) || path[len(tree)] == '/')
	}
	if base, ok := strings.CutPrefix(glob, "**/"); ok && !strings.Contains(base, "/") {
		return doublestar.MatchUnvalidated(base, path[strings.LastIndexByte(path, '/')+1:])
	}
	return doublestar.MatchUnvalidated(glob, path)
}

// smallFile is the size below which a file is kept resident in every zone: what
// CloudStack reads while it decides (properties, checkpoints, .ovf) is smaller,
// and a round trip to the store costs as much as the whole of it.
const smallFile = 1 << 20

// AlwaysResident says whether a file is fetched by every zone that shows it and
// never evicted, whatever its class. size is in bytes, negative where unknown.
func AlwaysResident(path string, size int64) bool {
	return strings.HasSuffix(path, ".properties") || 0 <= size && size < smallFile
}
