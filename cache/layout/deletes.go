package layout

import (
	"fmt"
	"slices"
)

// WithDeletes is rs with another meaning of deletes in one class, or in all with "". A class
// that no rule has is an error.
func (rs Rules) WithDeletes(class string, how Deletes) (Rules, error) {
	if how != DeleteGlobal && how != DeleteOrigin {
		return nil, fmt.Errorf("deletes are %s or %s, not %q", DeleteGlobal, DeleteOrigin, how)
	}
	out := slices.Clone(rs)
	known := class == ""
	for i := range out {
		if c := &out[i].Class; class == "" || c.Name == class {
			c.Deletes, known = how, true
		}
	}
	if !known {
		return nil, fmt.Errorf("no class is called %q", class)
	}
	return out, nil
}
