package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"edge/config"
	"edge/proxy"
)

func ipCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ip",
		Short: "Say where requests come from",
		Args:  args(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(ipExplainCommand())
	return cmd
}

func ipExplainCommand() *cobra.Command {
	var path, peer string
	var lines []string
	cmd := &cobra.Command{
		Use:   "explain --peer ADDRESS [--xff LINE]...",
		Short: "Say whom a request would be counted as, and why",
		Long: `Follow a request back from its peer, the other end of its connection, through the
lines of X-Forwarded-For (or what client_ip.header names), as the edge would under
this configuration, and print each hop with the reason why it is believed or not.
The last line is the client. Nothing is sent and no edge has to run.`,
		Example: `  edge ip explain --peer 10.0.0.1 --xff "198.51.100.1, 10.2.2.2"
  edge ip explain --peer 10.0.0.1 --xff 1.2.3.4 --xff "198.51.100.1:4711" -c edge.yaml`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := parsePeer(peer)
			if err != nil {
				return withCode{exitUsage, err}
			}
			c, err := config.Load(path)
			if err != nil {
				return withCode{exitConfig, err}
			}
			return explainIP(cmd.OutOrStdout(), c, from, lines)
		},
	}
	cmd.Flags().StringVar(&peer, "peer", "", "the other end of the connection: an address, or address:port")
	cmd.Flags().StringArrayVar(&lines, "xff", nil, "a line of the header, as it was sent; once for each")
	cmd.Flags().StringVarP(&path, "config", "c", defaultConfig, "the configuration")
	return cmd
}

// parsePeer reads the address of a peer, with or without its port.
func parsePeer(s string) (netip.AddrPort, error) {
	if s == "" {
		return netip.AddrPort{}, errors.New("--peer is missing: the address at the other end of the connection")
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap, nil
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("--peer: %q is no address", s)
	}
	return netip.AddrPortFrom(addr, 0), nil
}

// explainIP prints each hop that is looked at, and the client.
func explainIP(to io.Writer, c *config.Config, from netip.AddrPort, lines []string) error {
	origin := proxy.NewOrigin(c.ClientIP)
	out := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0) // which fails in Flush
	hops, last := 0, proxy.Hop{}
	var client netip.AddrPort
	for hop := range origin.Walk(from, lines) {
		name, text := origin.Header(), fmt.Sprintf("%q", hop.Text)
		if hops == 0 {
			name = "peer"
		}
		if hop.Addr.IsValid() {
			client, text = hop.Addr, hop.Addr.Addr().String()
		}
		_, _ = fmt.Fprintf(out, "%s\t%s\t%s\n", name, text, hop.Why())
		hops, last = hops+1, hop
	}
	if in, ok := config.In(c.Listen.ProxyProtocol, from.Addr().Unmap()); ok {
		_, _ = fmt.Fprintf(out, "\t\tit is in listen.proxy_protocol %s: its header names another peer, and that one counts\n", in)
	}
	if n := values(origin.Header(), lines) - (hops - 1); n > 0 && last.Verdict != proxy.Named && last.Verdict != proxy.Ambiguous {
		_, _ = fmt.Fprintf(out, "\t\tnobody vouches for what is in front of it (%s)\n", count(n, "value"))
	}
	_, _ = fmt.Fprintf(out, "client\t%s\n", client.Addr())
	return out.Flush()
}

// values is how many addresses the lines of a header claim to hold.
func values(header string, lines []string) (n int) {
	for _, line := range lines {
		if n++; header == config.ForwardedFor {
			n += strings.Count(line, ",")
		}
	}
	return n
}
