package main

import (
	"strings"
	"testing"

	"depotfs/cache"
)

func TestWhereEventsMayBeReceived(t *testing.T) {
	const long = "cache-dir: /c\nallow-other: true\nevents-secret: 0123456789abcdef\n"
	for _, tt := range []struct{ name, file, listen string }{
		{"nowhere, and a secret all the same", long, ""},
		{"everywhere with a secret", long, ":9400"},
		{"at an address", long, "10.1.0.5:9400"},
		{"at a name", long, "gw.example.com:9400"},
		{"at loopback", "cache-dir: /c\n", "127.0.0.1:9400"},
		{"at loopback of IPv6", "cache-dir: /c\n", "[::1]:9400"},
		{"at localhost", "cache-dir: /c\n", "localhost:65535"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			flags := map[string]string{"config": writeConfig(t, tt.file, 0o600)}
			if tt.listen != "" {
				flags["events-listen"] = tt.listen
			}
			cfg, err := loadConfig(flags, noEnv)
			if err == nil {
				err = cfg.validate()
			}
			if err != nil {
				t.Fatal(err)
			}
			if cfg.EventsListen != tt.listen {
				t.Errorf("listens at %q, want %q", cfg.EventsListen, tt.listen)
			}
		})
	}
}

func TestEventsSecretIsNotShown(t *testing.T) {
	const secret = "0123456789abcdef"
	name := writeConfig(t, "events-secret: "+secret+"\n", 0o644)
	if _, err := loadConfig(map[string]string{"config": name}, noEnv); err == nil || !strings.Contains(err.Error(), "chmod 600 "+name) || strings.Contains(err.Error(), secret) {
		t.Errorf("a file that others can read: %v", err)
	}
	for file, want := range map[string]string{"events-secret: " + secret + "\n": masked, "zone: a\n": ""} {
		cfg, err := loadConfig(map[string]string{"config": writeConfig(t, file, 0o600)}, noEnv)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range cfg.settings() {
			if s.Key == "events-secret" && (s.Text != want || strings.Contains(s.Source, "AWS")) {
				t.Errorf("%q shows %+v, want %q", file, s, want)
			}
		}
	}
	cfg := Config{EventsSecret: "secret with spaces"}
	if err := cfg.validEvents(); err == nil || strings.Contains(err.Error(), "with spaces") {
		t.Errorf("a bad secret: %v", err)
	}
}

func TestStatusShowsEvents(t *testing.T) {
	for want, e := range map[string]cache.EventStatus{
		"": {},
		"received at 10.1.0.5:9400, 1 notification":                                                  {Listen: "10.1.0.5:9400", Received: 1, Woken: 1},
		"received at :9400, 0 notifications, 2 requests with a WRONG SECRET, 1 request that is none": {Listen: ":9400", Refused: 2, Invalid: 1},
		"NOT RECEIVED: accept: broken":                                                               {Listen: ":9400", Received: 7, Error: "accept: broken"},
	} {
		if got := eventsLine(e); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		var page strings.Builder
		drawStatus(&page, cache.Status{Events: e}, e.Last)
		if shown := strings.Contains(page.String(), "events  "); shown != (want != "") {
			t.Errorf("%q is shown: %v in\n%s", want, shown, page.String())
		}
	}
}
