package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
)

// The daemon may end before its answer to umount is out: what counts is the mount.
func TestUmountWhoseAnswerIsLost(t *testing.T) {
	for _, tt := range []struct {
		name    string
		unmount bool
		want    string
	}{
		// The daemon of this test is its own process, which does not end.
		{"the mount is gone", true, "unmounted, but the daemon was still ending"},
		{"the mount is still there", false, "broke off"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := startDaemon(t, &fakeHeart{}, t.TempDir())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			table := d.mountinfo
			gone := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(rootLine)), nil }
			asked := make(chan struct{})
			d.api.unmount = func(context.Context) error {
				close(asked)
				panic(http.ErrAbortHandler) // closes the connection
			}
			d.mountinfo = func() (io.ReadCloser, error) {
				select {
				case <-asked:
					cancel()
					if tt.unmount {
						return gone()
					}
				default:
				}
				return table()
			}
			err := d.umount(ctx, d.mountpoint)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
