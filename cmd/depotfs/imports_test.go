package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The fences of the architecture. Package cmd alone knows everything; the two
// doors, fs and s3store, never meet; the heart knows neither; imports point down.

// libraryFences says below which of our packages a library may be imported, by
// tests too. A door's library is not linked into the heart or the other door by
// a detour either.
var libraryFences = []struct {
	library, below string
	door           bool
}{
	{library: "github.com/hanwen/go-fuse", below: "depotfs/fs", door: true},
	{library: "github.com/aws/", below: "depotfs/s3store", door: true},
	{library: "github.com/dgraph-io/badger", below: "depotfs/cache/catalog"},
	{library: "github.com/urfave/cli", below: "depotfs/cmd"},
}

// testKit is a suite of POSIX checks for any mount. It belongs to go-fuse, but
// tests that use it know no more of FUSE than a program on the mount does.
const testKit = "github.com/hanwen/go-fuse/v2/posixtest"

// layers says which of our own packages each part may import, itself included.
var layers = map[string][]string{
	"depotfs/cmd":         {"depotfs/cmd", "depotfs/fs", "depotfs/s3store", "depotfs/cache"},
	"depotfs/fs":          {"depotfs/fs", "depotfs/cache"},
	"depotfs/s3store":     {"depotfs/s3store", "depotfs/cache"},
	"depotfs/cache":       {"depotfs/cache"},
	"depotfs/integration": {"depotfs/integration", "depotfs/s3store", "depotfs/cache"}, // a black box: it drives the binary
}

// aboveHeart are the packages below cache/ that stand above the heart: kits for
// tests of its contract. All others there are leaves and do not know the heart.
var aboveHeart = []string{"depotfs/cache/storetest"}

// goPackage is what go list tells of a package.
type goPackage struct {
	ImportPath   string
	Imports      []string
	TestImports  []string // of tests inside the package
	XTestImports []string // of tests beside it
	Deps         []string // all that the package is linked with
}

// below reports whether path is parent or lies below it.
func below(path, parent string) bool {
	return path == parent || strings.HasPrefix(path, strings.TrimSuffix(parent, "/")+"/")
}

func isBelowAny(path string, parents []string) bool {
	return slices.ContainsFunc(parents, func(parent string) bool { return below(path, parent) })
}

// ourPackages lists the module.
func ourPackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports,Deps", "depotfs/...")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var packages []goPackage
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("decode the output of go list: %v", err)
		}
		packages = append(packages, p)
	}
}

// breaches names every import of p that a fence forbids.
func breaches(p goPackage) []string {
	var found []string
	add := func(what string) { found = append(found, p.ImportPath+" "+what) }

	part, rest, _ := strings.Cut(strings.TrimPrefix(p.ImportPath, "depotfs/"), "/")
	allowed, known := layers["depotfs/"+part]
	if !known {
		add("belongs to no layer: the top level is fixed")
	}
	leaf := part == "cache" && rest != "" && !isBelowAny(p.ImportPath, aboveHeart)

	direct := slices.Concat(p.Imports, p.TestImports, p.XTestImports)
	slices.Sort(direct)
	for _, path := range slices.Compact(direct) {
		for _, fence := range libraryFences {
			if strings.HasPrefix(path, fence.library) && !below(p.ImportPath, fence.below) &&
				(path != testKit || slices.Contains(p.Imports, testKit)) {
				add("imports " + path + ", which only " + fence.below + " may")
			}
		}
		if below(path, "depotfs") && !isBelowAny(path, allowed) {
			add("imports " + path + ", which does not lie below it")
		}
	}
	for _, path := range p.Imports {
		if leaf && (path == "depotfs/cache" || isBelowAny(path, aboveHeart)) {
			add("is a leaf and imports " + path)
		}
	}
	for _, path := range p.Deps {
		for _, fence := range libraryFences {
			if fence.door && strings.HasPrefix(path, fence.library) && !below(p.ImportPath, fence.below) && part != "cmd" && part != "integration" {
				add("is linked with " + path)
			}
		}
		if strings.HasPrefix(path, "github.com/versity/") || strings.HasPrefix(path, "github.com/minio/minio/") {
			add("is linked with " + path + ": a store belongs into a process of its own")
		}
	}
	if part != "cmd" && slices.Contains(p.Deps, "depotfs/fs") && slices.Contains(p.Deps, "depotfs/s3store") {
		add("is linked with both doors")
	}
	return found
}

