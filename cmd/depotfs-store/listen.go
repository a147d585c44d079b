package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// reservePort replaces port 0 in address by a free port that nobody else can
// get before release is called. Any other port comes back as it is.
//
// The gateway binds by itself and does not tell which port it got. So a socket
// that never listens holds the port meanwhile: with SO_REUSEADDR, which Go sets
// on listeners, the gateway may bind beside it; the kernel gives a held port to
// nobody who asks for "any".
func reservePort(address string) (fixed string, release func(), err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", nil, usageError{fmt.Errorf("--listen %q is not HOST:PORT", address)}
	}
	if _, err := net.LookupPort("tcp", port); err != nil || port == "" {
		return "", nil, usageError{fmt.Errorf("--listen %q: %q is not a port", address, port)}
	}
	if port != "0" {
		return address, func() {}, nil
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return "", nil, usageError{fmt.Errorf("--listen %q: port 0 needs an IP address before it, such as 127.0.0.1:0", address)}
	}
	fd, err := holdPort(ip)
	if err != nil {
		return "", nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	release = func() { unix.Close(fd) }
	bound, err := unix.Getsockname(fd)
	if err != nil {
		release()
		return "", nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	var got int
	switch bound := bound.(type) {
	case *unix.SockaddrInet4:
		got = bound.Port
	case *unix.SockaddrInet6:
		got = bound.Port
	default:
		release()
		return "", nil, errors.New("the kernel bound a socket of an unknown family")
	}
	return net.JoinHostPort(host, fmt.Sprint(got)), release, nil
}

// holdPort binds a socket to a free port of ip and returns it.
func holdPort(ip netip.Addr) (fd int, err error) {
	family, any := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: ip.As16()})
	if ip.Is4() {
		family, any = unix.AF_INET, &unix.SockaddrInet4{Addr: ip.As4()}
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		unix.Close(fd)
		return -1, err
	}
	if err := unix.Bind(fd, any); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
