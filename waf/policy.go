package waf

import (
	_ "embed"
	"fmt"
	"strings"

	"edge/rules"
)

// base is loaded before the Core Rule Set, whatever the policy.
//
//go:embed base.conf
var base string

// What honest clients of business applications send. The Core Rule Set's own
// defaults stop PUT, PATCH, DELETE and every JSON dialect but one.
const (
	allowedMethods = "GET HEAD POST OPTIONS PUT PATCH DELETE"
	allowedTypes   = "|application/x-www-form-urlencoded| |multipart/form-data| |multipart/related| " +
		"|text/xml| |application/xml| |application/soap+xml| |application/json| |text/json| " +
		"|application/merge-patch+json| |application/json-patch+json| |application/vnd.api+json| |application/problem+json| " +
		"|application/csp-report| |application/reports+json| |text/plain|"
)

// policy is what decides how an engine judges. Two apps with equal policies
// share one engine. The mode is not part of it: detect judges exactly as block
// does, and the caller acts on it or not.
type policy struct {
	paranoia, detectionParanoia int
	inbound, outbound           int
}

func policyOf(w rules.WAF) policy {
	return policy{w.Paranoia, w.DetectionParanoia, w.Thresholds.Inbound, w.Thresholds.Outbound}
}

// setup is the policy in the variables that crs-setup.conf would set.
func (p policy) setup() string {
	vars := []string{
		"crs_setup_version=4250",
		fmt.Sprintf("blocking_paranoia_level=%d", p.paranoia),
		fmt.Sprintf("detection_paranoia_level=%d", p.detectionParanoia),
		fmt.Sprintf("inbound_anomaly_score_threshold=%d", p.inbound),
		fmt.Sprintf("outbound_anomaly_score_threshold=%d", p.outbound),
		"allowed_methods=" + allowedMethods,
		"allowed_request_content_type=" + allowedTypes,
	}
	var b strings.Builder
	b.WriteString("SecDefaultAction \"phase:1,log,pass\"\nSecDefaultAction \"phase:2,log,pass\"\nSecAction \"id:900990,phase:1,pass,t:none,nolog")
	for _, v := range vars {
		fmt.Fprintf(&b, ",setvar:'tx.%s'", v)
	}
	b.WriteString("\"\n")
	return b.String()
}
