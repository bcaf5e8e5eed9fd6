package main

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"edge/blocklog"
	"edge/review"
)

func coverageCommand() *cobra.Command {
	q := query{all: true}
	var n int
	cmd := &cobra.Command{
		Use:   "coverage",
		Short: "Say how much of the requests the WAF saw",
		Long: `Say how much of the requests to each app and route the WAF saw, from the access
log, the least seen first: full, all of it; partial, the parts of the body its route
says; headers, all but a body that was too large or broke off; none, nothing. What
was refused before the WAF was asked is counted apart. In a route, a star stands for
what differs between requests: numbers, dates, tokens.`,
		Example: "  edge coverage --since 7d --app hr\n  edge coverage --json",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := q.prepare(); err != nil {
				return err
			}
			seen := review.NewCoverage()
			if err := q.scan(func(_ []byte, e *blocklog.Event) bool { seen.Add(e); return true }); err != nil {
				return err
			}
			if q.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"apps": seen.Apps(), "routes": seen.Rows()})
			}
			return seen.Print(cmd.OutOrStdout(), n)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&q.config, "config", "c", "", "the configuration whose state.dir holds the records")
	f.StringVar(&q.state, "state", "", "the state directory that holds the records")
	f.BoolVar(&q.json, "json", false, "print JSON, all routes")
	f.StringVar(&q.since, "since", "24h", "from this time on")
	f.StringVar(&q.until, "until", "", "up to this time")
	f.StringVar(&q.app, "app", "", "of this app")
	f.IntVarP(&n, "number", "n", 30, "how many routes")
	cmd.MarkFlagsMutuallyExclusive("config", "state")
	return cmd
}
