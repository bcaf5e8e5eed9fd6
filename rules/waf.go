package rules

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"edge/internal/strictyaml"
)

// WAF is how requests are inspected with the OWASP Core Rule Set.
type WAF struct {
	// Mode is block (default), detect, which records what block would have
	// refused and changes nothing, or off.
	Mode Mode `yaml:"mode"`
	// Paranoia is the CRS blocking paranoia level, 1 (default) to 4. Higher finds
	// more attacks and more that are none.
	Paranoia int `yaml:"paranoia"`
	// DetectionParanoia runs rules up to this level without their score counting.
	// Default: the same as paranoia.
	DetectionParanoia int `yaml:"detection_paranoia"`
	// Thresholds are the anomaly scores at which a request or response is refused.
	Thresholds Thresholds `yaml:"thresholds"`
	// Methods are the HTTP methods the application takes. Default: GET, HEAD,
	// POST, OPTIONS, PUT, PATCH, DELETE.
	Methods []string `yaml:"methods"`
	// ContentTypes are the media types of request bodies the application takes.
	// Default: forms, XML, JSON and its usual dialects, plain text.
	ContentTypes []string `yaml:"content_types"`
	// Responses says which answers are inspected.
	Responses Responses `yaml:"responses"`
	// Exclusions say what not to look at, and where. Those of all files add up.
	Exclusions []Exclusion `yaml:"exclusions"`
	// Settings are variables that the rule set's crs-setup.conf documents, such as
	// arg_length: 400, by their names without "tx.". They win over what the keys
	// above set.
	Settings map[string]string `yaml:"settings"`
	// CRSDir is a directory with a release of the Core Rule Set (the one that has
	// rules/ in it), to be used instead of the one that is built in.
	CRSDir string `yaml:"crs_dir"`
}

// Thresholds are CRS anomaly scores. A critical match is 5 points, an error 4, a
// warning 3, a notice 2.
type Thresholds struct {
	// Inbound is for requests. Default 5.
	Inbound int `yaml:"inbound"`
	// Outbound is for responses. Default 4.
	Outbound int `yaml:"outbound"`
}

// Responses is the inspection of answers. Their status and headers are always
// inspected; their bodies only where this says so, because a body has to be held
// back for it.
type Responses struct {
	// Inspect are the media types whose bodies are inspected, such as text/html.
	// Default: none.
	Inspect []string `yaml:"inspect"`
	// Max is how much of a body is held and inspected. The rest flows. Default 512KiB.
	Max strictyaml.Size `yaml:"max"`
}

// Exclusion keeps rules from looking at something in some requests.
type Exclusion struct {
	// Name identifies the exclusion.
	Name string `yaml:"name"`
	// Match says in which requests. Without it, in all.
	Match Match `yaml:"match"`
	// Rules are rule numbers ("942100"), ranges ("942200-942299") or tags ("attack-sqli").
	Rules []Selector `yaml:"rules"`
	// Variables are what the rules do not look at: "ARGS:note" for a parameter or
	// form field, "json.entries.*.note" for a value in a JSON body, where * stands
	// for one step, "REQUEST_HEADERS:Referer", "REQUEST_COOKIES:theme". Without
	// any, the rules do not run at all.
	Variables []Variable `yaml:"variables"`
	// Reason says why, for the people who will ask.
	Reason string `yaml:"reason"`
	// Owner says whom to ask.
	Owner string `yaml:"owner"`
}

// Mode says whether a section acts.
type Mode string

// The modes.
const (
	Block  Mode = "block"
	Detect Mode = "detect"
	Off    Mode = "off"
)

// UnmarshalText accepts exactly the three modes.
func (m *Mode) UnmarshalText(text []byte) error {
	return strictyaml.OneOf(m, text, "mode", Block, Detect, Off)
}

// Selector names rules: those numbered From to To, or those tagged Tag.
type Selector struct {
	From, To int
	Tag      string
}

