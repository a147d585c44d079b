package cache_test

import (
	"context"
	"strings"
	"testing"
)

// A template that another zone has made is here whole without anybody asking, its
// properties too; also if this zone was stopped in between.
func TestTemplateIsFetchedEagerly(t *testing.T) {
	t.Parallel()
	for _, stopped := range []bool{false, true} {
		zs := newZones(t, 2)
		a, b := zs[0], zs[1]
		dir := "template/tmpl/2/201/"
		a.mkdirAll(dir)
		image, props := pattern(1, 5<<20), []byte("id=201\nfilename=x.qcow2\nuniquename=u\n")
		a.write(dir+"x.qcow2", image)
		a.write(dir+"template.properties", props)
		a.flush()
		if stopped {
			b.refresh()
			b.restart()
		}
		b.refresh()
		b.waitFor("the whole template", func() bool {
			return b.state1(dir+"x.qcow2") == "clean" && b.state1(dir+"template.properties") == "clean"
		})
		sameTrees(a, b)
	}
}

// What other zones wrote elsewhere is fetched on demand, but for small files.
func TestSnapshotsAreNotFetchedEagerly(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	a.mkdirAll("snapshots/2")
	a.write("snapshots/2/big", pattern(1, 3<<20))
	a.write("snapshots/2/small", pattern(2, 3000))
	a.flush()
	b.refresh()
	b.waitFor("the small file", func() bool { return b.state1("snapshots/2/small") == "clean" })
	if s := b.state1("snapshots/2/big"); s != "remote" {
		t.Errorf("the snapshot is %s", s)
	}
	b.mustRead("snapshots/2/big", pattern(1, 3<<20))
}

// At no moment does a zone show complete properties whose image it cannot read.
func TestPropertiesNeverComeBeforeTheImage(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	dir := "template/tmpl/2/5/"
	a.mkdirAll(dir)
	image := pattern(1, 2<<20)
	a.write(dir+"i.qcow2", image)
	a.write(dir+"template.properties", []byte("filename=i.qcow2\nid=5\n"))
	done := make(chan struct{})
	go func() { defer close(done); _, _ = a.c.Flush(context.Background(), nil, nil) }()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		b.refresh()
		if props, err := b.read(dir + "template.properties"); err == nil && strings.Contains(string(props), "id=5") {
			b.mustRead(dir+"i.qcow2", image)
		}
	}
	b.mustRead(dir+"i.qcow2", image)
}
