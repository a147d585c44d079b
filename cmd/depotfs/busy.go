package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// shownUsers is how many processes an error line names.
const shownUsers = 3

// usersOf names other processes that have files of a mount open or stand in it, as
// far as this user may know. It reads links in /proc only: the mount itself is
// not touched.
func usersOf(mountpoint string) []string {
	processes, _ := filepath.Glob("/proc/[0-9]*")
	var users []string
	for _, proc := range processes {
		if filepath.Base(proc) == strconv.Itoa(os.Getpid()) || !usesMount(proc, mountpoint) {
			continue
		}
		if len(users) == shownUsers {
			return append(users, "and others")
		}
		name, _ := os.ReadFile(proc + "/comm")
		users = append(users, fmt.Sprintf("%s (process %s)", printable(strings.TrimSpace(string(name))), filepath.Base(proc)))
	}
	return users
}

func usesMount(proc, mountpoint string) bool {
	links := []string{proc + "/cwd", proc + "/root", proc + "/exe"}
	open, _ := filepath.Glob(proc + "/fd/*")
	for _, link := range append(links, open...) {
		if to, err := os.Readlink(link); err == nil && within(to, mountpoint) {
			return true
		}
	}
	return false
}
