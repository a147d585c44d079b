package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"depotfs/cache"
)

func (f *fixture) lists(q cache.ListQuery, wantKeys, wantPrefixes []string) {
	f.Helper()
	keys, prefixes := f.list(q)
	if !slices.Equal(keys, wantKeys) || !slices.Equal(prefixes, wantPrefixes) {
		f.Errorf("list %+v:\n got %.300q and prefixes %.300q\nwant %.300q and prefixes %.300q", q, keys, prefixes, wantKeys, wantPrefixes)
	}
}

func testList(f *fixture) {
	all := []string{"dir-a", "dir.a", "dir/1", "dir/2", "dir/sub/3", "dir0", "e/1", "z"}
	for _, name := range all {
		f.put(name, []byte(name))
	}
	f.lists(cache.ListQuery{}, all, nil)
	f.lists(cache.ListQuery{Delimiter: "/"}, []string{"dir-a", "dir.a", "dir0", "z"}, []string{"dir/", "e/"})
	f.lists(cache.ListQuery{Prefix: "dir/"}, []string{"dir/1", "dir/2", "dir/sub/3"}, nil)
	f.lists(cache.ListQuery{Prefix: "dir/", Delimiter: "/"}, []string{"dir/1", "dir/2"}, []string{"dir/sub/"})
	f.lists(cache.ListQuery{Prefix: "dir"}, all[:6], nil)
	f.lists(cache.ListQuery{Prefix: "none/"}, nil, nil)
	f.lists(cache.ListQuery{StartAfter: "dir/1"}, all[3:], nil)
	f.lists(cache.ListQuery{StartAfter: "dir/15"}, all[3:], nil)
	f.lists(cache.ListQuery{Prefix: "dir/", StartAfter: "dir/2"}, []string{"dir/sub/3"}, nil)
	f.lists(cache.ListQuery{StartAfter: "z"}, nil, nil)

	f.must(f.s.List(f.ctx, cache.ListQuery{Prefix: f.key("dir/1")}, func(p cache.ListPage) error {
		for _, o := range p.Objects {
			head, err := f.s.Head(f.ctx, o.Key)
			f.must(err)
			if o.Size != 5 || o.ETag != head.ETag || o.Modified.Unix() != head.Modified.Unix() {
				f.Errorf("listed as %+v, is %+v", o, head)
			}
		}
		return nil
	}))
}

func testListPages(f *fixture) {
	const n = 1005
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("journal/%020d", i))
	}
	work := make(chan string)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for name := range work {
				if _, err := f.s.Put(f.ctx, f.key(name), strings.NewReader("x"), 1, cache.PutOptions{}); err != nil {
					f.Error(err)
				}
			}
		})
	}
	for _, name := range names {
		work <- name
	}
	close(work)
	wg.Wait()
	pages := 0
	var got []string
	f.must(f.s.List(f.ctx, cache.ListQuery{Prefix: f.key("journal/")}, func(p cache.ListPage) error {
		pages++
		for _, o := range p.Objects {
			got = append(got, o.Key[len(f.prefix):])
		}
		return nil
	}))
	if !slices.Equal(got, names) {
		f.Errorf("%d keys listed, want the %d that are there in order", len(got), n)
	}
	if pages < 2 {
		f.Errorf("%d keys came in %d page", n, pages)
	}
	f.lists(cache.ListQuery{Prefix: "journal/", Delimiter: "/"}, names, nil)
	f.lists(cache.ListQuery{Prefix: "journal/", StartAfter: names[n-3]}, names[n-2:], nil)
	f.lists(cache.ListQuery{Delimiter: "/"}, nil, []string{"journal/"})
}

func testListNeighbours(f *fixture) {
	for _, name := range []string{"snapshots/2/20/a", "snapshots/2/201/b", "snapshots/2/2/c", "snapshots/2/20-x"} {
		f.put(name, nil)
	}
	f.lists(cache.ListQuery{Prefix: "snapshots/2/20/"}, []string{"snapshots/2/20/a"}, nil)
	f.lists(cache.ListQuery{Prefix: "snapshots/2/", Delimiter: "/"},
		[]string{"snapshots/2/20-x"}, []string{"snapshots/2/2/", "snapshots/2/20/", "snapshots/2/201/"})
}

func testListStop(f *fixture) {
	f.put("a", nil)
	stop := errors.New("enough")
	if err := f.s.List(f.ctx, cache.ListQuery{Prefix: f.prefix}, func(cache.ListPage) error { return stop }); err != stop {
		f.Errorf("list answers %v, want the page's own error unchanged", err)
	}
}

