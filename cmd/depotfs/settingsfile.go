package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
)

// savedSettings is state-dir/settings.json: what config set has set, secrets included.
// It is one file, so that all of one command is there after a crash, or nothing; and it
// is no part of the catalog, whose files keep for long what was overwritten.
type savedSettings struct {
	Format int               `json:"format"`
	Set    map[string]string `json:"set"`                  // by the option's name
	Shared uint64            `json:"shared_seq,omitempty"` // of the last announcement for all zones that was taken up
}

const (
	settingsName   = "settings.json"
	settingsFormat = 1
	maxSettings    = 1 << 20 // bytes; keys and tokens have some hundred
)

func (s savedSettings) clone() savedSettings {
	s.Set = maps.Clone(s.Set)
	if s.Set == nil {
		s.Set = map[string]string{}
	}
	return s
}

// readSettings reads the file of a state directory; found is false where there is none.
// No error holds a value: it might be a secret.
func readSettings(dir string) (s savedSettings, found bool, err error) {
	name := filepath.Join(dir, settingsName)
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return savedSettings{Format: settingsFormat}.clone(), false, nil
	}
	if err != nil {
		return s, false, fmt.Errorf("read what config set has set: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSettings+1))
	if err != nil {
		return s, false, fmt.Errorf("read what config set has set: %w", err)
	}
	if len(text) > maxSettings || json.Unmarshal(text, &s) != nil || s.Format < 1 {
		return s, false, fmt.Errorf("%s is damaged: restore it, or remove it to mount with the options alone", name)
	}
	if s.Format > settingsFormat {
		return s, false, fmt.Errorf("%s has format %d and this depotfs knows up to %d: use a newer depotfs", name, s.Format, settingsFormat)
	}
	return s.clone(), true, nil
}

// write replaces the file durably. Only its owner can read it at any moment.
func (s savedSettings) write(dir string) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", settingsName, err)
	}
	name := filepath.Join(dir, settingsName)
	f, err := os.CreateTemp(dir, settingsName+".") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", settingsName, err)
	}
	_, err = f.Write(append(text, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", settingsName, err), os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("write %s: %w", settingsName, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", settingsName, err)
	}
	return nil
}
