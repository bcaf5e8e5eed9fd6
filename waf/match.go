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

// maxMatches is how many findings are described. One request can be made to
// match thousands of times; nobody reads those, and describing them costs.
const maxMatches = 20

// finding is a match that has not been described yet.
type finding struct {
	rule   types.MatchedRule
	data   types.MatchData // nil where the rule matched no value, such as a missing header
	field  string
	points int
	rank   int // 1 for the rule that interrupted by itself, else 0
}

// Matches returns what the rules found, and how many more findings there were:
// every match of a rule that scores, and of the rule that refused by itself, which
// comes first. Then come the gravest, and of equals those with a value to show.
// Bookkeeping is left out. Values pass through redact.
func (t *Transaction) Matches(redact blocklog.Redactor) (matches []blocklog.Match, omitted int) {
	found := t.findings()
	slices.SortStableFunc(found, func(a, b finding) int {
		return cmp.Or(cmp.Compare(b.rank, a.rank), cmp.Compare(b.points, a.points), cmp.Compare(b.shown(), a.shown()))
	})
	omitted = max(0, len(found)-maxMatches)
	for _, f := range found[:len(found)-omitted] {
		m := blocklog.Match{Rule: ruleOf(f.rule, redact), Field: redact.Text(f.field), Score: f.points}
		if f.shown() == 1 {
			m.Value, m.Matched = evidence(f.data, redact)
		}
		if fingerprints(f.rule.Rule()) {
			m.Matched = ""
		}
		matches = append(matches, m)
	}
	return matches, omitted
}

// findings lists each rule and field once.
func (t *Transaction) findings() []finding {
	var found []finding
	type place struct {
		id    int
		field string
	}
	seen := map[place]bool{}
	add := func(f finding) {
		if at := (place{f.rule.Rule().ID(), f.field}); !seen[at] {
			seen[at] = true
			found = append(found, f)
		}
	}
	it := t.interruption(t.tx.Interruption())
	for _, m := range t.tx.MatchedRules() {
		score, scores := t.engine.scores[m.Rule().ID()]
		points := score.points
		if score.level > t.engine.policy.Paranoia {
			points = 0 // it was only to be detected
		}
		rank := 0
		if it != nil && !it.Score && m.Rule().ID() == it.RuleID {
			rank = 1
		}
		if !scores && rank == 0 {
			continue
		}
		before := len(found)
		for _, d := range m.MatchedDatas() {
			if !isBookkeeping(d.Variable()) {
				add(finding{m, d, fieldName(d), points, rank})
			}
		}
		if len(found) == before {
			add(finding{m, nil, "", points, rank})
		}
	}
	return found
}

// shown is 1 where there is a value that may be shown, else 0.
func (f finding) shown() int {
	if f.data != nil && quoted(f.data.Variable()) {
		return 1
	}
	return 0
}

// Rule describes the rule of that number if it matched, else its number alone.
func (t *Transaction) Rule(id int, redact blocklog.Redactor) blocklog.Rule {
	for _, m := range t.tx.MatchedRules() {
		if m.Rule().ID() == id {
			return ruleOf(m, redact)
		}
	}
	return blocklog.Rule{ID: strconv.Itoa(id)}
}

func ruleOf(m types.MatchedRule, redact blocklog.Redactor) blocklog.Rule {
	r := blocklog.Rule{ID: strconv.Itoa(m.Rule().ID()), Name: m.Message()}
	if !strings.Contains(m.Rule().Raw(), r.Name) { // something of the request has been put in it
		r.Name = redact.Text(r.Name)
	}
	for _, tag := range m.Rule().Tags() {
		if strings.HasPrefix(tag, "attack-") || tag == "edge-parser" {
			r.Category = tag
		}
	}
	return r
}

// fingerprints says that what a rule recognised is libinjection's own code for a
// kind of text, which tells a reader nothing.
func fingerprints(r types.RuleMetadata) bool { return strings.Contains(r.Raw(), "@detect") }

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
	cookie := d.Variable() == variables.RequestCookies || d.Variable() == variables.RequestCookiesNames
	if d.Key() == "" || cookie && (d.Value() == "" || d.Value() == d.Key()) { // a cookie without a name is all value
		return name
	}
	return name + ":" + d.Key()
}

// quoted are the variables whose value a record may show. All others hold whole
// requests, in which a secret can stand anywhere.
func quoted(v variables.RuleVariable) bool {
	switch v {
	case variables.Args, variables.ArgsGet, variables.ArgsPost, variables.ArgsNames, variables.ArgsGetNames, variables.ArgsPostNames,
		variables.RequestHeaders, variables.RequestHeadersNames, variables.RequestCookies, variables.RequestFilename, variables.RequestBasename,
		variables.RequestMethod, variables.RequestProtocol, variables.Files, variables.FilesNames, variables.XML, variables.RemoteAddr,
		variables.MultipartPartHeaders, variables.ResponseStatus, variables.ReqbodyErrorMsg:
		return true
	}
	return false
}

// around is how much of a long value is kept on either side of the match, in
// bytes, and searched how much of it is looked through for the names of secrets.
const (
	around   = 80
	searched = 32 << 10
)

// evidence is what a reviewer needs to see of a value: the part the rule
// recognised, where the rule says, and the text around it.
func evidence(d types.MatchData, redact blocklog.Redactor) (value, matched string) {
	name := d.Key()
	if d.Variable() == variables.RequestCookies {
		name = "cookie"
	}
	if _, after, ok := strings.Cut(d.Data(), "Matched Data: "); ok {
		matched, _, _ = strings.Cut(after, " found within ")
	}
	matched = matched[:min(len(matched), 1<<10)]
	raw := d.Value()
	if at := strings.Index(raw, matched); at > searched { // -1 where the rule looked at a decoded form
		return "", "" // too far in to see what it is part of
	}
	raw = raw[:min(len(raw), searched+len(matched)+2*around)]
	value = redact.Value(name, raw)
	at := strings.Index(value, matched)
	switch {
	case value != raw && (at < 0 || matched == ""):
		return blocklog.Clip(value, 2*around), "" // the match lies in what was masked
	case at < 0:
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
