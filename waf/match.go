package waf

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/corazawaf/coraza/v3/types"
	"github.com/corazawaf/coraza/v3/types/variables"

	"edge/blocklog"
)

// Matches returns what the rules found, the gravest first and of equals those
// with a value to show: every match of a rule that scores, and of the rule that
// interrupted if it is not the one that only compares scores. Bookkeeping is
// left out. Values pass through redact.
func (t *Transaction) Matches(redact blocklog.Redactor) []blocklog.Match {
	var found []blocklog.Match
	interrupting := 0
	if it := t.tx.Interruption(); it != nil {
		interrupting = it.RuleID
	}
	for _, m := range t.tx.MatchedRules() {
		id := m.Rule().ID()
		points, scores := t.engine.points[id]
		if !scores && (id != interrupting || t.interruption(t.tx.Interruption()).Score) {
			continue
		}
		match := blocklog.Match{Rule: ruleOf(m), Score: points}
		datas := slices.DeleteFunc(slices.Clone(m.MatchedDatas()), func(d types.MatchData) bool { return isBookkeeping(d.Variable()) })
		if len(datas) == 0 { // such as a missing header: the rule itself is the finding
			found = append(found, match)
		}
		for _, d := range datas {
			match.Field = fieldName(d)
			match.Value, match.Matched = evidence(d, redact)
			if fingerprints(m.Rule()) {
				match.Matched = ""
			}
			if !slices.Contains(found, match) {
				found = append(found, match)
			}
		}
	}
	slices.SortStableFunc(found, func(a, b blocklog.Match) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(len(b.Value), 0)-cmp.Compare(len(a.Value), 0))
	})
	return found
}

// Rule describes the rule of that number if it matched, else its number alone.
func (t *Transaction) Rule(id int) blocklog.Rule {
	for _, m := range t.tx.MatchedRules() {
		if m.Rule().ID() == id {
			return ruleOf(m)
		}
	}
	return blocklog.Rule{ID: strconv.Itoa(id)}
}

func ruleOf(m types.MatchedRule) blocklog.Rule {
	r := blocklog.Rule{ID: strconv.Itoa(m.Rule().ID()), Name: m.Message()}
	for _, tag := range m.Rule().Tags() {
		if strings.HasPrefix(tag, "attack-") || tag == "edge-parser" {
			r.Category = tag
		}
	}
	return r
}

// fingerprints says that what a rule recognised is libinjection's own code for a
// kind of text, which tells a reader nothing.
func fingerprints(r types.RuleMetadata) bool { return strings.HasPrefix(r.Operator(), "@detect") }

// isBookkeeping says that a variable is the rules' own notebook.
func isBookkeeping(v variables.RuleVariable) bool {
	switch v {
	case variables.TX, variables.MatchedVar, variables.MatchedVars, variables.MatchedVarName, variables.MatchedVarsNames, variables.Unknown:
		return true
	}
	return false
}

// fieldName is where a match was found, in the words of the rules language, but
// without the phase a parameter came in: ARGS_GET:q and ARGS_POST:q are what
// people call q of the query and q of the body, and both are known as ARGS:q.
func fieldName(d types.MatchData) string {
	name := d.Variable().Name()
	for _, suffix := range []string{"_GET_NAMES", "_POST_NAMES"} {
		if rest, ok := strings.CutSuffix(name, suffix); ok {
			name = rest + "_NAMES"
		}
	}
	name = strings.TrimSuffix(strings.TrimSuffix(name, "_GET"), "_POST")
	if d.Key() == "" {
		return name
	}
	return name + ":" + d.Key()
}

// quoted are the variables whose value a record may show. All others hold whole
// requests, in which a secret can stand anywhere.
func quoted(v variables.RuleVariable) bool {
	switch v {
	case variables.Args, variables.ArgsGet, variables.ArgsPost, variables.ArgsNames, variables.ArgsGetNames, variables.ArgsPostNames,
		variables.RequestHeaders, variables.RequestHeadersNames, variables.RequestCookiesNames, variables.RequestFilename, variables.RequestBasename,
		variables.RequestMethod, variables.RequestProtocol, variables.Files, variables.FilesNames, variables.XML, variables.RemoteAddr,
		variables.MultipartPartHeaders, variables.ResponseStatus, variables.ReqbodyErrorMsg:
		return true
	}
	return false
}

// around is how much of a long value is kept on either side of the match, in bytes.
const around = 80

// evidence is what a reviewer needs to see of a value: the part the rule
// recognised, where the rule says, and the text around it.
func evidence(d types.MatchData, redact blocklog.Redactor) (value, matched string) {
	if !quoted(d.Variable()) {
		return "", ""
	}
	name := d.Key()
	if d.Variable() == variables.RequestCookies {
		name = "cookie"
	}
	value = redact.Value(name, d.Value())
	if _, after, ok := strings.Cut(d.Data(), "Matched Data: "); ok {
		matched, _, _ = strings.Cut(after, " found within ")
	}
	at := strings.Index(value, matched)
	if at < 0 && value != d.Value() {
		return blocklog.Clip(value, 2*around), "" // the match lies in what was masked
	}
	if at < 0 { // the rule looked at a decoded form
		return blocklog.Clip(value, 2*around), blocklog.Clip(redact.Text(matched), 2*around)
	}
	from := max(0, at-around)
	for from < at && !utf8.RuneStart(value[from]) {
		from++
	}
	value = blocklog.Clip(value[from:], at-from+len(matched)+around)
	if from > 0 {
		value = "…" + value
	}
	return value, blocklog.Clip(matched, 2*around)
}
