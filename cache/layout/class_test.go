package layout_test

import (
	"testing"
	"time"

	"depotfs/cache/layout"
)

// Paths as CloudStack makes them.
func TestDefaultClasses(t *testing.T) {
	for _, tt := range []struct{ path, want string }{
		{"template/tmpl/2/201/template.properties", "template"},
		{"template/tmpl/2/201/6f5e1a2b-0000-3333-8888-0123456789ab.qcow2", "template"},
		{"template/tmpl/1/3/aabbcc.vhd", "template"},
		{"template/tmpl/2/205/a7.ova", "template"},
		{"template/tmpl/2/205/disk1.vmdk", "template"},
		{"template/tmpl/2/205/vm.ovf.orig", "template"},
		{"template/tmpl/2/205/vm.ova.meta", "template"},
		{"template/tmpl/2/210/Debian_12_netinst.iso", "template"},
		{"template/tmpl/2/210/KVMHA/hb-10.1.1.1", "template"},
		{"template/tmpl/2/201/dnld8412345tmp_", "temporary"},
		{"template/tmpl/2/201/upload.qcow2.tmp", "temporary"},
		{"template/tmpl/2/201/.nfs000000000001", "temporary"},
		{"template/tmpl/2/201/x-part3tmp", "temporary"},
		{"dnld1tmp_", "temporary"},
		{"snapshots/2/5/6f5e1a2b-0000-3333-8888-0123456789ab", "snapshot"},
		{"snapshots/2/5/6f5e1a2b.vhd", "snapshot"},
		{"snapshots/2/5/uuid/uuid.ovf", "snapshot"},
		{"snapshots", "snapshot"},
		{"checkpoints/2/5/snap1", "snapshot"},
		{"volumes/2/9/uuid.qcow2", "volume"},
		{"volumes/2/9/volume.properties", "volume"},
		{"systemvm/systemvm-4.20.iso", "other"},
		{"configdrive/i-2-3-VM/configdrive.iso", "other"},
		{"templates/x", "other"},
		{"x/template/tmpl/1", "other"},
		{"", "other"},
		{"snapshots/2/5/\xff\xfe.tmp", "temporary"},
		{"snapshots/2/5/name with\nnewline", "snapshot"},
	} {
		if got := layout.Default().Of(tt.path).Name; got != tt.want {
			t.Errorf("class of %q: got %s, want %s", tt.path, got, tt.want)
		}
	}
}

func TestDefaultClassesDoWhatTheyAreFor(t *testing.T) {
	of := layout.Default().Of
	if c := of("a.tmp"); c.Upload || c.Shown {
		t.Errorf("temporary files must stay here: %+v", c)
	}
	if c := of("template/tmpl/1/2/x.qcow2"); !c.Upload || !c.Shown || !c.Eager || !c.Fill || c.Settle != 10*time.Second {
		t.Errorf("template: %+v", c)
	}
	if c := of("snapshots/1/2/x"); !c.Upload || !c.Shown || c.Eager || c.Fill || c.Settle != 2*time.Second {
		t.Errorf("snapshot: %+v", c)
	}
	if c := of("volumes/1/2/x"); !c.Upload || !c.Shown || c.Eager || c.Fill || c.Settle != 30*time.Second {
		t.Errorf("volume: %+v", c)
	}
	if c := of("systemvm/x"); !c.Upload || !c.Shown || c.Eager || !c.Fill || c.Settle != 10*time.Second {
		t.Errorf("other: %+v", c)
	}
}

func TestRulesOfAnOperator(t *testing.T) {
	rules := layout.Rules{
		{Glob: "template/tmpl/{1,3}/**", Class: layout.Class{Name: "system"}},
		{Glob: "a[bc]/**", Class: layout.Class{Name: "letters"}},
		{Glob: "volumes/*/*/*.iso", Class: layout.Class{Name: "iso"}},
		{Glob: `st\*r/**`, Class: layout.Class{Name: "star"}},
	}
	for _, tt := range []struct{ path, want string }{
		{"template/tmpl/3/x/y", "system"},
		{"template/tmpl/2/x/y", "other"},
		{"ab/x", "letters"},
		{"ad/x", "other"},
		{"volumes/1/2/x.iso", "iso"},
		{"volumes/1/2/3/x.iso", "other"},
		{"st*r/x", "star"},
		{"star/x", "other"},
	} {
		if got := rules.Of(tt.path).Name; got != tt.want {
			t.Errorf("class of %q: got %s, want %s", tt.path, got, tt.want)
		}
	}
}

func TestRulesValidate(t *testing.T) {
	if err := layout.Default().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	class := layout.Class{Name: "c"}
	for name, rules := range map[string]layout.Rules{
		"none":            {},
		"no glob":         {{Class: class}},
		"no name":         {{Glob: "**"}},
		"bad glob":        {{Glob: "a[", Class: class}},
		"absolute":        {{Glob: "/a/**", Class: class}},
		"odd deletes":     {{Glob: "**", Class: layout.Class{Name: "c", Deletes: "some"}}},
		"negative settle": {{Glob: "**", Class: layout.Class{Name: "c", Settle: -1}}},
	} {
		if rules.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestAlwaysResident(t *testing.T) {
	for _, tt := range []struct {
		path string
		size int64
		want bool
	}{
		{"template/tmpl/1/2/template.properties", 1 << 30, true},
		{"volumes/1/2/volume.properties", -1, true},
		{"x", 0, true},
		{"x", 1<<20 - 1, true},
		{"x", 1 << 20, false},
		{"x", -1, false},
	} {
		if got := layout.AlwaysResident(tt.path, tt.size); got != tt.want {
			t.Errorf("AlwaysResident(%q, %d) = %v", tt.path, tt.size, got)
		}
	}
}

// BenchmarkOf: called for every file; must not allocate.
func BenchmarkOf(b *testing.B) {
	rules := layout.Default()
	for _, path := range []string{
		"template/tmpl/2/201/6f5e1a2b-0000-3333-8888-0123456789ab.qcow2",
		"systemvm/systemvm-4.20.iso",
	} {
		b.Run(path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				rules.Of(path)
			}
		})
	}
}
