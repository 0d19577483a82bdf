package experiment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"weft/api"
	"weft/topo"
)

// Exec runs a command on a node and waits for its end.
type Exec struct {
	On      string            `key:"on" doc:"node to run it on" required:"true"`
	Command string            `key:"command" doc:"line for bash" required:"true"`
	Env     map[string]string `key:"env" doc:"environment variables"`
	Input   string            `key:"input" doc:"text for its standard input (none)"`
}

// shortExec reads "h1 ping -c1 h2".
func shortExec(a Action, text string) error {
	e := a.(*Exec)
	var ok bool
	e.On, e.Command, ok = strings.Cut(strings.TrimSpace(text), " ")
	if e.Command = strings.TrimSpace(e.Command); !ok || e.Command == "" {
		return fmt.Errorf("%q has no command; write a node and a command, for example h1 ping -c1 h2", text)
	}
	return nil
}

func (e *Exec) String() string { return e.On + ": " + oneLine(e.Command) }

// oneLine shortens a command to what a title has room for.
func oneLine(command string) string {
	text := strings.Join(strings.Fields(command), " ")
	if r := []rune(text); len(r) > 60 {
		text = string(r[:59]) + "…"
	}
	return text
}

// wantNode says that there is no such node.
func wantNode(plan *topo.Plan, name string) error {
	if name == "" || plan.Host(name) != nil || plan.Switch(name) != nil || plan.Controller(name) != nil {
		return nil
	}
	names := append(hosts(plan, []string{allHosts}), switches(plan)...)
	return unknown("node", name, names)
}

// Validate wants a node.
func (e *Exec) Validate(plan *topo.Plan) error {
	return errors.Join(wantNode(plan, e.On), checkEnv(e.Env))
}

