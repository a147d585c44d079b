package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		name   string
		values []float64
		want   float64
	}{
		{"none", nil, 0},
		{"one", []float64{3}, 3},
		{"odd", []float64{9, 1, 2}, 2},
		{"even", []float64{4, 1, 2, 100}, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := median(test.values); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestRatioAboveOneIsBetter(t *testing.T) {
	if got := throughput.ratio(200, 100); got != 2 {
		t.Errorf("twice the throughput: %v", got)
	}
	if got := latency.ratio(200, 100); got != 0.5 {
		t.Errorf("twice the time: %v", got)
	}
}

// Ratios are taken within a round: a machine that is half as fast in the second
// round changes the median of the figures and not that of the ratios.
func TestRatiosStandDrift(t *testing.T) {
	first, second := &column{name: "a"}, &column{name: "b"}
	speed := 100.0
	r := &row{name: "work", unit: perSecond, run: func(_ context.Context, c *column) (float64, error) {
		if c == second {
			return speed * 0.8, nil
		}
		return speed, nil
	}}
	b := &bench{opts: options{rounds: 3}, say: io.Discard}
	s := &section{title: "test", columns: []*column{first, second}, rows: []*row{r}}
	for round := range 3 {
		if err := b.measureRow(t.Context(), s, r, round); err != nil {
			t.Fatal(err)
		}
		speed /= 2
	}
	if got := median(r.cell(second).ratios); got != 0.8 {
		t.Errorf("ratio %v, want 0.8", got)
	}
	b.local, b.cold = s, &section{}
	var out strings.Builder
	b.table(&out)
	if !strings.Contains(out.String(), "40.0 /s   0.80") {
		t.Errorf("the table lacks the figure:\n%s", &out)
	}
}

// A column that fails in one row goes on in others and says why.
func TestFailuresAreNamed(t *testing.T) {
	good, bad := &column{name: "good"}, &column{name: "bad"}
	r := &row{name: "work", unit: perSecond, run: func(_ context.Context, c *column) (float64, error) {
		if c == bad {
			return 0, errors.New("no space")
		}
		return 1, nil
	}}
	b := &bench{opts: options{rounds: 1}, say: io.Discard, cold: &section{}}
	b.local = &section{title: "test", columns: []*column{good, bad}, rows: []*row{r}}
	if err := b.measure(t.Context(), b.local); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	b.table(&out)
	if err := b.failures(); err == nil || !strings.Contains(err.Error(), "work, bad: no space") || !strings.Contains(out.String(), "work, bad: no space") {
		t.Errorf("error %v\n%s", err, &out)
	}
}

func TestProxyDelaysAndDoesNotThrottle(t *testing.T) {
	const size = 64 << 20
	body := randomBytes(size, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/big" {
			_, _ = w.Write(body)
		}
	}))
	defer server.Close()
	const delay = 500 * time.Millisecond
	p, err := newProxy(server.Listener.Addr().String(), delay)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	get := func(path string) ([]byte, time.Duration) {
		start := time.Now()
		resp, err := http.Get(p.endpoint() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return got, time.Since(start)
	}
	if _, took := get("/"); took < 2*delay {
		t.Errorf("an answer after %v, less than the round trip of %v", took, 2*delay)
	}
	got, took := get("/big")
	if !bytes.Equal(got, body) {
		t.Error("the proxy changes bytes")
	}
	// Were every piece of 64 KiB delayed by itself, it would take more than 8 minutes.
	if took > 4*time.Minute {
		t.Errorf("%d MiB took %v", size>>20, took)
	}
	if n := p.traffic(); n.Requests != 2 || n.Received < size {
		t.Errorf("the proxy counts %+v for 2 requests of %d bytes", n, size)
	}
}

// A client that hangs up ends the connection to the server too.
func TestProxyPassesTheEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, err := newProxy(l.Addr().String(), time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	client, err := net.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if _, err := client.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	client.Close()
	got, err := io.ReadAll(server)
	if err != nil || string(got) != "last words" {
		t.Errorf("the server got %q, %v", got, err)
	}
}

