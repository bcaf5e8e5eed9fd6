package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"edge/blocklog"
	"edge/internal/strictyaml"
	"edge/review"
)

func logCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Search, follow and sum up the records",
		Long: `Search, follow and sum up the records of an edge, current and put aside. Without
--all these are the decisions: what was refused, what detect would have refused,
what could not be served.

Times are a duration back from now (90m, 24h, 7d), a date (2027-03-01) or a date
and time (2027-03-01T09:00), both in UTC.`,
	}
	cmd.AddCommand(logSearch(), logFollow(), logTop(), logReport())
	return cmd
}

// query is the flags that the commands share.
type query struct {
	config, state              string
	all, json                  bool
	since, until, client, path string
	app, tenant, rule, text    string
	action, reason             string
	filter                     review.Filter
	dir                        string
	now                        time.Time
}

func (q *query) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&q.config, "config", "c", "", "the configuration whose state.dir holds the records")
	f.StringVar(&q.state, "state", "", "the state directory that holds the records")
	f.BoolVar(&q.all, "all", false, "all requests, from the access log")
	f.BoolVar(&q.json, "json", false, "print JSON")
	f.StringVar(&q.since, "since", "", "from this time on")
	f.StringVar(&q.until, "until", "", "up to this time")
	f.StringVar(&q.app, "app", "", "of this app")
	f.StringVar(&q.tenant, "tenant", "", "of this tenant")
	f.StringVar(&q.client, "client", "", "from this address or range")
	f.StringVar(&q.rule, "rule", "", "by this rule")
	f.StringVar(&q.path, "path", "", "for paths of this pattern, such as /api/**")
	f.StringVar(&q.action, "action", "", "deny, detect or fail")
	f.StringVar(&q.reason, "reason", "", "for this reason")
	f.StringVar(&q.text, "text", "", "with this anywhere in the record")
	cmd.MarkFlagsMutuallyExclusive("config", "state")
}

// prepare turns flags into a filter and finds the records.
func (q *query) prepare() error {
	q.now = time.Now()
	f := &q.filter
	f.App, f.Tenant, f.Rule, f.Text = q.app, q.tenant, q.rule, q.text
	f.Action, f.Reason = blocklog.Action(q.action), blocklog.Reason(q.reason)
	var err error
	usage := func(flag string, err error) error { return withCode{exitUsage, fmt.Errorf("--%s: %w", flag, err)} }
	if f.Since, err = parseTime(q.since, q.now); err != nil {
		return usage("since", err)
	}
	if f.Until, err = parseTime(q.until, q.now); err != nil {
		return usage("until", err)
	}
	if q.client != "" {
		if f.Client, err = parsePrefix(q.client); err != nil {
			return usage("client", err)
		}
	}
	if q.path != "" {
		if err = f.Path.UnmarshalText([]byte(q.path)); err != nil {
			return usage("path", err)
		}
	}
	dirs, err := logDirs(q.config, q.state)
	if err != nil {
		return err
	}
	for _, q.dir = range dirs {
		if files, err := q.files(); err != nil || len(files) > 0 {
			return err
		}
	}
	return withCode{exitNotFound, fmt.Errorf("no records in %v", dirs)}
}

// name is which of the two logs is meant.
func (q *query) name() string {
	if q.all {
		return blocklog.AccessFile
	}
	return blocklog.BlockFile
}

func (q *query) files() ([]string, error) { return blocklog.Files(q.dir, q.name()) }

func (q *query) scan(yield func(line []byte, e *blocklog.Event) bool) error {
	files, err := q.files()
	if err != nil {
		return err
	}
	return review.Scan(files, q.filter, yield)
}

