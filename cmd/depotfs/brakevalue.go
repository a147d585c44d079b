package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"depotfs/cache"
	"depotfs/cache/layout"
)

// brakeValue is "off", or DIRS,PERCENT,COUNT,WINDOW such as 3,10%,20,10m.
type brakeValue struct{ p *cache.Brake }

func (v brakeValue) set(text, _ string) error {
	if strings.EqualFold(text, "off") {
		*v.p = cache.Brake{Off: true}
		return nil
	}
	words := strings.Split(text, ",")
	if len(words) != 4 {
		return fmt.Errorf("%q is neither off nor of the form 3,10%%,20,10m: directories, share of all, directories again, window", text)
	}
	var b cache.Brake
	for i, p := range []*int{&b.Dirs, &b.Percent, &b.Count} {
		word := strings.TrimSpace(words[i])
		if i == 1 {
			word = strings.TrimSuffix(word, "%")
		}
		n, err := strconv.Atoi(word)
		if err != nil {
			return fmt.Errorf("%q in %q is no whole number", words[i], text)
		}
		*p = n
	}
	if err := (durationValue{&b.Window, time.Second}).set(strings.TrimSpace(words[3]), ""); err != nil {
		return err
	}
	if err := b.Validate(); err != nil {
		return err
	}
	*v.p = b
	return nil
}

func (v brakeValue) show() string {
	if v.p.Off {
		return "off"
	}
	return fmt.Sprintf("%d,%d%%,%d,%s", v.p.Dirs, v.p.Percent, v.p.Count, shortDuration(v.p.Window))
}

func (v brakeValue) json() any { return v.show() }

// deletesValue is "global" or "origin" for all classes, or a list of CLASS=WHAT.
type deletesValue struct{ p *string }

func (v deletesValue) set(text, _ string) error {
	if _, err := deleteRules(text); err != nil {
		return err
	}
	*v.p = text
	return nil
}

func (v deletesValue) show() string { return *v.p }
func (v deletesValue) json() any    { return *v.p }

// deleteRules are the default classes with what --deletes says of them.
func deleteRules(text string) (layout.Rules, error) {
	rules := layout.Default()
	for word := range strings.SplitSeq(text, ",") {
		class, how, ok := strings.Cut(strings.TrimSpace(word), "=")
		if !ok {
			class, how = "", class
		} else if class == "" {
			return nil, fmt.Errorf("%q names no class", word)
		}
		var err error
		if rules, err = rules.WithDeletes(class, layout.Deletes(how)); err != nil {
			return nil, fmt.Errorf("%q: %w", word, err)
		}
	}
	return rules, nil
}