var (
	rangeForm = regexp.MustCompile(`^(\d{3,9})(?:-(\d{3,9}))?$`)
	tagForm   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_/.-]{1,63}$`)
)

// UnmarshalText reads a number, a range or a tag.
func (s *Selector) UnmarshalText(text []byte) error {
	if tagForm.Match(text) {
		s.Tag = string(text)
		return nil
	}
	m := rangeForm.FindStringSubmatch(string(text))
	if m == nil {
		return fmt.Errorf("%q selects no rules; write a number, a range such as 942200-942299, or a tag", text)
	}
	s.From, _ = strconv.Atoi(m[1]) // digits, few enough
	s.To = s.From
	if m[2] != "" {
		s.To, _ = strconv.Atoi(m[2])
	}
	if s.To < s.From {
		return fmt.Errorf("%q is a range from high to low", text)
	}
	return nil
}

// Variable is a place in a request in the words of the rules language: a
// collection, and a key in it where there is one. A "*" in the key stands for one
// step of a JSON path.
type Variable struct{ Collection, Key string }

var variableForm = regexp.MustCompile(`^(ARGS|ARGS_NAMES|REQUEST_HEADERS|REQUEST_COOKIES|REQUEST_COOKIES_NAMES|FILES|FILES_NAMES|REQUEST_URI|REQUEST_FILENAME|REQUEST_BASENAME|REQUEST_BODY|QUERY_STRING|XML)(?::([A-Za-z0-9_.$*\[\]\- ]{1,128}))?$`)

// UnmarshalText reads COLLECTION, COLLECTION:key or json.path.
func (v *Variable) UnmarshalText(text []byte) error {
	s := string(text)
	if strings.HasPrefix(s, "json.") {
		s = "ARGS:" + s
	}
	m := variableForm.FindStringSubmatch(s)
	if m == nil {
		return fmt.Errorf("%q is no variable; write ARGS:name, json.path.to.value, REQUEST_HEADERS:Name, REQUEST_COOKIES:name, or one of FILES, REQUEST_URI, REQUEST_FILENAME, REQUEST_BODY, XML", text)
	}
	v.Collection, v.Key = m[1], m[2]
	return nil
}

// defaults is the WAF where nothing is said.
func defaults() WAF {
	return WAF{
		Mode: Block, Paranoia: 1, Thresholds: Thresholds{Inbound: 5, Outbound: 4},
		Methods: []string{"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"},
		ContentTypes: []string{
			"application/x-www-form-urlencoded", "multipart/form-data",
			"text/xml", "application/xml", "application/soap+xml",
			"application/json", "text/json", "application/merge-patch+json", "application/json-patch+json",
			"application/vnd.api+json", "application/problem+json", "application/csp-report", "application/reports+json",
			"application/x-ndjson", "application/ndjson", "text/plain",
		},
		Responses: Responses{Max: 512 << 10},
	}
}

func (w *WAF) complete(file string) {
	if w.CRSDir != "" && !filepath.IsAbs(w.CRSDir) {
		w.CRSDir = filepath.Join(filepath.Dir(file), w.CRSDir)
	}
}

var (
	methodForm  = regexp.MustCompile(`^[A-Z]{3,20}$`)
	settingForm = regexp.MustCompile(`^[a-z][a-z0-9_]{1,63}$`)
	mediaForm   = regexp.MustCompile(`^[a-z0-9][a-z0-9.+-]*/[a-z0-9][a-z0-9.+-]*$`)
)

// ownKeys are the settings that have keys of their own, which would otherwise say
// what does not hold.
var ownKeys = map[string]string{
	"blocking_paranoia_level": "waf.paranoia", "detection_paranoia_level": "waf.detection_paranoia",
	"inbound_anomaly_score_threshold": "waf.thresholds.inbound", "outbound_anomaly_score_threshold": "waf.thresholds.outbound",
	"allowed_methods": "waf.methods", "allowed_request_content_type": "waf.content_types",
}

func (w *WAF) check(doc *strictyaml.Document, seen map[string]bool) {
	between := func(path string, v, low, high int) {
		if v < low || v > high {
			doc.Faultf(path, "%s: %d is not between %d and %d", path, v, low, high)
		}
	}
	between("waf.paranoia", w.Paranoia, 1, 4)
	between("waf.thresholds.inbound", w.Thresholds.Inbound, 1, 10000)
	between("waf.thresholds.outbound", w.Thresholds.Outbound, 1, 10000)
	if w.DetectionParanoia != 0 {
		between("waf.detection_paranoia", w.DetectionParanoia, 1, 4)
	}
	all := func(path string, values []string, form *regexp.Regexp, what string) {
		for i, v := range values {
			if !form.MatchString(v) {
				doc.Faultf(fmt.Sprintf("%s[%d]", path, i), "%s: %q is no %s", path, v, what)
			}
		}
	}
	all("waf.methods", w.Methods, methodForm, "method; write it in capitals")
	all("waf.content_types", w.ContentTypes, mediaForm, "media type; write type/subtype in small letters")
	all("waf.responses.inspect", w.Responses.Inspect, mediaForm, "media type; write type/subtype in small letters")
	if len(w.Methods) == 0 || len(w.ContentTypes) == 0 {
		doc.Faultf("waf", "waf: methods and content_types must not be empty")
	}
	for name, value := range w.Settings {
		if key := ownKeys[name]; key != "" {
			doc.Faultf("waf.settings."+name, "waf.settings: %s is set by %s", name, key)
		}
		if !settingForm.MatchString(name) || strings.ContainsAny(value, "'\"\\\r\n") {
			doc.Faultf("waf.settings."+name, "waf.settings: %s: %q cannot be set; names are those of crs-setup.conf, values have no quotes", name, value)
		}
	}
	if w.CRSDir != "" {
		if found, _ := filepath.Glob(filepath.Join(w.CRSDir, "rules", "REQUEST-901-*.conf")); len(found) == 0 {
			doc.Faultf("waf.crs_dir", "waf.crs_dir: there is no Core Rule Set in %s; it has a directory rules with REQUEST-901-INITIALIZATION.conf in it", w.CRSDir)
		}
	}
	for i, e := range w.Exclusions {
		path := fmt.Sprintf("waf.exclusions[%d]", i)
		checkName(doc, path, "exclusion", e.Name, seen)
		if len(e.Rules) == 0 {
			doc.Faultf(path, "exclusion %q: rules: says which rules; write numbers, ranges or tags", e.Name)
		}
	}
}

// CRSFiles are the files of the rule set in CRSDir, in order, or nil.
func (w WAF) CRSFiles() ([]string, error) {
	if w.CRSDir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(filepath.Join(w.CRSDir, "rules"))
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		path := filepath.Join(w.CRSDir, "rules", e.Name())
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() { // or a link to one
			files = append(files, path)
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("there are no files in %s", filepath.Join(w.CRSDir, "rules"))
	}
	return files, nil
}
