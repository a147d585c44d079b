package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/versity/versitygw/backend/meta"
	"golang.org/x/sys/unix"
)

// metadataFor chooses where the metadata of the objects in dir live: extended
// attributes, or a sidecar directory where the file system keeps none (tmpfs
// before Linux 6.6, some network file systems). sidecar is "" for attributes.
//
// The choice holds for the life of dir: a sidecar that exists is used on.
func metadataFor(dir string) (store meta.MetadataStorer, sidecar string, err error) {
	// Beside dir, because versitygw refuses one inside it and one whose path
	// starts with dir's.
	sidecar = filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".metadata")
	if _, err := os.Stat(sidecar); errors.Is(err, os.ErrNotExist) {
		keeps, err := keepsAttributes(dir)
		if err != nil {
			return nil, "", err
		}
		if keeps {
			return meta.XattrMeta{}, "", nil
		}
		if err := os.Mkdir(sidecar, 0o700); err != nil {
			return nil, "", fmt.Errorf("create the metadata directory: %w", err)
		}
	}
	store, err = meta.NewSideCar(sidecar)
	if err != nil {
		return nil, "", fmt.Errorf("open the metadata directory %s: %w", sidecar, err)
	}
	return store, sidecar, nil
}

// keepsAttributes finds out by trying whether files in dir can have user
// attributes; it also is the proof that dir can be written.
func keepsAttributes(dir string) (bool, error) {
	f, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return false, fmt.Errorf("write to the directory: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	err = unix.Fsetxattr(int(f.Fd()), "user.depotfs-store.probe", []byte("1"), 0)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.EPERM):
		return false, nil
	}
	return false, fmt.Errorf("set an extended attribute in %s: %w", dir, err)
}