func TestFences(t *testing.T) {
	packages := ourPackages(t)
	if len(packages) < 5 {
		t.Fatalf("go list found %d packages of ours: the test does not see the module", len(packages))
	}
	for _, p := range packages {
		for _, breach := range breaches(p) {
			t.Error(breach)
		}
	}
}

// A fence that lets everything through would pass TestFences.
func TestFencesHold(t *testing.T) {
	for _, test := range []struct {
		name string
		p    goPackage
		want string // "" = allowed
	}{
		{name: "a door in its fence", p: goPackage{ImportPath: "depotfs/fs", Imports: []string{"github.com/hanwen/go-fuse/v2/fuse", "depotfs/cache"}}},
		{name: "cmd knows everything", p: goPackage{ImportPath: "depotfs/cmd/depotfs", Imports: []string{"depotfs/fs", "depotfs/s3store", "github.com/urfave/cli/v2"}, Deps: []string{"github.com/aws/smithy-go", "depotfs/fs", "depotfs/s3store"}}},
		{name: "storetest stands above the heart", p: goPackage{ImportPath: "depotfs/cache/storetest", Imports: []string{"depotfs/cache"}}},
		{name: "go-fuse in the heart", p: goPackage{ImportPath: "depotfs/cache", Imports: []string{"github.com/hanwen/go-fuse/v2/fuse"}}, want: "only depotfs/fs may"},
		{name: "go-fuse in a test of the heart", p: goPackage{ImportPath: "depotfs/cache", XTestImports: []string{"github.com/hanwen/go-fuse/v2/fuse"}}, want: "only depotfs/fs may"},
		{name: "the kit for mounts in a test", p: goPackage{ImportPath: "depotfs/integration", TestImports: []string{testKit}}},
		{name: "the kit for mounts in the program", p: goPackage{ImportPath: "depotfs/cache", Imports: []string{testKit}}, want: "only depotfs/fs may"},
		{name: "the suite in a black-box test", p: goPackage{ImportPath: "depotfs/integration", TestImports: []string{"github.com/hanwen/go-fuse/v2/posixtest"}}},
		{name: "the suite in a black-box program", p: goPackage{ImportPath: "depotfs/integration", Imports: []string{"github.com/hanwen/go-fuse/v2/posixtest"}}, want: "only depotfs/fs may"},
		{name: "the SDK in cmd", p: goPackage{ImportPath: "depotfs/cmd/depotfs", Imports: []string{"github.com/aws/aws-sdk-go-v2/aws"}}, want: "only depotfs/s3store may"},
		{name: "Badger beside the catalog", p: goPackage{ImportPath: "depotfs/cache/queue", Imports: []string{"github.com/dgraph-io/badger/v4"}}, want: "only depotfs/cache/catalog may"},
		{name: "cli in a door", p: goPackage{ImportPath: "depotfs/s3store", Imports: []string{"github.com/urfave/cli/v2"}}, want: "only depotfs/cmd may"},
		{name: "a door to the other", p: goPackage{ImportPath: "depotfs/fs", Imports: []string{"depotfs/s3store"}}, want: "does not lie below"},
		{name: "the heart upwards", p: goPackage{ImportPath: "depotfs/cache", Imports: []string{"depotfs/s3store"}}, want: "does not lie below"},
		{name: "a leaf upwards", p: goPackage{ImportPath: "depotfs/cache/catalog", Imports: []string{"depotfs/cache"}}, want: "is a leaf"},
		{name: "the SDK by a detour", p: goPackage{ImportPath: "depotfs/cache", Deps: []string{"github.com/aws/smithy-go"}}, want: "is linked with"},
		{name: "a store in the process", p: goPackage{ImportPath: "depotfs/s3store", Deps: []string{"github.com/versity/versitygw/embedgw"}}, want: "a process of its own"},
		{name: "a new top level", p: goPackage{ImportPath: "depotfs/util"}, want: "no layer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := strings.Join(breaches(test.p), "\n")
			if test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
