package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of edge, Go, Coraza and the Core Rule Set",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), version())
			return err
		},
	}
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "edge (built without module information)\n"
	}
	text := fmt.Sprintf("edge    %s\ngo      %s\n", info.Main.Version, info.GoVersion)
	names := map[string]string{
		"github.com/corazawaf/coraza/v3":             "coraza ",
		"github.com/corazawaf/coraza-coreruleset/v4": "crs    ",
	}
	for _, dep := range info.Deps {
		if name, ok := names[dep.Path]; ok {
			text += name + " " + dep.Version + "\n"
		}
	}
	return text
}
