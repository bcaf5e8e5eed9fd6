//go:build !linux

package listen

import "net"

// limitBacklog is for Linux.
func limitBacklog(net.Conn) {}
