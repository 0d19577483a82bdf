// Command capture compares weft's captures with dumpcap's and tcpdump's on the same link, at
// the highest rate of frames that one sender gives: what each loses, and the CPU time it
// takes. It needs root, dumpcap and tcpdump.
//
//	go run ./bench/capture [-n 3] [-time 2s] [-sizes 64,1500] [-rate 0] [-weft PATH] [-o results.json]
//
// All tools are measured in turn on one network, in each run in another order. It imports no
// package of weft: it runs the program as its users do.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench/capture:", err)
		os.Exit(1)
	}
}

// generatorWord makes this program the sender, which runs on a host of the network.
const generatorWord = "generate"

func run(args []string) error {
	if len(args) == 5 && args[0] == generatorWord {
		return generator(args[1:])
	}
	flags := flag.NewFlagSet("capture", flag.ExitOnError)
	n := flags.Int("n", 3, "runs of each tool and size")
	span := flags.Duration("time", 2*time.Second, "how long frames are sent in a run")
	sizes := flags.String("sizes", "64,1500", "lengths of frames, bytes")
	rate := flags.Int("rate", 0, "frames a second; 0: as many as can be sent")
	weft := flags.String("weft", "", "weft's binary (default: built from ./cmd/weft)")
	output := flags.String("o", "", "file for the results as JSON")
	flags.Parse(args)
	if os.Geteuid() != 0 {
		return errors.New("this needs root: run it with sudo")
	}
	dir, err := os.MkdirTemp("", "weft-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if *weft == "" {
		*weft = filepath.Join(dir, "weft")
		if out, err := exec.Command("go", "build", "-o", *weft, "./cmd/weft").CombinedOutput(); err != nil {
			return fmt.Errorf("build weft: %w\n%s", err, out)
		}
	}
	b, err := start(*weft, dir)
	if err != nil {
		return err
	}
	defer b.close()
	var results []result
	for _, text := range strings.Split(*sizes, ",") {
		size, err := strconv.Atoi(text)
		if err != nil || size < 42 {
			return fmt.Errorf("-sizes: %q is not a length of 42 bytes or more", text)
		}
		for i := range *n {
			tools := b.tools()
			for k := range tools {
				t := tools[(i+k)%len(tools)]
				r, err := b.measure(t, size, *span, *rate)
				if err != nil {
					return fmt.Errorf("%s, %d bytes: %w", t.name, size, err)
				}
				fmt.Fprintf(os.Stderr, "%s, %d bytes: %d sent, %d captured, %d dropped, %.2f s of CPU\n",
					r.Tool, r.Size, r.Sent, r.Captured, r.Dropped, r.CPU)
				results = append(results, r)
			}
		}
	}
	table(os.Stdout, results)
	if *output == "" {
		return nil
	}
	text, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(*output, append(text, '\n'), 0o644)
}

// A result is one run of a tool.
type result struct {
	Tool     string  `json:"tool"`
	Size     int     `json:"size"`
	Sent     int     `json:"sent"`
	Rate     float64 `json:"rate"` // frames a second
	Captured int     `json:"captured"`
	Dropped  int     `json:"dropped"`
	CPU      float64 `json:"cpu"` // seconds, user and system
}

// table prints the medians.
func table(w io.Writer, results []result) {
	fmt.Fprintf(w, "| bytes | tool | frames/s | lost | CPU s | CPU µs/frame captured |\n|-|-|-|-|-|-|\n")
	type key struct {
		size int
		tool string
	}
	var keys []key
	groups := map[key][]result{}
	for _, r := range results {
		k := key{r.Size, r.Tool}
		if groups[k] == nil {
			keys = append(keys, k)
		}
		groups[k] = append(groups[k], r)
	}
	for _, k := range keys {
		of := func(f func(result) float64) float64 {
			var v []float64
			for _, r := range groups[k] {
				v = append(v, f(r))
			}
			slices.Sort(v)
			return v[len(v)/2]
		}
		fmt.Fprintf(w, "| %d | %s | %.0f | %.2f %% | %.2f | %.2f |\n", k.size, k.tool,
			of(func(r result) float64 { return r.Rate }),
			of(func(r result) float64 { return 100 * float64(r.Sent-r.Captured) / float64(r.Sent) }),
			of(func(r result) float64 { return r.CPU }),
			of(func(r result) float64 { return 1e6 * r.CPU / float64(max(1, r.Captured)) }))
	}
}

