package listen

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"

	"edge/config"
)

// announceTimeout is how long a load balancer may take to say whom a connection
// is for. It knows that before it connects.
const announceTimeout = 2 * time.Second

// announceBuffer is what a header of version 1 (107 bytes at most) fits into at
// once; longer ones of version 2, up to 4 KiB, are read in pieces.
const announceBuffer = 256

// Believe names the load balancers that begin every connection with a PROXY
// protocol header, of version 1 or 2. It is called before Serve.
//
// From them a header is required within 2 s, and the address in it is where the
// connection comes from, for whoever asks. One that names no client of ours (the
// command LOCAL of health checks, UNKNOWN, a Unix socket, UDP) leaves it to be the
// balancer's own. From anybody else no header is accepted: it is no ClientHello.
func (s *Server) Believe(balancers []config.Prefix) { s.balancers = balancers }

// announces says that raw is from a load balancer that says whom it is for.
func (s *Server) announces(raw net.Conn) bool {
	_, speaks := config.In(s.balancers, addrOf(raw.RemoteAddr()).Addr())
	return speaks
}

// announced is raw with the address of the client it is for. It waits for the
// announcement, so it is not for the loop that accepts. The caller closes raw when
// there is an error.
func (s *Server) announced(raw net.Conn) (net.Conn, error) {
	a := &arrival{Conn: raw}
	if !s.announces(raw) {
		return a, nil
	}
	if err := raw.SetReadDeadline(time.Now().Add(announceTimeout)); err != nil {
		return nil, err
	}
	a.early = bufio.NewReaderSize(raw, announceBuffer)
	header, err := proxyproto.Read(a.early)
	if err != nil {
		return nil, fmt.Errorf("PROXY protocol: %w", err)
	}
	a.from = announcedBy(header)
	return a, raw.SetReadDeadline(time.Time{})
}

// announcedBy is the client that a header names, IPv4 as IPv4, or nil.
func announcedBy(h *proxyproto.Header) net.Addr {
	if !h.Command.IsProxy() {
		return nil
	}
	source, _, ok := h.TCPAddrs()
	if !ok {
		return nil
	}
	if client := addrOf(source); client.IsValid() {
		return net.TCPAddrFromAddrPort(client)
	}
	return nil
}

// addrOf is a TCP address, IPv4 as IPv4 and without an interface's zone; the zero
// AddrPort for any other.
func addrOf(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}
