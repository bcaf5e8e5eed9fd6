// Package blocklog holds the vocabulary in which the edge says what it did and
// why, and the files it says it in.
//
// A [Decision] is what one check of the request path returns. An [Event] is a
// decision together with the facts of its request: the one record a reviewer
// reads. [Log] writes events as JSON lines, and [Event.Sentence] turns one back
// into a sentence. Values pass a [Redactor] before they enter an event, so that
// nothing downstream has to remember to.
//
// The package imports nothing of ours: every room may speak its words.
package blocklog

import "time"

// Action is what a decision does to its request.
type Action string

// The actions. The zero value passes, so a check that has nothing to say
// returns the zero Decision.
const (
	Pass   Action = ""
	Detect Action = "detect" // would have been denied; noted, nothing changed
	Deny   Action = "deny"   // refused by policy or because it was malformed
	Fail   Action = "fail"   // the edge or the application could not serve it
)

// Stage names the check that decided, in the order of the request path.
type Stage string

// The stages.
const (
	StageHTTP     Stage = "http"
	StageHost     Stage = "host"
	StageAccess   Stage = "access"
	StageLimit    Stage = "limit"
	StageBody     Stage = "body"
	StageLoad     Stage = "load"
	StageWAF      Stage = "waf"
	StageUpstream Stage = "upstream"
	StageInternal Stage = "internal"
)

// Reason is why, as one stable word that people search for and alert on.
type Reason string

// Every reason the edge can give.
const (
	ReasonBadTarget      Reason = "bad_target"
	ReasonBadFraming     Reason = "bad_framing"
	ReasonBadHeader      Reason = "bad_header"
	ReasonBadMethod      Reason = "bad_method"
	ReasonBadVersion     Reason = "bad_version"
	ReasonBadCookie      Reason = "bad_cookie"
	ReasonBadExpect      Reason = "bad_expect"
	ReasonBadUpgrade     Reason = "bad_upgrade"
	ReasonHeadTooLarge   Reason = "head_too_large"
	ReasonHeadTimeout    Reason = "head_timeout"
	ReasonBadHost        Reason = "bad_host"
	ReasonBadConnection  Reason = "bad_connection"
	ReasonUnknownHost    Reason = "unknown_host"
	ReasonOtherHost      Reason = "other_host"
	ReasonDenied         Reason = "address_denied"
	ReasonNotAllowed     Reason = "address_not_allowed"
	ReasonRateLimited    Reason = "rate_limited"
	ReasonOverload       Reason = "overload"
	ReasonBodyTooLarge   Reason = "body_too_large"
	ReasonBodyIncomplete Reason = "body_incomplete"
	ReasonBodyTimeout    Reason = "body_timeout"
	ReasonSpoolFull      Reason = "spool_full"
	ReasonBodyParts      Reason = "body_parts"
	ReasonBodyEncoding   Reason = "body_encoding"
	ReasonBodyType       Reason = "body_type"
	ReasonBodyForm       Reason = "body_form"
	ReasonBodySlow       Reason = "body_slow"
	ReasonWAFScore       Reason = "waf_score"
	ReasonWAFRule        Reason = "waf_rule"
	ReasonWAFResponse    Reason = "waf_response"
	ReasonWAFError       Reason = "waf_error"
	ReasonUpstream       Reason = "upstream_unreachable"
	ReasonUpstreamSlow   Reason = "upstream_timeout"
	ReasonClientGone     Reason = "client_gone"
	ReasonPanic          Reason = "panic"
)

// Decision is the answer of one check. The zero Decision means pass.
type Decision struct {
	Action Action
	Stage  Stage
	Reason Reason

	Status     int           // the HTTP status of the refusal
	RetryAfter time.Duration // when trying again makes sense; 0 where it never does
	Detail     string        // one clause for the reviewer: what was wrong, with numbers

	Rule             Rule    // the rule that decided, where one did
	Score, Threshold int     // the anomaly score and the limit it reached, CRS only
	Matches          []Match // what was found, most telling first
	Omitted          int     // how many more there were
}

// Rule identifies a rule: a CRS number and message, or a name from the rules files.
type Rule struct {
	ID       string `json:"id,omitempty"`
	Name     string `json:"name,omitempty"`
	Category string `json:"category,omitempty"` // attack-sqli, attack-xss, …: the CRS tag
}

// Match is one rule finding one thing in one field. Value and Matched have been
// redacted.
type Match struct {
	Rule
	Field   string `json:"field,omitempty"`   // where: ARGS:q, REQUEST_HEADERS:User-Agent, json.entries.0.note
	Value   string `json:"value,omitempty"`   // what the field held, around the match
	Matched string `json:"matched,omitempty"` // the part the rule recognised
	Score   int    `json:"score,omitempty"`   // points this rule added
}