// A bench is a running network of two hosts and a switch that does not forward: what h1
// sends is captured at the switch's port and goes no further.
type bench struct {
	weft, dir string
	network   string // its name
	self      string
	cmd       *exec.Cmd
	in        io.WriteCloser
	out       *bufio.Scanner
}

const port = "s1-eth1"

func start(weft, dir string) (*bench, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	b := &bench{weft: weft, dir: dir, self: self, network: fmt.Sprintf("bench%d", os.Getpid())}
	b.cmd = exec.Command(weft, "--name", b.network, "--topo", "single,2", "--json", "-q")
	b.cmd.Stderr = os.Stderr
	if b.in, err = b.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	b.out = bufio.NewScanner(out)
	b.out.Buffer(nil, 1<<20)
	if _, err := b.do("switch s1 stop"); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bench) close() {
	b.in.Close()
	b.cmd.Wait()
}

// do runs a line at the prompt and returns what it printed.
func (b *bench) do(line string) (string, error) {
	if _, err := fmt.Fprintln(b.in, line); err != nil {
		return "", err
	}
	if !b.out.Scan() {
		return "", errors.New("the network has ended")
	}
	var answer struct {
		Error  string
		Status int
		Output string
	}
	if err := json.Unmarshal(b.out.Bytes(), &answer); err != nil {
		return "", fmt.Errorf("%s: %w", line, err)
	}
	if answer.Error != "" || answer.Status != 0 {
		return "", fmt.Errorf("%s: %s%s (status %d)", line, answer.Error, answer.Output, answer.Status)
	}
	return answer.Output, nil
}

// A tool captures on port until stop is called, which returns what it says of its work.
type tool struct {
	name  string
	start func(file string) (stop func() (captured, dropped int, cpu float64, err error), err error)
}

func (b *bench) tools() []tool {
	return []tool{
		{"weft", b.startWeft},
		{"dumpcap", func(file string) (func() (int, int, float64, error), error) {
			return b.startOther(file, "dumpcap -q -i "+port+" -w "+file, `Packets received/dropped on interface '[^']*': (\d+)/(\d+)`)
		}},
		{"tcpdump", func(file string) (func() (int, int, float64, error), error) {
			return b.startOther(file, "tcpdump -Z root -i "+port+" -w "+file, `(?s)(\d+) packets? captured.*?(\d+) packets? dropped by kernel`)
		}},
	}
}

// measure sends frames while t captures.
func (b *bench) measure(t tool, size int, span time.Duration, rate int) (result, error) {
	file := filepath.Join(b.dir, "capture.pcapng")
	defer os.Remove(file)
	stop, err := t.start(file)
	if err != nil {
		return result{}, err
	}
	time.Sleep(500 * time.Millisecond) // until it captures
	text, err := b.do(fmt.Sprintf("h1 %s %s h1-eth0 %d %v %d", b.self, generatorWord, size, span, rate))
	if err != nil {
		return result{}, err
	}
	sent, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		return result{}, fmt.Errorf("the sender said %q", text)
	}
	time.Sleep(500 * time.Millisecond)
	r := result{Tool: t.name, Size: size, Sent: sent, Rate: float64(sent) / span.Seconds()}
	r.Captured, r.Dropped, r.CPU, err = stop()
	return r, err
}

