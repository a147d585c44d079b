package cache_test

import (
	"bytes"
	"context"
	"syscall"
	"testing"
	"time"
)

// Others put a file where the depot's is not here, and somebody goes on writing to it
// through the mount: the version that its maker could not see is kept all the same.
func TestUnseenVersionIsKeptWhenTheirFileIsWrittenTo(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.mkdirAll("snapshots")
	const path = "snapshots/n"
	unseen := bytes.Repeat([]byte("unseen "), 40)
	e.write(path, unseen)
	e.flush()
	e.evict(path)
	e.outside(path, []byte("made by others, later written to"))
	e.list("snapshots")
	h := e.mustOpen(path, syscall.O_RDWR)
	if _, err := h.WriteAt(context.Background(), []byte("MADE"), 0); err != nil {
		t.Fatal(err)
	}
	h.Release()
	e.flush()
	e.mustRead(path, []byte("MADE by others, later written to"))
	e.wantObject("p/"+path, []byte("MADE by others, later written to"))
	for _, key := range e.mem.Keys("p/.depotfs/conflicts/") {
		if bytes.Equal(e.mem.Bytes(key), unseen) {
			return
		}
	}
	t.Error("the version that nobody saw is nowhere")
}

// The same where others replace their file once more before it is uploaded.
func TestUnseenVersionIsKeptWhenTheirFileIsReplaced(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.close()
	e.settle = time.Hour
	e.open()
	e.mkdirAll("snapshots")
	unseen := bytes.Repeat([]byte("unseen "), 40)
	e.write("snapshots/n", unseen)
	e.flush()
	e.evict("snapshots/n")
	for _, theirs := range []string{"the first of others", "the second of others"} {
		e.outside("snapshots/n", []byte(theirs))
		e.list("snapshots")
	}
	e.flush()
	e.wantObject("p/snapshots/n", []byte("the second of others"))
	for _, key := range e.mem.Keys("p/.depotfs/conflicts/") {
		if bytes.Equal(e.mem.Bytes(key), unseen) {
			return
		}
	}
	t.Error("the version that nobody saw is nowhere")
}