func checkEnv(env map[string]string) error {
	for _, name := range sortedNames(env) {
		if !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`).MatchString(name) {
			return fmt.Errorf("env: %q is no name of a variable; write letters, digits and _", name)
		}
	}
	return nil
}

func sortedNames(m map[string]string) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Estimate knows nothing of the command; steps that take longer than half a minute have a
// timeout.
func (e *Exec) Estimate() time.Duration { return time.Second }

// Do runs it.
func (e *Exec) Do(ctx context.Context, t *Trial) (Outcome, error) {
	p, err := t.program(ctx, program{node: e.On, command: e.Command, env: e.Env, input: e.Input}, "exec")
	if err != nil {
		return Outcome{}, err
	}
	err = p.cmd.Wait()
	p.close()
	status, err := exitStatus(err)
	if err != nil {
		return Outcome{}, err
	}
	return p.outcome(status), nil
}

// exitStatus is what a program ended with, or why it could not be run or waited for.
func exitStatus(err error) (int, error) {
	var exit *api.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.Reason == "":
		return exit.Status, nil
	}
	return 0, err
}

// A program is a command to run.
type program struct {
	node, command, input string
	env                  map[string]string
}

// A process is a program that was started.
type process struct {
	cmd            *api.Cmd
	stdout, stderr *output
	began          time.Time
}

// program starts a command on a node, with logs among the results.
func (t *Trial) program(ctx context.Context, p program, what string) (*process, error) {
	t.mu.Lock()
	t.programs++
	stem := fmt.Sprintf("logs/%03d-%s-%s", t.programs, fileName(p.node), what)
	t.mu.Unlock()
	cmd := t.Client.Command(ctx, p.node, "bash", "-c", p.command)
	cmd.Dir, cmd.Env = t.Home, t.environment(p.env)
	if p.input != "" {
		cmd.Stdin = strings.NewReader(p.input)
	}
	run := &process{cmd: cmd, began: time.Now(), stdout: t.output(stem + ".out"), stderr: t.output(stem + ".err")}
	cmd.Stdout, cmd.Stderr = run.stdout, run.stderr
	if err := cmd.Start(); err != nil {
		run.close()
		return nil, err
	}
	return run, nil
}

// environment is what programs on nodes find: little, so that an experiment gives the same
// wherever it runs and secrets of the user's stay outside.
func (t *Trial) environment(own map[string]string) []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	env = append(env, "TERM=dumb", "WEFT_RESULTS="+filepath.Join(t.Dir, filesDir))
	for _, name := range sortedNames(own) {
		env = append(env, name+"="+own[name])
	}
	return env
}

func (p *process) close() {
	p.stdout.close()
	p.stderr.close()
}

// outcome is what came of a program that ended.
func (p *process) outcome(status int) Outcome {
	out, errs := p.stdout.text(), p.stderr.text()
	o := Outcome{Values: Values{"exit": float64(status), "output": out, "errors": errs, "seconds": time.Since(p.began)},
		Summary: "exit status " + strconv.Itoa(status)}
	said := strings.TrimSpace(cmp.Or(strings.TrimSpace(errs), out))
	if status == 0 {
		said = strings.TrimSpace(out)
	}
	if said != "" {
		o.Summary += ": " + formatText(lastLine(said))
	}
	return o
}

func lastLine(text string) string { return text[strings.LastIndexByte(text, '\n')+1:] }

// Start starts a service on a node and waits until it is ready.
type Start struct {
	As      string            `key:"as" doc:"its name, for stop" required:"true"`
	On      string            `key:"on" doc:"node to run it on" required:"true"`
	Command string            `key:"command" doc:"line for bash" required:"true"`
	Env     map[string]string `key:"env" doc:"environment variables"`
	Ready   *Ready            `key:"ready" doc:"how to tell that it is ready (at once)"`
	Wait    time.Duration     `key:"wait" doc:"how long it may take to be ready (10s)"`
}

// Ready says how a service shows that it is ready: by all that is given.
type Ready struct {
	TCP     int    `key:"tcp" doc:"it listens at this TCP port" min:"1" max:"65535"`
	UDP     int    `key:"udp" doc:"it has this UDP port" min:"1" max:"65535"`
	Output  string `key:"output" doc:"a line of its output matches this regular expression"`
	Command string `key:"command" doc:"this command succeeds on the same node"`
}

func (s *Start) String() string { return "start " + s.As + " on " + s.On + ": " + oneLine(s.Command) }

// Validate wants a node, a name and a regular expression.
func (s *Start) Validate(plan *topo.Plan) error {
	errs := []error{wantNode(plan, s.On), checkName(s.As), checkEnv(s.Env)}
	if s.Ready != nil {
		_, err := regexp.Compile(s.Ready.Output)
		if err != nil {
			errs = append(errs, fmt.Errorf("ready: %q is not a regular expression: %s", s.Ready.Output, strings.TrimPrefix(err.Error(), "error parsing regexp: ")))
		}
		if *s.Ready == (Ready{}) {
			errs = append(errs, errors.New("ready says nothing; write tcp, udp, output or command"))
		}
	} else if s.Wait != 0 {
		errs = append(errs, errors.New("wait is for ready; write ready too"))
	}
	return errors.Join(errs...)
}

// Estimate is that of a service that starts at once.
func (s *Start) Estimate() time.Duration { return 0 }

// Limit is how long it waits.
func (s *Start) Limit() time.Duration { return cmp.Or(s.Wait, 10*time.Second) }

// A service is a program that runs beside the steps.
type service struct {
	*process
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended
	status int
	err    error
	asked  bool // it was told to end
}

// Do starts the service.
func (s *Start) Do(ctx context.Context, t *Trial) (Outcome, error) {
	t.mu.Lock()
	old := t.services[s.As]
	t.mu.Unlock()
	if old != nil && !old.ended() {
		return Outcome{}, fmt.Errorf("a service called %s runs already; stop it first, or name this one otherwise", s.As)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx)) // it outlives the step
	p, err := t.program(run, program{node: s.On, command: s.Command, env: s.Env}, fileName(s.As))
	if err != nil {
		cancel()
		return Outcome{}, err
	}
	sv := &service{process: p, cancel: cancel, done: make(chan struct{})}
	t.mu.Lock()
	t.services[s.As] = sv
	t.mu.Unlock()
	go sv.wait(t, s.As)
	if s.Ready == nil {
		return Outcome{Values: Values{"ready": time.Since(p.began)}}, nil
	}
	if err := s.awaitReady(ctx, t, sv); err != nil {
		sv.end()
		return Outcome{}, err
	}
	took := time.Since(p.began)
	return Outcome{Values: Values{"ready": took}, Summary: "ready after " + formatDuration(took)}, nil
}

func (s *service) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// wait notes the end of a service.
func (s *service) wait(t *Trial, name string) {
	s.status, s.err = exitStatus(s.cmd.Wait())
	s.close()
	s.cancel()
	t.mu.Lock()
	asked := s.asked || t.closing
	t.mu.Unlock()
	if !asked && s.err == nil {
		t.Note("service %s ended by itself: %s", name, s.outcome(s.status).Summary)
	}
	close(s.done)
}

// end ends a service without waiting for long.
func (s *service) end() {
	s.cmd.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(time.Second):
		s.cancel() // which kills it
	}
}

// readyPoll is how often a service is looked at.
const readyPoll = 50 * time.Millisecond

// awaitReady waits until all that Ready names is there.
func (s *Start) awaitReady(ctx context.Context, t *Trial, sv *service) error {
	ctx, cancel := context.WithTimeout(ctx, s.Limit())
	defer cancel()
	missing := ""
	for {
		var err error
		if missing, err = s.missing(ctx, t, sv); err != nil {
			return err
		}
		if missing == "" {
			return nil
		}
		select {
		case <-sv.done:
			return fmt.Errorf("service %s ended before it was ready: %s", s.As, sv.outcome(sv.status).Summary)
		case <-ctx.Done():
			text := fmt.Sprintf("service %s on %s is not ready after %s: %s", s.As, s.On, formatDuration(s.Limit()), missing)
			if said := strings.TrimSpace(sv.stderr.text() + sv.stdout.text()); said != "" {
				text += "; it said " + formatText(lastLine(said))
			}
			return errors.New(text)
		case <-time.After(readyPoll):
		}
	}
}

// missing says what a service still lacks to be ready.
func (s *Start) missing(ctx context.Context, t *Trial, sv *service) (string, error) {
	r := s.Ready
	if r.Output != "" {
		pattern := regexp.MustCompile("(?m)" + r.Output)
		if !pattern.MatchString(sv.stdout.text()) && !pattern.MatchString(sv.stderr.text()) {
			return fmt.Sprintf("no line of its output matches %q", r.Output), nil
		}
	}
	for _, want := range []struct {
		protocol string
		port     int
	}{{"tcp", r.TCP}, {"udp", r.UDP}} {
		if want.port == 0 {
			continue
		}
		open, err := t.hasPort(ctx, s.On, want.protocol, want.port)
		if err != nil && ctx.Err() == nil {
			return "", err
		}
		if !open {
			return fmt.Sprintf("nothing listens at %s port %d", want.protocol, want.port), nil
		}
	}
	if r.Command != "" {
		cmd := t.Client.Command(ctx, s.On, "bash", "-c", r.Command)
		cmd.Dir, cmd.Env = t.Home, t.environment(s.Env)
		status, err := exitStatus(cmd.Run())
		if err != nil && ctx.Err() == nil {
			return "", err
		}
		if status != 0 || err != nil {
			return fmt.Sprintf("%q has exit status %d", r.Command, status), nil
		}
	}
	return "", nil
}

// hasPort reports whether a socket of a node listens at a port. To connect would be noticed.
func (t *Trial) hasPort(ctx context.Context, node, protocol string, port int) (bool, error) {
	// The second is not there without IPv6.
	cmd := t.Client.Command(ctx, node, "sh", "-c", fmt.Sprintf("cat /proc/net/%s /proc/net/%s6 2>/dev/null; true", protocol, protocol))
	cmd.Dir = "/"
	table, err := cmd.Output()
	if err != nil {
		return false, err
	}
	return listens(string(table), protocol, port), nil
}

// listens looks for a port in /proc/net/tcp or udp (proc(5)): a TCP socket must be in the
// state LISTEN.
func listens(table, protocol string, port int) bool {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 4 || protocol == "tcp" && f[3] != "0A" {
			continue
		}
		_, hex, ok := strings.Cut(f[1], ":")
		n, err := strconv.ParseUint(hex, 16, 16)
		if ok && err == nil && int(n) == port {
			return true
		}
	}
	return false
}

// Stop ends a service or a capture.
type Stop struct {
	Name string        `key:"as" doc:"name of the service or capture" required:"true"`
	Wait time.Duration `key:"wait" doc:"how long a service may take to end before it is killed (5s)"`
}

func shortStop(a Action, text string) error {
	a.(*Stop).Name = strings.TrimSpace(text)
	return nil
}

func (s *Stop) String() string { return "stop " + s.Name }

// Validate has nothing to complain of.
func (s *Stop) Validate(*topo.Plan) error { return nil }

// Estimate is that of a service that ends when it is told to.
func (s *Stop) Estimate() time.Duration { return 0 }

// Limit is how long it waits.
func (s *Stop) Limit() time.Duration { return cmp.Or(s.Wait, 5*time.Second) }

// Do ends it.
func (s *Stop) Do(ctx context.Context, t *Trial) (Outcome, error) {
	t.mu.Lock()
	sv, rec := t.services[s.Name], t.captures[s.Name]
	if sv != nil {
		sv.asked = true
	}
	var names []string
	for n := range t.services {
		names = append(names, n)
	}
	for n := range t.captures {
		names = append(names, n)
	}
	t.mu.Unlock()
	slices.Sort(names)
	switch {
	case sv == nil && rec == nil:
		return Outcome{}, unknown("service or capture", s.Name, names)
	case sv == nil:
		text, err := t.stopCapture(ctx, s.Name)
		if err != nil {
			return Outcome{}, err
		}
		r, _ := rec.Result()
		return Outcome{Values: Values{"packets": float64(r.Packets())}, Summary: text, Detail: r}, nil
	}
	sv.cmd.Signal(syscall.SIGTERM)
	select {
	case <-sv.done:
	case <-ctx.Done():
		return Outcome{}, context.Cause(ctx)
	case <-time.After(s.Limit()):
		sv.cmd.Signal(syscall.SIGKILL)
		select {
		case <-sv.done:
		case <-ctx.Done():
			return Outcome{}, context.Cause(ctx)
		}
	}
	if sv.err != nil {
		return Outcome{}, sv.err
	}
	return sv.outcome(sv.status), nil
}

// close ends all services and captures.
func (t *Trial) close() {
	t.mu.Lock()
	t.closing = true
	services, captures := t.services, t.captures
	t.mu.Unlock()
	for _, s := range services {
		if !s.ended() {
			s.cmd.Signal(syscall.SIGTERM)
		}
	}
	deadline := time.After(2 * time.Second)
	for _, s := range services {
		select {
		case <-s.done:
			continue
		case <-deadline:
		}
		s.cancel() // which kills it, at the latest with the network
		deadline = time.After(0)
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	for _, name := range slices.Sorted(maps.Keys(captures)) {
		if _, err := t.stopCapture(ctx, name); err != nil {
			t.Note("%v", err)
		}
	}
}