// startWeft runs weft capture; the engine works for it too.
func (b *bench) startWeft(file string) (func() (int, int, float64, error), error) {
	before, err := b.engineTime()
	if err != nil {
		return nil, err
	}
	var out strings.Builder
	cmd := exec.Command(b.weft, "capture", b.network, port, "-w", file, "--json", "-q")
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() (int, int, float64, error) {
		cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			return 0, 0, 0, err
		}
		after, err := b.engineTime()
		if err != nil {
			return 0, 0, 0, err
		}
		var r struct{ Packets, Dropped int }
		err = json.Unmarshal([]byte(out.String()), &r)
		return r.Packets, r.Dropped, after - before + spent(cmd.ProcessState), err
	}, nil
}

func spent(s *os.ProcessState) float64 { return (s.UserTime() + s.SystemTime()).Seconds() }

// engineTime returns the CPU time of the network's own processes so far: weft and its
// descendants of the same name.
func (b *bench) engineTime() (float64, error) {
	parents := map[int]int{}
	ticks := map[int]float64{}
	name := ""
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	names := map[int]string{}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		head, tail, _ := strings.Cut(string(text), ") ")
		number, comm, _ := strings.Cut(head, " (")
		fields := strings.Fields(tail)
		pid, _ := strconv.Atoi(number)
		parents[pid], _ = strconv.Atoi(fields[1])
		user, _ := strconv.ParseFloat(fields[11], 64)
		system, _ := strconv.ParseFloat(fields[12], 64)
		ticks[pid], names[pid] = user+system, comm
		if pid == b.cmd.Process.Pid {
			name = comm
		}
	}
	total := 0.0
	for pid := range ticks {
		for p := pid; p > 1; p = parents[p] {
			if p == b.cmd.Process.Pid && (names[pid] == name || names[pid] == "exe") {
				total += ticks[pid]
			}
		}
	}
	const ticksPerSecond = 100 // USER_HZ
	return total / ticksPerSecond, nil
}

// startOther runs a tool where the switch's ports are; counts are in what it prints.
func (b *bench) startOther(file, command, counts string) (func() (int, int, float64, error), error) {
	said, pid := filepath.Join(b.dir, "said"), filepath.Join(b.dir, "pid")
	// bash's time gives the CPU time of the command.
	line := fmt.Sprintf(`sh (TIMEFORMAT='cpu %%U %%S'; time sh -c 'echo $$ >%s; exec %s') >%s 2>&1 &`, pid, command, said)
	if _, err := b.do(line); err != nil {
		return nil, err
	}
	return func() (captured, dropped int, cpu float64, err error) {
		if _, err := b.do(fmt.Sprintf("sh kill -INT $(cat %s)", pid)); err != nil {
			return 0, 0, 0, err
		}
		for range 100 {
			time.Sleep(50 * time.Millisecond)
			text, err := os.ReadFile(said)
			if err != nil {
				return 0, 0, 0, err
			}
			c := regexp.MustCompile(counts).FindStringSubmatch(string(text))
			t := regexp.MustCompile(`cpu ([0-9.]+) ([0-9.]+)`).FindStringSubmatch(string(text))
			if c == nil || t == nil {
				continue
			}
			captured, _ = strconv.Atoi(c[1])
			dropped, _ = strconv.Atoi(c[2])
			user, _ := strconv.ParseFloat(t[1], 64)
			system, _ := strconv.ParseFloat(t[2], 64)
			return captured, dropped, user + system, nil
		}
		text, _ := os.ReadFile(said)
		return 0, 0, 0, fmt.Errorf("it did not end, and said: %s", text)
	}, nil
}

// generator sends and prints how many frames.
func generator(args []string) error {
	size, err1 := strconv.Atoi(args[1])
	span, err2 := time.ParseDuration(args[2])
	rate, err3 := strconv.Atoi(args[3])
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	sent, err := generate(args[0], size, span, rate)
	if err != nil {
		return err
	}
	fmt.Println(sent)
	return nil
}
