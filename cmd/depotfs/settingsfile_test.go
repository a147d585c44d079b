package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file that cannot be understood is never taken for none: it may name the bucket.
func TestSettingsFile(t *testing.T) {
	for text, says := range map[string]string{"{": "damaged", `{"set":{}}`: "damaged", `{"format":9,"set":{"secret-key":"hush"}}`: "newer depotfs"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, settingsName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := readSettings(dir); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", text, err)
		}
	}
	dir := t.TempDir()
	want := savedSettings{Format: 1, Set: map[string]string{"s": "v"}, Shared: 7}
	for range 2 {
		if err := want.write(dir); err != nil {
			t.Fatal(err)
		}
	}
	got, found, err := readSettings(dir)
	if err != nil || !found || got.Shared != 7 || got.Set["s"] != "v" {
		t.Errorf("read back %v %v %v", got.Shared, found, err)
	}
	if names, _ := os.ReadDir(dir); len(names) != 1 {
		t.Errorf("the directory has %v", names)
	}
}

// Settings that do not go together with the options of this mount any more are left out,
// those of the store as a whole, and the log names them without their values.
func TestSettingsThatDoNotFit(t *testing.T) {
	dir := t.TempDir()
	s := savedSettings{Format: 1, Set: map[string]string{"upload-limit": "2MiB", "secret-key": "hush", "bucket": "other", "cache-size": "1GiB", "no-such": "1"}}
	if err := s.write(dir); err != nil {
		t.Fatal(err)
	}
	d := startTuned(t, dir)
	if now := d.tuning.config(); now.UploadLimit != 2<<20 || now.Bucket != "depot" || now.SecretKey != "" {
		t.Errorf("in force: limit %d, bucket %s", now.UploadLimit, now.Bucket)
	}
	if log := d.log.String(); !strings.Contains(log, "secret-key") || strings.Contains(log, "hush") || !strings.Contains(log, "no-such") {
		t.Errorf("the log:\n%s", log)
	}
}
