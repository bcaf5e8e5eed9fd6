package main

import (
	"embed"

	"github.com/spf13/cobra"
)

//go:embed schema/*.json
var schemas embed.FS

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema [edge|rules]",
		Short: "Print the JSON Schema of a configuration file, for editors",
		Long: `Print the JSON Schema of edge.yaml (the default) or of rules files. An editor with
a YAML language server completes and checks a file that begins with

  # yaml-language-server: $schema=edge.schema.json`,
		Example:   "  edge schema > edge.schema.json\n  edge schema rules > rules.schema.json",
		ValidArgs: []string{"edge", "rules"},
		Args:      args(cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs)),
		RunE: func(cmd *cobra.Command, given []string) error {
			name := "edge"
			if len(given) > 0 {
				name = given[0]
			}
			text, err := schemas.ReadFile("schema/" + name + ".json")
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
}
