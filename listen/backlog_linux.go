package listen

import (
	"net"
	"syscall"
)

const (
	tcpNotSentLowat = 25 // TCP_NOTSENT_LOWAT, tcp(7)
	unsent          = 128 << 10
)

// limitBacklog keeps the kernel from taking more than a little of what a client
// does not take yet, 4 MB by default. Otherwise nobody could tell a slow client from
// one that has stopped: a write would wait until a third of that is gone.
func limitBacklog(c net.Conn) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	if socket, err := s.SyscallConn(); err == nil {
		_ = socket.Control(func(fd uintptr) { // without it, clients are only judged more harshly
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowat, unsent)
		})
	}
}
