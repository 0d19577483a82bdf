// Package doctor finds out what this machine can do for a network: what the kernel
// has, which programs are installed, what the user may do. It says what weft will do
// about each, and which command mends what is missing. It changes nothing: no module
// is loaded, no namespace but its own is touched.
//
// It may import golang.org/x/sys and netlink, and no other package of weft.
package doctor

import (
	"context"
	"os"
	"os/user"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Status says whether weft can use something.
type Status string

// The statuses.
const (
	OK      Status = "ok"      // there, and works
	Warn    Status = "warn"    // there in part, or nobody can tell without changing the machine
	Missing Status = "missing" // not there
)

// A Check is one thing that was looked at.
type Check struct {
	// ID is stable and short ("userns"); Title is for people.
	ID     string `json:"id"`
	Title  string `json:"title"`
	Status Status `json:"status"`
	// Required is set if weft builds no network at all without it.
	Required bool `json:"required,omitempty"`
	// Detail is what was found.
	Detail string `json:"detail"`
	// Effect is what weft does because of it; empty if nothing needs saying.
	Effect string `json:"effect,omitempty"`
	// Fix is the command that mends it on Debian and Ubuntu; empty if none does.
	Fix string `json:"fix,omitempty"`
}

// A Report is what Examine found.
type Report struct {
	Kernel string `json:"kernel"` // release, as uname -r
	System string `json:"system"` // PRETTY_NAME of os-release
	CPUs   int    `json:"cpus"`
	User   string `json:"user"`
	// Datapath is the one that Open vSwitch gets where nobody asks for another:
	// "kernel", "user", or "" without Open vSwitch.
	Datapath string  `json:"datapath"`
	Checks   []Check `json:"checks"`
}

// Usable reports whether weft can build a network here at all.
func (r Report) Usable() bool {
	for _, c := range r.Checks {
		if c.Required && c.Status == Missing {
			return false
		}
	}
	return true
}

// Options say what Examine looks at. The zero value reads this machine's files and
// tries out nothing inside a namespace.
type Options struct {
	// Root is the directory that stands for /. With any other than "/" or "" only
	// files below it are read and nothing is tried.
	Root string
	// Probe is a command that calls the function Probe with the arguments that
	// are appended to it, as {"/proc/self/exe", "doctor", "--probe"}. It is started
	// in new namespaces. Without it kernel features are judged by files alone.
	Probe []string
}

// probeTime bounds everything that Examine starts.
const probeTime = 2 * time.Second

// Examine looks at the machine. It takes less than 0.3 s on most, and a little more
// than 2 s at the worst.
func Examine(ctx context.Context, o Options) Report {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	if o.Root == "" {
		o.Root = "/"
	}
	m := &machine{tree: tree(o.Root), uid: os.Geteuid(), cpus: runtime.NumCPU()}
	m.user = strconv.Itoa(m.uid)
	if u, err := user.LookupId(m.user); err == nil {
		m.user = u.Username
	}
	m.kernel = m.tree.kernel()
	m.programs = m.tree.programs(os.Getenv("PATH"))
	if o.Root == "/" {
		m.try(ctx, o.Probe)
	}
	return m.report()
}

// A machine is everything known about this one. report judges it, without a further
// look at anything but files.
type machine struct {
	tree     tree
	uid      int
	user     string
	cpus     int
	kernel   kernel
	programs map[string]string // name to path
	ovs      string            // Open vSwitch's version
	// userns and sandbox are the two ways into a sandbox: as an ordinary user, and
	// in the way that this user would go.
	userns, sandbox trial
	// features are those of Probe.
	features map[string]trial
}

// A trial is the outcome of really trying something; err is empty if it worked.
type trial struct {
	tried bool
	err   string
}

func (t trial) ok() bool     { return t.tried && t.err == "" }
func (t trial) failed() bool { return t.tried && t.err != "" }

func outcome(err error) trial {
	if err != nil {
		return trial{true, err.Error()}
	}
	return trial{tried: true}
}

// try does all that takes a process, at the same time.
func (m *machine) try(ctx context.Context, probe []string) {
	var wg sync.WaitGroup
	wg.Go(func() { m.userns = outcome(tryNamespaces(ctx, true)) })
	wg.Go(func() { m.sandbox = outcome(tryNamespaces(ctx, m.uid != 0)) })
	wg.Go(func() { m.ovs = ovsVersion(ctx, m.programs["ovs-vswitchd"]) })
	if len(probe) > 0 {
		wg.Go(func() { m.features = runProbe(ctx, probe, m.uid != 0, m.safeFeatures()) })
	}
	wg.Wait()
}

// safeFeatures lists the features of which a trial cannot make the kernel load a
// module.
func (m *machine) safeFeatures() []string {
	ids := []string{featureAdmin}
	for _, f := range features() {
		switch m.kernel.module(f.module, f.config) {
		case present, absent:
			ids = append(ids, f.id)
		}
	}
	return ids
}

func (m *machine) report() Report {
	r := Report{
		Kernel: m.kernel.release,
		System: m.tree.osRelease("PRETTY_NAME"),
		CPUs:   m.cpus,
		User:   m.user,
		Checks: m.checks(),
	}
	if len(m.missingOVS()) == 0 {
		r.Datapath = "user"
		if m.has("ovs").yes {
			r.Datapath = "kernel"
		}
	}
	return r
}

// An answer says whether the kernel has a feature, if known, and how that is known.
type answer struct {
	feature
	yes, known bool
	how        string
}

// has answers for the feature of features() with that id.
func (m *machine) has(id string) answer {
	all := features()
	f := all[slices.IndexFunc(all, func(f feature) bool { return f.id == id })]
	if t := m.features[id]; t.ok() {
		return answer{f, true, true, "works"}
	} else if t.failed() {
		return answer{f, false, true, t.err}
	}
	what := f.module
	if what == "" {
		what = f.config
	}
	switch m.kernel.module(f.module, f.config) {
	case present:
		return answer{f, true, true, what + " is in the kernel"}
	case loadable:
		return answer{f, true, true, "module " + what + " is there and loads when it is needed"}
	case absent:
		return answer{f, false, true, "this kernel has no " + what}
	}
	return answer{f, false, false, "cannot tell without loading a module: no list of this kernel's modules here"}
}

// join lists words for people.
func join(words []string) string { return strings.Join(words, ", ") }
