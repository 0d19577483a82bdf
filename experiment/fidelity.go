package experiment

// The verdicts of a Fidelity.
const (
	FidelityOK       = "ok"
	FidelityDegraded = "degraded"
	FidelityUnknown  = "unknown" // nothing was watched
)

// A Fidelity says whether a network kept its own time while it was measured.
type Fidelity struct {
	// Verdict is ok, degraded or unknown.
	Verdict string   `json:"verdict"`
	Reasons []Reason `json:"reasons"`
}

// A Reason is why fidelity is degraded, and when.
type Reason struct {
	From float64 `json:"from"` // seconds since the trial's first step
	To   float64 `json:"to"`
	Text string  `json:"text"`
}

// Explain says what the verdict means.
func (f Fidelity) Explain() string {
	switch f.Verdict {
	case FidelityOK:
		return "the machine kept up: what was measured is the network's doing."
	case FidelityDegraded:
		return "the machine did not keep up: what was measured may be the machine's doing."
	}
	return "nothing was watched."
}
