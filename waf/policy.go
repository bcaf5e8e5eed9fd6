package waf

import (
	"crypto/sha256"
	_ "embed"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/corazawaf/coraza-coreruleset/v4"

	"edge/rules"
)

// base is loaded before the Core Rule Set, whatever the policy.
//
//go:embed base.conf
var base string

// policy is what decides how an engine judges: directives of the rules language
// and the release of the rule set they go with. Policies with the same key judge
// the same. The mode is not part of it: detect judges exactly as block does, and
// the caller acts on it or not.
type policy struct {
	rules.WAF
	files      fs.FS // the rule set
	include    string
	directives string
	key        string
}

// newPolicy reads what w refers to and writes it in the rules language.
func newPolicy(w rules.WAF) (policy, error) {
	p := policy{WAF: w, files: coreruleset.FS, include: "Include @owasp_crs/*.conf\n"}
	content := sha256.New()
	files, err := w.CRSFiles()
	if err != nil {
		return policy{}, fmt.Errorf("crs_dir: %w", err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			return policy{}, fmt.Errorf("crs_dir: %w", err)
		}
		_, _ = fmt.Fprintf(content, "%s %d\n%s", path, len(text), text) // a hash takes everything
	}
	if w.CRSDir != "" {
		p.files, p.include = os.DirFS(w.CRSDir), "Include rules/*.conf\n"
	}
	p.directives = base + p.setup() + p.exclusions()
	_, _ = fmt.Fprint(content, p.directives)
	p.key = string(content.Sum(nil))
	return p, nil
}

// setup is the policy in the variables that crs-setup.conf would set, and the
// settings for responses.
func (p policy) setup() string {
	vars := []string{
		"crs_setup_version=4250",
		fmt.Sprintf("blocking_paranoia_level=%d", p.Paranoia),
		fmt.Sprintf("detection_paranoia_level=%d", p.DetectionParanoia),
		fmt.Sprintf("inbound_anomaly_score_threshold=%d", p.Thresholds.Inbound),
		fmt.Sprintf("outbound_anomaly_score_threshold=%d", p.Thresholds.Outbound),
		"allowed_methods=" + strings.Join(p.Methods, " "),
		"allowed_request_content_type=|" + strings.Join(p.ContentTypes, "| |") + "|",
	}
	var b strings.Builder
	if len(p.Responses.Inspect) > 0 {
		fmt.Fprintf(&b, "SecResponseBodyAccess On\nSecResponseBodyMimeType %s\nSecResponseBodyLimit %d\nSecResponseBodyLimitAction ProcessPartial\n",
			strings.Join(p.Responses.Inspect, " "), p.Responses.Max)
	}
	for phase := 1; phase <= 5; phase++ {
		fmt.Fprintf(&b, "SecDefaultAction \"phase:%d,log,pass\"\n", phase)
	}
	b.WriteString("SecAction \"id:900990,phase:1,pass,t:none,nolog")
	for _, name := range slices.Sorted(maps.Keys(p.Settings)) {
		vars = append(vars, name+"="+p.Settings[name])
	}
	for _, v := range vars {
		fmt.Fprintf(&b, ",setvar:'tx.%s'", v)
	}
	b.WriteString("\"\n")
	return b.String()
}

// firstExclusion is the number of the rule made from the first exclusion.
const firstExclusion = 9_500_000

// exclusions are the exclusions as rules. Whether one applies to a request is
// found out by [rules.Match], as for everything else, and told to the rules in a
// variable; what the match was is only a comment to them.
func (p policy) exclusions() string {
	var b strings.Builder
	for i, e := range p.Exclusions {
		fmt.Fprintf(&b, "# %s: %s\nSecRule TX:%s \"@eq 1\" \"id:%d,phase:1,pass,t:none,nolog", e.Name, e.Match, excludes(i), firstExclusion+i)
		for _, s := range e.Rules {
			for _, ctl := range removals(s, e.Variables) {
				fmt.Fprintf(&b, ",ctl:%s", ctl)
			}
		}
		b.WriteString("\"\n")
	}
	return b.String()
}

// excludes is the variable that says that exclusion i applies.
func excludes(i int) string { return fmt.Sprintf("edge_exclusion_%d", i) }

// removals are the controls that keep the rules s selects from looking at
// variables, or from running where there are none.
func removals(s rules.Selector, variables []rules.Variable) []string {
	by, value := "Id", fmt.Sprintf("%d-%d", s.From, s.To)
	if s.Tag != "" {
		by, value = "Tag", s.Tag
	} else if s.From == s.To {
		value = fmt.Sprint(s.From)
	}
	if len(variables) == 0 {
		return []string{fmt.Sprintf("ruleRemoveBy%s=%s", by, value)}
	}
	var all []string
	for _, v := range variables {
		for _, target := range targets(v) {
			all = append(all, fmt.Sprintf("ruleRemoveTargetBy%s=%s;%s", by, value, target))
		}
	}
	return all
}

// targets are the names under which rules look at v: a parameter is also one of
// the query or one of the body. A "*" in a key becomes an expression.
func targets(v rules.Variable) []string {
	key := ""
	switch {
	case strings.Contains(v.Key, "*"):
		parts := strings.Split(strings.ToLower(v.Key), "*")
		for i := range parts {
			parts[i] = quoteKey(parts[i])
		}
		key = ":/^" + strings.Join(parts, `[^.]+`) + "$/"
	case v.Key != "":
		key = ":" + v.Key
	}
	collections := []string{v.Collection}
	switch v.Collection {
	case "ARGS":
		collections = []string{"ARGS", "ARGS_GET", "ARGS_POST"}
	case "ARGS_NAMES":
		collections = []string{"ARGS_NAMES", "ARGS_GET_NAMES", "ARGS_POST_NAMES"}
	}
	for i := range collections {
		collections[i] += key
	}
	return collections
}

// quoteKey quotes what has a meaning in expressions, as classes: a backslash
// would have to survive the rules language's own quoting.
func quoteKey(s string) string {
	return strings.NewReplacer(".", "[.]", "$", "[$]", "[", "[[]", "]", "[]]").Replace(s)
}
