package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Say everything that is wrong with a configuration",
		Long: `Read a configuration, its rules files and certificates, compile the rules, and
print every fault with file, line and column. Nothing is served and nothing is
changed. Exit code 3 means that "edge run" would refuse the configuration.`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			path := defaultConfig
			if len(given) > 0 {
				path = given[0]
			}
			s := &shared{}
			l, err := load(path, s, 1)
			if err != nil {
				return err
			}
			defer l.snapshot.Close()
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is good: %s, %s\n", path,
				count(len(l.config.Apps), "app"), count(s.engines.Len(), "WAF engine"))
			return err
		},
	}
}

// count is a number of things in words: "1 app", "3 apps".
func count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}
