// Command depotfs mounts a depot and talks to running mounts.
//
// It is the only package that knows all the others, and it holds no rules of
// its own about files: package cache does. What is here:
//
//   - main.go, app.go, exit.go, suggest.go: the command tree, and the three exit
//     codes (0 done, 1 failed, 2 usage) with one clear line for each failure;
//   - one file per command (umount.go, status.go, stat.go, ls.go, flush.go, ...);
//   - options.go, config.go, configfile.go, values.go: what can be configured.
//     A value comes from a flag, else from the environment, else from the
//     configuration file, else it is the default, and config show says which;
//   - preflight.go, daemon.go, mountcmd.go: what happens before the mount exists.
//     `depotfs mount` checks what it can, starts itself again in a new session
//     and returns when that child says over a pipe that the mount answers;
//   - mount.go: the wiring. The child (or --foreground) owns the parts in start
//     order: locks, log, store, heart, control socket, kernel mount;
//   - events.go: the address where the store may say that there is something new;
//   - find.go: from any path to the mount that holds it, by the mount table and
//     never through the mount itself, which may hang;
//   - control.go, stream.go, socket.go, client.go: HTTP with JSON over
//     state-dir/control.sock, for the owner of the mount and root only.
//
// A command that was interrupted closes its connection, and with it ends the
// work that it asked for; the mount goes on as before.
package main
