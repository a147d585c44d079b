package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	iofs "io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// treeOf describes every name below root: type, mode, owner, size, mtime, the sum
// of a file's bytes, a symlink's target.
func treeOf(t testing.TB, root string) map[string]string {
	t.Helper()
	tree, err := readTree(root)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// readTree is treeOf for one who may look again.
func readTree(root string) (map[string]string, error) {
	tree := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry iofs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if name == ".depotfs" {
			return filepath.SkipDir
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return fmt.Errorf("stat %s: %w", path, err)
		}
		text := fmt.Sprintf("mode %o owner %d:%d", st.Mode, st.Uid, st.Gid)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			body, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(body)
			text += fmt.Sprintf(" size %d mtime %d sum %s", st.Size, st.Mtim.Nano(), hex.EncodeToString(sum[:8]))
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text += " to " + target
		}
		tree[name] = text
		return nil
	})
	return tree, err
}

// treeDifference says how the tree at a differs from that at b, "" where it does not.
func treeDifference(t testing.TB, a, b string) string {
	t.Helper()
	return mapDifference(treeOf(t, a), treeOf(t, b))
}

func mapDifference(got, want map[string]string) string {
	text := ""
	names := maps.Clone(want)
	maps.Copy(names, got)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		g, inGot := got[name]
		w, inWant := want[name]
		switch {
		case !inGot:
			text += fmt.Sprintf("\n%q is missing (%s)", name, w)
		case !inWant:
			text += fmt.Sprintf("\n%q should not be there (%s)", name, g)
		case g != w:
			text += fmt.Sprintf("\n%q is %s\n  want %s", name, g, w)
		}
	}
	return text
}
