package experiment

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