func parseTime(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	var back strictyaml.Duration
	if back.UnmarshalText([]byte(s)) == nil {
		return now.Add(-time.Duration(back)), nil
	}
	for _, form := range []string{time.DateOnly, "2006-01-02T15:04", "2006-01-02T15:04:05", time.RFC3339} {
		if t, err := time.Parse(form, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time; write 24h, 2027-03-01 or 2027-03-01T09:00", s)
}

func parsePrefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		return netip.ParsePrefix(s)
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return addr.Unmap().Prefix(addr.Unmap().BitLen())
}

func logSearch() *cobra.Command {
	var q query
	var asCSV bool
	var limit int
	cmd := &cobra.Command{
		Use:     "search",
		Short:   "Print the records that match, the oldest first",
		Example: "  edge log search --since 24h --app hr --rule 942100\n  edge log search --client 203.0.113.0/24 --csv > refused.csv",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := q.prepare(); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			table := review.NewCSV(out)
			found := 0
			var failed error
			err := q.scan(func(line []byte, e *blocklog.Event) bool {
				found++
				switch {
				case asCSV:
					failed = table.Write(e)
				default:
					failed = q.print(out, line, e)
				}
				return failed == nil && (limit == 0 || found < limit)
			})
			if asCSV && failed == nil {
				failed = table.Close()
			}
			if err == nil {
				err = failed
			}
			if err == nil && found == 0 {
				return withCode{exitNotFound, fmt.Errorf("nothing in %s is like that", filepath.Join(q.dir, q.name()))}
			}
			return err
		},
	}
	q.flags(cmd)
	cmd.Flags().BoolVar(&asCSV, "csv", false, "print CSV, safe to open in a spreadsheet")
	cmd.Flags().IntVar(&limit, "limit", 0, "stop after so many")
	cmd.MarkFlagsMutuallyExclusive("csv", "json")
	return cmd
}

// print writes one record, as a line for people or as it is.
func (q *query) print(out io.Writer, line []byte, e *blocklog.Event) error {
	if q.json {
		return escapeJSON(out, bytes.TrimSpace(line))
	}
	_, err := fmt.Fprintln(out, review.Line(e))
	return err
}

func logFollow() *cobra.Command {
	var q query
	cmd := &cobra.Command{
		Use:   "follow",
		Short: "Print records as they are written, until interrupted",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := q.prepare(); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			return review.Follow(cmd.Context(), filepath.Join(q.dir, q.name()), q.filter, func(line []byte, e *blocklog.Event) {
				_ = q.print(out, line, e) // whoever reads it has gone; an interrupt ends it
			})
		},
	}
	q.flags(cmd)
	return cmd
}

func logTop() *cobra.Command {
	var q query
	var n int
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Count rules, clients, routes and tenants",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := q.prepare(); err != nil {
				return err
			}
			top := review.NewTop()
			if err := q.scan(func(_ []byte, e *blocklog.Event) bool { top.Add(e); return true }); err != nil {
				return err
			}
			return q.printGroups(cmd.OutOrStdout(), top.Groups(n))
		},
	}
	q.flags(cmd)
	cmd.Flags().IntVarP(&n, "number", "n", 10, "how many of each")
	return cmd
}

func (q *query) printGroups(out io.Writer, groups []review.Group) error {
	if q.json {
		return json.NewEncoder(out).Encode(groups)
	}
	return review.Print(out, groups)
}

func logReport() *cobra.Command {
	var q query
	cmd := &cobra.Command{
		Use:   "report",
		Short: "A day in one page",
		Long: `A day in one page, or whatever time --since and --until say: attacks, probable
false positives, who was refused what, and what detect would have refused.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := q.prepare(); err != nil {
				return err
			}
			if q.filter.Since.IsZero() {
				q.filter.Since = q.now.Add(-24 * time.Hour)
			}
			until := q.filter.Until
			if until.IsZero() {
				until = q.now
			}
			r := review.NewReport(q.filter.Since.UTC(), until.UTC())
			if err := q.scan(func(_ []byte, e *blocklog.Event) bool { r.Add(e); return true }); err != nil {
				return err
			}
			if q.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(r.Groups(100))
			}
			return r.Print(cmd.OutOrStdout())
		},
	}
	q.flags(cmd)
	return cmd
}
