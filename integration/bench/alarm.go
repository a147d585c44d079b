package main

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// alarm wakes a goroutine at a time, as exactly as the kernel can. The runtime's own
// timers may be a millisecond late, a tenth of the delay of a line; nanosleep(2)
// would hold a processor of the runtime's while it sleeps.
type alarm struct {
	fd   int      // a timerfd
	file *os.File // the same, in the runtime's poller; owns it
}

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	return &alarm{fd: fd, file: os.NewFile(uintptr(fd), "alarm")}, nil
}

func (a *alarm) close() { a.file.Close() }

// sleepUntil returns when due has come. One goroutine at a time may wait.
func (a *alarm) sleepUntil(due time.Time) error {
	d := time.Until(due)
	if d <= 0 {
		return nil
	}
	set := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if err := unix.TimerfdSettime(a.fd, 0, &set, nil); err != nil {
		return os.NewSyscallError("timerfd_settime", err)
	}
	var ticks [8]byte
	_, err := a.file.Read(ticks[:])
	return err
}
