package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/spf13/cobra"

	"edge/blocklog"
	"edge/config"
)

const defaultConfig = "/etc/edge/edge.yaml"

func whyCommand() *cobra.Command {
	var path, state string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "why ID",
		Short: "Explain what was decided about a request",
		Long: `Explain one request in a sentence, with the evidence for it. ID is the incident
number of a block page, the X-Request-Id of any answer, or the first few letters
of either; "last" is the latest refusal.

The records are looked for in --state, else where --config says, else where
"edge run" and "edge demo" keep them by default.`,
		Example: "  edge why 3k9wq7m2c0v8xz1h\n  edge why last --json",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			dirs, err := logDirs(path, state)
			if err != nil {
				return err
			}
			return why(cmd.OutOrStdout(), dirs, given[0], asJSON)
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", "", "the configuration whose state.dir holds the records")
	cmd.Flags().StringVar(&state, "state", "", "the state directory that holds the records")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the record itself")
	cmd.MarkFlagsMutuallyExclusive("config", "state")
	return cmd
}

// logDirs says where to look for records.
func logDirs(path, state string) ([]string, error) {
	switch {
	case state != "":
		return []string{config.State{Dir: state}.LogDir()}, nil
	case path != "":
		c, err := config.Load(path)
		if err != nil {
			return nil, withCode{exitConfig, err}
		}
		return []string{c.State.LogDir()}, nil
	}
	var dirs []string
	switch c, err := config.Load(defaultConfig); {
	case err == nil:
		dirs = append(dirs, c.State.LogDir())
	case !errors.Is(err, fs.ErrNotExist):
		return nil, withCode{exitConfig, err}
	}
	return append(dirs, config.State{Dir: demoDir()}.LogDir()), nil
}

func why(out io.Writer, dirs []string, id string, asJSON bool) error {
	if id == "" {
		return withCode{exitUsage, errors.New("the id is empty")}
	}
	for _, dir := range dirs {
		e, err := blocklog.Find(dir, id)
		switch {
		case errors.Is(err, blocklog.ErrNotFound):
			continue
		case err != nil:
			return err
		case asJSON:
			return writeJSON(out, e)
		}
		_, err = io.WriteString(out, e.Explain())
		return err
	}
	return withCode{exitNotFound, fmt.Errorf("no record of %q in %v", id, dirs)}
}

// writeJSON prints a record.
func writeJSON(out io.Writer, e blocklog.Event) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return escapeJSON(out, text)
}

// escapeJSON prints a line of JSON with everything escaped that a terminal might
// act on, all of which can only be inside its strings.
func escapeJSON(out io.Writer, text []byte) error {
	var b strings.Builder
	for _, r := range string(text) {
		switch {
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xFFFF:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	_, err := fmt.Fprintln(out, b.String())
	return err
}

// demoDir is where the demo keeps its files.
func demoDir() string {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	return cache + "/edge-demo"
}
