package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxConfigFile bounds what is read: the largest sensible file is a few KiB.
const maxConfigFile = 1 << 20

// fileSetting is one value of a configuration file.
type fileSetting struct {
	option *option
	text   string
	line   int
}

// readConfigFile reads name and refuses one that shows its secrets to others.
func readConfigFile(name string) ([]fileSetting, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, usagef("config file: %v", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("config file: %w", err)
	}
	if info.IsDir() {
		return nil, usagef("config file %s is a directory", name)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	if err != nil {
		return nil, fmt.Errorf("config file: %w", err)
	}
	if len(text) > maxConfigFile {
		return nil, usagef("config file %s is larger than %s", name, exactSize(maxConfigFile))
	}
	settings, err := parseConfigFile(filepath.Base(name), text)
	if err != nil {
		return nil, err
	}
	for _, s := range settings {
		if s.option.isSecret() && s.text != "" && info.Mode().Perm()&0o077 != 0 {
			return nil, usagef("config file %s holds %s and others can read it: say chmod 600 %s", name, s.option.fileKey(), name)
		}
	}
	return settings, nil
}

// parseConfigFile reads the settings of a YAML file: one mapping, whose nested
// mappings are dotted names (s3: {bucket: x} is s3.bucket: x). Unknown and
// repeated keys are errors. No error holds a value: it might be a secret.
func parseConfigFile(name string, text []byte) ([]fileSetting, error) {
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(text))
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, nil // empty, or comments only
	}
	if err != nil {
		return nil, usagef("config file %s%s: this is not valid YAML", name, lineOf(err))
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, usagef("config file %s: holds more than one document, or something after the settings", name)
	}
	p := configParser{name: name, seen: map[*option]int{}}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil, nil
	}
	if err := p.mapping("", root); err != nil {
		return nil, err
	}
	return p.settings, nil
}

type configParser struct {
	name     string
	settings []fileSetting
	seen     map[*option]int // the line of each option
}

func (p *configParser) mapping(prefix string, node *yaml.Node) error {
	if node.Kind != yaml.MappingNode {
		return usagef("config file %s:%d: expected lines of the form `name: value`", p.name, node.Line)
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, val := node.Content[i], node.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			return usagef("config file %s:%d: a key must be a plain word", p.name, key.Line)
		}
		name := prefix + key.Value
		if val.Kind == yaml.MappingNode && prefix == "" {
			if err := p.mapping(name+".", val); err != nil {
				return err
			}
			continue
		}
		if err := p.setting(name, key.Line, val); err != nil {
			return err
		}
	}
	return nil
}

func (p *configParser) setting(name string, line int, val *yaml.Node) error {
	o := findFileOption(name)
	if o == nil {
		return usagef("config file %s:%d: unknown key %q%s", p.name, line, printableKey(name), didYouMean(name, fileKeys(), "", ": see depotfs mount --help"))
	}
	if o.only == onlyCommand {
		return usagef("config file %s:%d: %s can only be given on the command line, as --%s", p.name, line, name, o.name)
	}
	if val.Kind != yaml.ScalarNode || val.Tag == "!!null" {
		return usagef("config file %s:%d: %s needs one value", p.name, line, name)
	}
	if before, twice := p.seen[o]; twice {
		return usagef("config file %s:%d: %s is set twice, first in line %d", p.name, line, name, before)
	}
	p.seen[o] = line
	p.settings = append(p.settings, fileSetting{option: o, text: val.Value, line: line})
	return nil
}

// findFileOption knows an option by its plain name and by the 2012 form's.
func findFileOption(name string) *option {
	for i := range options {
		o := &options[i]
		if name == o.fileKey() || name == o.name && o.only != onlyFile {
			return o
		}
	}
	return nil
}

func fileKeys() []string {
	var names []string
	for i := range options {
		if o := &options[i]; o.only != onlyCommand {
			names = append(names, o.fileKey())
			if o.key != "" && o.only != onlyFile {
				names = append(names, o.name)
			}
		}
	}
	return names
}

// printableKey shows an unknown key, but cuts it before anything that may be a
// misplaced secret: in "s3.secret-key=hush" the author forgot the colon. Keys are
// lower case and short; of others only what resembles a key is shown.
func printableKey(name string) string {
	const lower, longest = "abcdefghijklmnopqrstuvwxyz0123456789-_.", 24
	shown := name[:spanOf(name, lower+strings.ToUpper(lower))]
	if suggest(shown, fileKeys()) == "" {
		shown = shown[:min(spanOf(shown, lower), longest)]
	}
	if shown != name {
		shown += "..."
	}
	return shown
}

// spanOf counts the bytes at the start of s that are in set (ASCII).
func spanOf(s, set string) int {
	for i := range len(s) {
		if strings.IndexByte(set, s[i]) < 0 {
			return i
		}
	}
	return len(s)
}

var yamlLine = regexp.MustCompile(`line (\d+)`)

// lineOf takes the line number, and nothing else, from an error of the parser.
func lineOf(err error) string {
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		return ":" + m[1]
	}
	return ""
}
