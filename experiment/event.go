package experiment

import "time"

// An Event tells how an experiment goes on. One of its fields is set.
type Event struct {
	Trial *TrialResult `json:"trial,omitempty"` // a trial that begins
	// Stage is a stage of a network's start or end, see network.Event.
	Stage string      `json:"stage,omitempty"`
	Begin *Begin      `json:"begin,omitempty"` // a step that begins
	Step  *StepResult `json:"step,omitempty"`  // a step that has ended
	Note  *Note       `json:"note,omitempty"`
	// Ended is a trial that has ended.
	Ended *TrialResult `json:"ended,omitempty"`
}

// A Begin is a step that begins.
type Begin struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	// Expected is how long it takes if all goes well, Within for how long it is repeated.
	Expected time.Duration `json:"expectedNs"`
	Within   time.Duration `json:"withinNs,omitempty"`
}
