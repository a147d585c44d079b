// Package layout holds the rules of names: which class a path belongs to, which
// key of the depot a path has, what an object's metadata says about its file.
//
// There is no I/O here and no state. Three kinds of strings meet:
//
//   - a path is what the mount shows, relative to its root, with slashes, "" for
//     the root; its components may be any bytes but NUL and slash,
//   - a key is what the bucket knows: the depot's prefix and then the path, with a
//     slash at the end for directories; paths that are no valid key are stored
//     under their hash (see Key),
//   - a class is what the operator's rules make of a path (see Rules).
//
// Keys and metadata come from a bucket that others write to. Everything that
// parses them is total: a hostile value is refused or ignored by itself and
// never hides the rest.
package layout