func TestRandomWithoutFio(t *testing.T) {
	const size = 1 << 20
	path := t.TempDir() + "/file"
	if err := writeFile(t.Context(), path, size, 1); err != nil {
		t.Fatal(err)
	}
	for _, a := range []access{{"randread", 4, false}, {"randwrite", 1, false}} {
		if rate, err := loopRandom(t.Context(), path, size, a, 20*time.Millisecond); err != nil || rate <= 0 {
			t.Errorf("%v: %v per second, %v", a, rate, err)
		}
	}
	if st, err := os.Stat(path); err != nil || st.Size() != size {
		t.Errorf("the file changed its size: %v, %v", st, err)
	}
}

func TestFlags(t *testing.T) {
	o, err := parse([]string{"-short", "-rounds", "2", "-size", "3MiB", "-rows", "first"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.rounds != 2 || o.size != 3<<20 || o.files != 500 || !o.rows.MatchString("first 4 KiB") || o.rows.MatchString("stat") {
		t.Errorf("got %+v", o)
	}
	for _, args := range [][]string{{"-rounds", "0"}, {"-size", "much"}, {"-rows", "("}, {"-cold-size", "1MiB"}, {"stray"}} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
}

// A bar is shown in all columns; depotfs alone has to meet it.
func TestBarsAreShownAndCounted(t *testing.T) {
	limit, fs, other := &column{name: "SDK"}, &column{name: "depotfs", zone: &zone{}}, &column{name: "peer", peer: &peer{}}
	took := map[*column]float64{limit: 0.020, fs: 0.024, other: 0.100}
	found := 2.0
	r := &row{name: "work", unit: latency, run: func(_ context.Context, c *column) (float64, error) {
		c.found["pieces"] = found
		return took[c], nil
	}}
	b := &bench{opts: options{rounds: 3, roundTrip: 20 * time.Millisecond}, say: io.Discard, local: &section{}}
	r.bars = []bar{b.inTrips(1.3), ofSDK(0.9), finds("pieces", 4, 2, "halves")}
	r.peerRounds = 1
	b.cold = &section{title: "test", columns: []*column{limit, fs, other}, rows: []*row{r}}
	if err := b.measure(t.Context(), b.cold); err != nil {
		t.Fatal(err)
	}
	if n := len(r.cell(other).samples); n != 1 {
		t.Errorf("the peer was measured %d times instead of once", n)
	}
	var out strings.Builder
	b.table(&out)
	for _, want := range []string{
		"bar: at most 1.30 round trips", "1.20 met", "5.00\n", // the peer without a verdict
		"bar: at least 0.90 of the SDK program", "0.83 MISSED",
		"bar: at most 4.00 halves", "1.00 met",
		"Bars of depotfs: 2 met, 1 missed.", "MISSED: work, depotfs: 0.83 instead of at least 0.90 of the SDK program",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &out)
		}
	}
}

// A row that was to be measured and was not has not met its bar.
func TestBarsOfFailedRowsAreMissed(t *testing.T) {
	fs := &column{name: "depotfs", zone: &zone{}}
	fails := &row{name: "fails", unit: latency, bars: []bar{own(1, latency)}, run: func(context.Context, *column) (float64, error) { return 0, io.ErrUnexpectedEOF }}
	tidied := 0
	fails.tidy = func(context.Context, *column) error { tidied++; return nil }
	not := &row{name: "not", unit: latency, bars: []bar{own(1, latency)}, run: func(context.Context, *column) (float64, error) { return 0, errNot }}
	b := &bench{opts: options{rounds: 2}, say: io.Discard, local: &section{}, cold: &section{columns: []*column{fs}, rows: []*row{fails, not}}}
	if err := b.measure(t.Context(), b.cold); err != nil {
		t.Fatal(err)
	}
	if met, missed := b.verdict(); met != 0 || len(missed) != 1 || !strings.Contains(missed[0], "fails, depotfs") {
		t.Errorf("%d met, missed %q", met, missed)
	}
	if tidied != 1 {
		t.Errorf("tidied %d times after one measurement", tidied)
	}
}

// The guest of all columns and rounds is the same, and stays within the object.
func TestBootReads(t *testing.T) {
	b := &bench{opts: options{bootReads: 50}}
	scattered, streams := b.bootReads()
	again, _ := b.bootReads()
	for i, r := range append(scattered, streams...) {
		if r.off < 0 || r.length <= 0 || r.off+r.length > bootSpan {
			t.Errorf("read %d: %d bytes at %d", i, r.length, r.off)
		}
	}
	if len(scattered) != 50 || !slices.Equal(scattered, again) {
		t.Error("the reads are not the same again")
	}
}
