package wire

import (
	"log/slog"

	"golang.org/x/sys/unix"
)

// prefer asks that the calling thread gets a core as soon as it has something to do.
func prefer(log *slog.Logger) {
	// Where a real-time policy is not permitted, a better nice value may be.
	if err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -20); err != nil {
		log.Debug("wires run at ordinary priority", "error", err)
	}
}
