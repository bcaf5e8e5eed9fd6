//go:build unix

package answer

import (
	"net"
	"syscall"
)

// pending reports whether there is something to be read from c, or its end.
func pending(c net.Conn) (found bool) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	socket, err := s.SyscallConn()
	if err != nil {
		return true
	}
	err = socket.Control(func(fd uintptr) {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		found = err != syscall.EAGAIN && err != syscall.EINTR
	})
	return found || err != nil
}
