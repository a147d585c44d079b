package main

import (
	"fmt"

	"github.com/schollz/progressbar/v3"
)

// progressBar shows a job on the terminal; nil shows nothing.
type progressBar struct {
	title string
	bar   *progressbar.ProgressBar
	sys   *system
	max   int64
}

// newBar makes a bar where standard error is a terminal and nobody asked for JSON.
func (s *system) newBar(title string, quiet bool) *progressBar {
	if quiet || terminalWidth(s.err) == 0 {
		return nil
	}
	return &progressBar{title: title, sys: s}
}

// show draws the newest state. Work without bytes counts files.
func (b *progressBar) show(p progress) {
	if b == nil || p.FilesTotal == 0 && p.BytesTotal == 0 {
		return
	}
	done, total, inBytes := p.BytesDone, p.BytesTotal, p.BytesTotal > 0
	if !inBytes {
		done, total = p.FilesDone, p.FilesTotal
	}
	if b.bar == nil {
		b.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(b.sys.err),
			progressbar.OptionShowBytes(inBytes),
			progressbar.OptionUseIECUnits(true),
			progressbar.OptionShowCount(),
			progressbar.OptionSetWidth(24),
			progressbar.OptionSetTheme(progressbar.Theme{Saucer: "█", SaucerPadding: "░", BarStart: "", BarEnd: ""}),
			progressbar.OptionClearOnFinish(),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionSetElapsedTime(false),
		)
	} else if total != b.max {
		b.bar.ChangeMax64(total)
	}
	b.max = total
	b.bar.Describe(fmt.Sprintf("%s %d/%d files", b.title, p.FilesDone, p.FilesTotal))
	_ = b.bar.Set64(min(done, total)) // a terminal that is gone needs no bar
}

// clear takes the bar away.
func (b *progressBar) clear() {
	if b != nil && b.bar != nil {
		_ = b.bar.Clear()
	}
}
