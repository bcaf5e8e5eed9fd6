// Edge is a security edge for web applications: it terminates TLS, inspects
// requests with the OWASP Core Rule Set, enforces limits, and forwards what is
// left to the application.
//
//	edge run --config edge.yaml    serve until told to stop
//	edge check edge.yaml           say everything that is wrong with a configuration
//	edge why ID                    explain one request
//	edge log search                find records; also follow, top and report
//	edge ip explain                say whom a request would be counted as
//	edge demo                      three sample applications behind an edge, to try it
//
// Exit codes: 0 all is well; 1 it failed; 2 the command line was wrong; 3 the
// configuration was; 4 what was asked for is not there.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	root := command()
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitCode(err))
	}
}

// command is the whole command line.
func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "edge",
		Short: "A security edge for web applications",
		Long: `edge stands in front of web applications: it terminates TLS, inspects every
request with the OWASP Core Rule Set, enforces rate limits, forwards what is
left, and can say of each request what was decided and why.

To see it work, with nothing to set up:  edge demo`,
		Example: `  edge run --config /etc/edge/edge.yaml
  edge check /etc/edge/edge.yaml
  edge why last`,
		Args: func(c *cobra.Command, given []string) error {
			if len(given) == 0 {
				return nil
			}
			hint := ""
			if near := c.SuggestionsFor(given[0]); len(near) > 0 {
				hint = fmt.Sprintf("; did you mean %q?", near[0])
			}
			return withCode{exitUsage, fmt.Errorf("unknown command %q%s\nsee: edge --help", given[0], hint)}
		},
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,

		SuggestionsMinimumDistance: 2,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return withCode{exitUsage, fmt.Errorf("%w\nsee: %s --help", err, c.CommandPath())}
	})
	root.AddCommand(runCommand(), checkCommand(), whyCommand(), logCommand(), schemaCommand(), ipCommand(), demoCommand(), versionCommand())
	root.SetHelpTemplate(root.HelpTemplate() + `
Exit codes: 0 all is well, 1 it failed, 2 the command line was wrong,
3 the configuration was wrong, 4 what was asked for is not there.
`)
	return root
}

// The exit codes.
const (
	exitFailure  = 1
	exitUsage    = 2
	exitConfig   = 3
	exitNotFound = 4
)

// withCode is an error that knows its exit code.
type withCode struct {
	code int
	error
}

func (e withCode) Unwrap() error { return e.error }

func exitCode(err error) int {
	var e withCode
	if errors.As(err, &e) {
		return e.code
	}
	return exitFailure
}

// args wraps a check of positional arguments so that its errors count as usage.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, given []string) error {
		if err := check(c, given); err != nil {
			return withCode{exitUsage, fmt.Errorf("%w\nusage: %s", err, c.UseLine())}
		}
		return nil
	}
}