func testOddKeys(f *fixture) {
	names := []string{
		"sp ace", "two  spaces", "plus+plus", "per%cent", "per%20cent", "quote'quote", `dquote"dquote`, "amp&amp;amp", "<less>", "ünï/çödé",
		"日本語", ".hidden", "..double", "eq=eq", "semi;colon", "at@at", "what?what", "hash#hash", "tilde~", "star*star", "(round)", "[square]",
		"comma,comma", "colon:colon", "dollar$", "excl!", "trailing ", " leading", "deep/er/.x/ y/+z", "e\u0301 combining", "😀",
	}
	for i, name := range names {
		f.put(name, []byte(fmt.Sprint(i)))
	}
	slices.Sort(names)
	keys, _ := f.list(cache.ListQuery{})
	if !slices.Equal(keys, names) {
		f.Errorf("listed\n %q, want\n %q", keys, names)
	}
	for _, name := range names {
		head, err := f.s.Head(f.ctx, f.key(name))
		f.must(err)
		_, err = f.s.Copy(f.ctx, f.key(name), head.ETag, f.key("copy/"+name+".copy"), head.Size, cache.PutOptions{})
		f.must(err)
		data, _ := f.get("copy/"+name+".copy", 0, -1, "")
		f.holds(name, data)
	}
	for _, name := range names {
		f.must(f.s.Delete(f.ctx, f.key(name), ""))
		f.absent(name)
	}
}

// testMarkers: empty directories are objects whose key ends in "/".
func testMarkers(f *fixture) {
	meta := map[string]string{"file-permissions": "040755"}
	_, err := f.s.Put(f.ctx, f.key("empty/"), strings.NewReader(""), 0, sum(cache.PutOptions{Metadata: meta}, nil))
	f.must(err)
	f.put("full/", nil)
	f.put("full/x", []byte("x"))
	head, err := f.s.Head(f.ctx, f.key("empty/"))
	f.must(err)
	if head.Size != 0 || head.Metadata["file-permissions"] != "040755" {
		f.Errorf("the marker is %+v", head)
	}
	f.absent("empty")
	f.lists(cache.ListQuery{}, []string{"empty/", "full/", "full/x"}, nil)
	f.lists(cache.ListQuery{Delimiter: "/"}, nil, []string{"empty/", "full/"})
	f.lists(cache.ListQuery{Prefix: "full/", Delimiter: "/"}, []string{"full/", "full/x"}, nil)
	f.must(f.s.Delete(f.ctx, f.key("full/"), ""))
	f.holds("full/x", []byte("x"))
	f.must(f.s.Delete(f.ctx, f.key("empty/"), ""))
	f.absent("empty/")
}

// testKeyBesideFolder: S3 has no trouble with "a" beside "a/b". A store that
// keeps objects as files has and must refuse in so many words; MinIO takes both
// and lists only "a" (Mem's own test holds Mem to S3).
func testKeyBesideFolder(f *fixture) {
	f.put("a", []byte("a"))
	_, err := f.s.Put(f.ctx, f.key("a/b"), strings.NewReader("ab"), 2, cache.PutOptions{})
	if err != nil {
		f.want(err, cache.ErrRejected)
		f.Logf("this store cannot keep a/b beside a: %v", err)
		f.holds("a", []byte("a"))
		return
	}
	f.holds("a", []byte("a"))
	f.holds("a/b", []byte("ab"))
	if keys, _ := f.list(cache.ListQuery{}); !slices.Equal(keys, []string{"a", "a/b"}) {
		f.Logf("this store hides keys beside a: it lists %q", keys)
	}
}

func testBadKeys(f *fixture) {
	for _, c := range []struct{ name, key string }{
		{"empty", ""},
		{"too long", f.key(strings.Repeat("0123456789abcdef/", 70))},
	} {
		_, err := f.s.Put(f.ctx, c.key, strings.NewReader("x"), 1, cache.PutOptions{})
		if err == nil {
			f.Errorf("%s: stored", c.name)
			continue
		}
		f.want(err, cache.ErrRejected)
	}
	for _, value := range []string{"two\nlines", "zero\x00", "not ascii: é"} {
		_, err := f.s.Put(f.ctx, f.key("x"), strings.NewReader("x"), 1, cache.PutOptions{Metadata: map[string]string{"note": value}})
		f.want(err, cache.ErrRejected)
	}
	f.absent("x")
}
