package experiment

import (
	"encoding/json"
	"fmt"
	"time"

	"weft/topo"
)

// ResultSchema is the version of the format of result.json. It is raised when a field changes its
// meaning or goes; new fields may come without that.
const ResultSchema = 1

// A Status is what became of a step or a trial.
type Status string

// The statuses. A trial and an experiment are passed, failed, error or interrupted.
const (
	Done        Status = "done"        // an action was carried out
	Passed      Status = "passed"      // all that was expected holds
	Failed      Status = "failed"      // something that was expected does not hold
	Broken      Status = "error"       // it could not be carried out
	Skipped     Status = "skipped"     // the trial ended before its turn
	Interrupted Status = "interrupted" // by the user
)

// A Result is what came of an experiment: the contents of result.json.
type Result struct {
	Schema     int            `json:"schema"`
	Name       string         `json:"name"`
	Doc        string         `json:"doc,omitempty"`
	File       string         `json:"file,omitempty"`
	Source     string         `json:"source,omitempty"`
	Status     Status         `json:"status"`
	Message    string         `json:"message,omitempty"` // what broke it
	Started    time.Time      `json:"started"`
	Seconds    float64        `json:"seconds"`
	Seed       *uint64        `json:"seed"` // null: chance is not repeatable
	Parameters []Parameter    `json:"parameters"`
	Sweep      []Axis         `json:"sweep"`
	Versions   Versions       `json:"versions"`
	Totals     Totals         `json:"totals"`
	Fidelity   Fidelity       `json:"fidelity"` // the worst of all trials
	Strict     bool           `json:"strict"`
	Trials     []*TrialResult `json:"trials"`
	// Summary has, for each point of the sweep, the quantities of all steps over the
	// trials.
	Summary []PointSummary `json:"summary"`
	// Directory is where the results are, as the user named it.
	Directory string `json:"-"`
}

// Versions are those of what an experiment ran on.
type Versions struct {
	Weft     string `json:"weft"`
	Kernel   string `json:"kernel"`
	OVS      string `json:"openvswitch,omitempty"`
	System   string `json:"system,omitempty"` // the distribution
	Machine  string `json:"machine"`          // architecture and CPUs
	Datapath string `json:"datapath,omitempty"`
	Rootless bool   `json:"rootless"`
}

// Totals count checks and points over all trials.
type Totals struct {
	Checks  int     `json:"checks"`
	Passed  int     `json:"passed"`
	Failed  int     `json:"failed"`
	Errors  int     `json:"errors"`  // checks that could not be made
	Skipped int     `json:"skipped"` // checks
	Points  float64 `json:"points"`
	Earned  float64 `json:"earned"`
}

func (t *Totals) add(o Totals) {
	t.Checks += o.Checks
	t.Passed += o.Passed
	t.Failed += o.Failed
	t.Errors += o.Errors
	t.Skipped += o.Skipped
	t.Points += o.Points
	t.Earned += o.Earned
}

// A TrialResult is what came of one trial.
type TrialResult struct {
	// Point counts the points of the sweep, Trial the trials of a point; both from 1.
	Point     int       `json:"point"`
	Trial     int       `json:"trial"`
	Arguments Arguments `json:"arguments"`
	Seed      *uint64   `json:"seed"`
	Directory string    `json:"directory"` // of its files, relative to that of the results
	Status    Status    `json:"status"`
	Message   string    `json:"message,omitempty"`
	Started   time.Time `json:"started"`
	Seconds   float64   `json:"seconds"`
	// BuildSeconds is how long the network took to come up.
	BuildSeconds float64      `json:"buildSeconds"`
	Totals       Totals       `json:"totals"`
	Fidelity     Fidelity     `json:"fidelity"`
	Steps        []StepResult `json:"steps"`
	Series       []Series     `json:"series"`
	Notes        []Note       `json:"notes"`
	Files        []string     `json:"files"` // captures and logs, relative to Directory
	Plan         *topo.Plan   `json:"-"`     // in plan.json
}

// A Note is something that happened beside the steps: a warning of the network's, a process
// that ended.
type Note struct {
	T    float64 `json:"t"` // seconds since the first step
	Text string  `json:"text"`
}

// A StepResult is what came of a step.
type StepResult struct {
	// Number is its place among the steps as they ended, from 1.
	Number   int     `json:"number"`
	Name     string  `json:"name"`
	Kind     string  `json:"kind"`
	Position string  `json:"position,omitempty"`
	Check    bool    `json:"check"`
	Status   Status  `json:"status"`
	Message  string  `json:"message,omitempty"` // why it is not passed
	Summary  string  `json:"summary,omitempty"`
	T        float64 `json:"t"` // seconds from the trial's first step to its start
	Seconds  float64 `json:"seconds"`
	Attempts int     `json:"attempts"`
	Points   float64 `json:"points"`
	Earned   float64 `json:"earned"`
	// Expected says of each condition whether it held.
	Expected []Verdict `json:"expected,omitempty"`
	// Values are the quantities measured: numbers (times in seconds, rates in bit/s),
	// texts and lists of nodes.
	Values Values `json:"values,omitempty"`
	Detail any    `json:"detail,omitempty"`
}

// A Verdict says whether a condition held.
type Verdict struct {
	Quantity  string `json:"quantity"`
	Condition string `json:"condition"`
	Value     string `json:"value"` // for people
	Passed    bool   `json:"passed"`
	// Default says that it is expected of all steps of the kind.
	Default bool `json:"default,omitempty"`
}

// Values are quantities by name. In JSON times are seconds.
type Values map[string]any

// MarshalJSON writes times as seconds.
func (v Values) MarshalJSON() ([]byte, error) {
	plain := make(map[string]any, len(v))
	for name, value := range v {
		if d, ok := value.(time.Duration); ok {
			value = d.Seconds()
		}
		plain[name] = value
	}
	return json.Marshal(plain)
}

// A StepError ends a trial: an action failed, or a check that is required.
type StepError struct {
	Step   StepResult
	Reason string
}

func (e *StepError) Error() string {
	where := ""
	if e.Step.Position != "" {
		where = e.Step.Position + ": "
	}
	return fmt.Sprintf("%s%s: %s", where, e.Step.Name, e.Reason)
}

// count adds a step to the totals.
func (t *Totals) count(s StepResult) {
	if !s.Check {
		return
	}
	t.Checks++
	t.Points += s.Points
	t.Earned += s.Earned
	switch s.Status {
	case Passed:
		t.Passed++
	case Failed:
		t.Failed++
	case Skipped:
		t.Skipped++
	default:
		t.Errors++
	}
}
