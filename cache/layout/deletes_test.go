package layout_test

import (
	"testing"

	"depotfs/cache/layout"
)

func TestDeletesByClass(t *testing.T) {
	rules, err := layout.Default().WithDeletes("template", layout.DeleteOrigin)
	if err != nil {
		t.Fatal(err)
	}
	if got := rules.Of("template/tmpl/2/201/x").Deletes; got != layout.DeleteOrigin {
		t.Errorf("template: %q", got)
	}
	if got := rules.Of("snapshots/2/5/x").Deletes; got == layout.DeleteOrigin {
		t.Errorf("snapshot: %q", got)
	}
	if got := layout.Default().Of("template/tmpl/2/201/x").Deletes; got == layout.DeleteOrigin {
		t.Error("the defaults were changed")
	}
	if rules, err = rules.WithDeletes("", layout.DeleteOrigin); err != nil {
		t.Fatal(err)
	}
	if got := rules.Of("volumes/1/2/x").Deletes; got != layout.DeleteOrigin {
		t.Errorf("all: %q", got)
	}
	if _, err := rules.WithDeletes("tempalte", layout.DeleteOrigin); err == nil {
		t.Error("a class that is none was taken")
	}
	if _, err := rules.WithDeletes("template", "sometimes"); err == nil {
		t.Error("a word that is none was taken")
	}
}
