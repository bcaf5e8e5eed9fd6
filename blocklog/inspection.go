package blocklog

// How much of a request the WAF saw (edge.inspection).
const (
	InspectedFull    = "full"    // all of it
	InspectedPartial = "partial" // the head, and the parts of the body its route says
	InspectedHeaders = "headers" // there was a body, and it did not see it to its end
	InspectedNone    = "none"    // nothing: it is off, it failed, or the request was refused before
)
