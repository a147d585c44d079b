package cache_test

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"depotfs/cache"
)

// Others removed a directory in which somebody makes something. What the depot does
// not have is not there any more; what it has is made again, or not where others'
// removals are followed.
func TestCreateInDirThatOthersRemoved(t *testing.T) {
	t.Parallel()
	make := map[string]func(e *env, dir, file cache.Ino) error{
		"create": func(e *env, dir, _ cache.Ino) error {
			_, h, err := e.c.Create(context.Background(), me, dir, "x", 0o644, syscall.O_RDWR)
			if err == nil {
				h.Release()
			}
			return err
		},
		"mkdir": func(e *env, dir, _ cache.Ino) error {
			_, err := e.c.Mkdir(context.Background(), me, dir, "x", 0o755)
			return err
		},
		"symlink": func(e *env, dir, _ cache.Ino) error {
			_, err := e.c.Symlink(context.Background(), me, dir, "x", "to")
			return err
		},
		"link": func(e *env, dir, file cache.Ino) error {
			_, err := e.c.Link(context.Background(), file, dir, "x")
			return err
		},
		"rename": func(e *env, dir, _ cache.Ino) error {
			from, name := e.parent("snapshots/file")
			return e.c.Rename(context.Background(), from, name, dir, "x", 0)
		},
	}
	for how, op := range make {
		for _, deploy := range []cache.Deploy{cache.Gateway, cache.Beside} {
			for _, sent := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %s sent=%v", how, deploy, sent), func(t *testing.T) {
					e := newEnv(t)
					e.close()
					e.deploy = deploy
					if !sent {
						e.store = nil
					}
					e.open()
					e.mkdirAll("snapshots/above/d")
					e.write("snapshots/file", []byte("a file"))
					if sent {
						e.flush()
					}
					dir, _ := e.parent("snapshots/above/d/x")
					file, err := e.lookup("snapshots/file")
					if err != nil {
						t.Fatal(err)
					}
					if err := os.RemoveAll(filepath.Join(e.share, "snapshots/above")); err != nil {
						t.Fatal(err)
					}
					err = op(e, dir, file.Ino)
					if sent && deploy == cache.Gateway {
						if err != nil {
							t.Fatal(err)
						}
						if _, err := os.Lstat(filepath.Join(e.share, "snapshots/above/d/x")); err != nil {
							t.Error(err)
						}
						return
					}
					if !errors.Is(err, syscall.ENOENT) && !errors.Is(err, iofs.ErrNotExist) {
						t.Fatalf("got %v, want ENOENT", err)
					}
					if sent {
						return
					}
					if _, err := e.lookup("snapshots/above/d"); !errors.Is(err, iofs.ErrNotExist) {
						t.Errorf("the directory: %v", err)
					}
					if _, err := os.Lstat(filepath.Join(e.share, "snapshots/above")); !errors.Is(err, iofs.ErrNotExist) {
						t.Errorf("in the share: %v", err)
					}
				})
			}
		}
	}
}
