package layout_test

import (
	"slices"
	"strings"
	"testing"

	"depotfs/cache/layout"
)

const template = `#
#Mon Jun 02 10:11:12 UTC 2025
uniquename=201-2-6f5e1a2b
filename=6f5e1a2b.qcow2
qcow2.filename=6f5e1a2b.qcow2
qcow2=true
qcow2.size=1234
virtualsize=10737418240
id=201
public=false
size=1234
`

func TestNamedFiles(t *testing.T) {
	for _, tt := range []struct {
		name, content string
		want          []string
	}{
		{"as CloudStack writes it", template, []string{"6f5e1a2b.qcow2"}},
		{"volume.properties", "filename=vol.ova\nova.filename=vol.ova\nvmdk.filename=disk1.vmdk\n", []string{"disk1.vmdk", "vol.ova"}},
		{"created empty first", "", nil},
		{"appended by scripts, the last line open", "filename=x.vhd\ndescription=a filename=b", []string{"x.vhd"}},
		{"colon, blanks, CRLF", "  filename : x.iso\r\nvhd.filename  y.vhd\r\n", []string{"x.iso", "y.vhd"}},
		{"comments name nothing", "#filename=a\n !filename=b\nxfilename=c\nfilename.x=d\n", nil},
		{"continued lines", "file\\\n   name=long\\\n   er.iso\n", []string{"longer.iso"}},
		{"a comment does not continue", "# note \\\nfilename=x\n", []string{"x"}},
		{"an even number of backslashes ends the line", "filename=x\\\\\niso.filename=y\n", []string{"x\\", "y"}},
		{"escapes", `filename=gr\u00f6\u00DFe\ \=\:.iso` + "\n", []string{"größe =:.iso"}},
		{"surrogates", `filename=\uD83D\uDE00.iso`, []string{"😀.iso"}},
		{"raw bytes stay", "filename=gr\xf6\n", []string{"gr\xf6"}},
		{"broken escape", `filename=a\u12`, []string{"au12"}},
		{"path", "filename=/template/tmpl/1/2/x.iso\n", []string{"x.iso"}},
		{"no name at all", "filename=\nqcow2.filename=..\nova.filename=a/\niso.filename=" + strings.Repeat("x", 256), nil},
		{"backslash at the very end", "filename=x\\", []string{"x"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := layout.ParseNamedFiles([]byte(tt.content)); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestNamedFilesIsBounded(t *testing.T) {
	content := strings.Repeat("x=y\n", 1<<18) + "filename=late.iso\n"
	if got := layout.ParseNamedFiles([]byte(content)); got != nil {
		t.Errorf("looked past 1 MiB: %q", got)
	}
}

func TestEqualIgnoringComments(t *testing.T) {
	shuffled := "#Tue\nvirtualsize=10737418240\nid=201\npublic=false\nsize=1234\nqcow2=true\nqcow2.size=1234\n" +
		"qcow2.filename=6f5e1a2b.qcow2\nfilename=6f5e1a2b.qcow2\nuniquename=201-2-6f5e1a2b\n"
	for _, tt := range []struct {
		name, a, b string
		want       bool
	}{
		{"another date", template, strings.Replace(template, "Mon Jun 02", "Tue Jun 03", 1), true},
		{"another order", template, shuffled, true},
		{"another value", template, strings.Replace(template, "1234", "1235", 1), false},
		{"a key more", template, template + "hvm=true\n", false},
		{"only comments and nothing", "#a\n", "", true},
		{"the last value of a key counts", "a=1\na=2\n", "a=2\n", true},
		{"the last value of a key counts", "a=2\na=1\n", "a=2\n", false},
		{"large files byte by byte", "#a" + strings.Repeat("x", 1<<20), "#b" + strings.Repeat("x", 1<<20), false},
	} {
		if got := layout.EqualIgnoringComments([]byte(tt.a), []byte(tt.b)); got != tt.want {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
}

func FuzzParseNamedFiles(f *testing.F) {
	f.Add([]byte(template))
	f.Add([]byte("filename=\\\n\\\r\\u12"))
	f.Add([]byte(`a.filename:\uD83D\uD83D\`))
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, name := range layout.ParseNamedFiles(content) {
			if !layout.ValidName(name) {
				t.Fatalf("%q is no name", name)
			}
		}
		noted := append([]byte("# note\n"), content...)
		if !layout.EqualIgnoringComments(content, noted) {
			t.Fatalf("a comment in front makes a difference")
		}
	})
}
