package main

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"depotfs/cache"
)

// operations reads the manual that every option and field must stand in.
func operations(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestEveryOptionIsInTheManual(t *testing.T) {
	manual := operations(t)
	for i := range options {
		o := &options[i]
		if o.only == onlyFile {
			continue // secrets: the section on the configuration file has them
		}
		if !strings.Contains(manual, "| `--"+o.name+"` |") {
			t.Errorf("docs/operations.md has no row for --%s", o.name)
		}
	}
	for _, word := range strings.Fields(manual) {
		row, ok := strings.CutPrefix(word, "`--")
		name, _, closed := strings.Cut(row, "`")
		if ok && closed && !slices.ContainsFunc(options, func(o option) bool { return o.name == name }) {
			t.Errorf("docs/operations.md names --%s, which is no option of mount", name)
		}
	}
}

func TestEverySettingOfConfigSetIsInTheManual(t *testing.T) {
	_, section, _ := strings.Cut(operations(t), "\n## Changing settings while it runs\n")
	section, _, _ = strings.Cut(section, "\n## ")
	table, _, _ := strings.Cut(section, "```")
	for _, name := range liveNames() {
		if !strings.Contains(table, "`"+name+"`") {
			t.Errorf("docs/operations.md does not name %s among what config set changes", name)
		}
	}
	_, shared, _ := strings.Cut(section, "**All zones.**")
	for _, name := range sharedNames() {
		if strings.HasPrefix(name, "s3.") && !strings.Contains(shared, "`"+name+"`") {
			t.Errorf("docs/operations.md does not say that %s can be announced", name)
		}
	}
}

func TestEveryStatusFieldIsInTheManual(t *testing.T) {
	manual := operations(t)
	for _, field := range jsonFields(reflect.TypeFor[cache.Status](), "") {
		if !strings.Contains(manual, "`"+field+"`") {
			t.Errorf("docs/operations.md does not explain %s of status --json", field)
		}
	}
	for _, field := range jsonFields(reflect.TypeFor[cache.FileStatus](), "") {
		if !strings.Contains(manual, "`"+field+"`") {
			t.Errorf("docs/operations.md does not name %s of stat --json", field)
		}
	}
}

func TestEveryZoneFieldIsInTheManual(t *testing.T) {
	_, manual, _ := strings.Cut(operations(t), "`zones --json` prints")
	for _, field := range jsonFields(reflect.TypeFor[cache.ZoneStatus](), "") {
		for _, name := range strings.Split(field, ".") {
			if !strings.Contains(manual, "`"+name+"`") {
				t.Errorf("docs/operations.md does not name %s of zones --json", field)
			}
		}
	}
}

// jsonFields lists the JSON names of a struct's fields, nested ones with dots.
// Lists are named as a whole, and so are structs without names of their own for JSON.
func jsonFields(typ reflect.Type, prefix string) []string {
	var names []string
	for field := range typ.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		nested := field.Type.Kind() == reflect.Struct && field.Type.PkgPath() == typ.PkgPath()
		switch {
		case field.Anonymous:
			names = append(names, jsonFields(field.Type, prefix)...)
		case nested && len(jsonFields(field.Type, "")) > 0:
			names = append(names, jsonFields(field.Type, prefix+name+".")...)
		case name != "":
			names = append(names, prefix+name)
		}
	}
	return names
}
