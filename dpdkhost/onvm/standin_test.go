package onvm

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/bits"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test program be OpenNetVM's programs: it takes their command lines as strictly
// as they do, and says what they say.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "onvm_mgr":
		os.Exit(standInManager(os.Args[1:]))
	case "bridge", "speed_tester":
		os.Exit(standInFunction(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// getopt takes options, of which those in withValue have one, up to "--".
func getopt(args []string, withValue, without []string) (values map[string]string, rest []string, err error) {
	values = map[string]string{}
	for len(args) > 0 {
		o, value, joined := strings.Cut(args[0], "=")
		if !strings.HasPrefix(o, "--") {
			o, value, joined = args[0], "", false
		}
		switch {
		case o == "--":
			return values, args[1:], nil
		case slices.Contains(withValue, o) && joined:
			values[o] += " " + value
			args = args[1:]
		case slices.Contains(withValue, o) && len(args) > 1:
			values[o] += " " + args[1]
			args = args[2:]
		case slices.Contains(without, o):
			values[o] = "yes"
			args = args[1:]
		default:
			return nil, nil, fmt.Errorf("unknown option or no value: %s", args[0])
		}
	}
	return values, nil, nil
}

var ealValues = []string{"--lcores", "-l", "-n", "-m", "--huge-dir", "--proc-type", "--file-prefix", "--base-virtaddr", "--vdev", "-a"}

// shared is what processes of one OpenNetVM must agree on.
func shared(v map[string]string) string {
	return v["--huge-dir"] + v["--file-prefix"] + v["--base-virtaddr"]
}

func usage(err error) int {
	fmt.Println("EAL: FATAL:", err)
	return 1
}

// A standIn is an NF that the manager knows.
type standIn struct {
	Tag     string
	Service int
	Core    int
	Shared  string
}

func standInManager(args []string) int {
	eal, rest, err := getopt(args, ealValues, []string{"--no-pci"})
	if err != nil {
		return usage(err)
	}
	own, rest, err := getopt(rest, []string{"-p", "-r", "-n", "-d", "-s", "-t", "-l", "-z", "-v"}, []string{"-c", "-j"})
	if err != nil || len(rest) > 0 {
		return usage(fmt.Errorf("%v, and %v", err, rest))
	}
	devices := strings.Fields(eal["--vdev"] + eal["-a"])
	mask, err := strconv.ParseUint(strings.TrimSpace(own["-p"]), 16, 64)
	cores, cerr := strconv.ParseUint(strings.TrimPrefix(strings.TrimSpace(own["-n"]), "0x"), 16, 64)
	lcores := strings.Count(eal["--lcores"], "@")
	switch {
	case eal["--proc-type"] != " primary" || eal["--huge-dir"] == "" || eal["--base-virtaddr"] == "":
		return usage(fmt.Errorf("what NFs must know is missing: %v", eal))
	case (eal["-a"] == "") != (eal["--no-pci"] != ""):
		return usage(fmt.Errorf("NICs %q, no PCI: %q", eal["-a"], eal["--no-pci"]))
	case err != nil || bits.OnesCount64(mask) != len(devices):
		return usage(fmt.Errorf("port mask %q for %v", own["-p"], devices))
	case cerr != nil || cores == 0:
		return usage(fmt.Errorf("no NF cores are being used: %q", own["-n"]))
	case lcores < 3 || own["-c"] != "" && lcores < 4:
		return usage(fmt.Errorf("%d lcores are too few", lcores))
	case own["-v"] != " 3" || own["-s"] != " stdout":
		return usage(fmt.Errorf("statistics: -v %q -s %q", own["-v"], own["-s"]))
	}
	if os.Getenv("STANDIN_FAILS") != "" {
		return usage(fmt.Errorf("Cannot get hugepage information"))
	}
	fmt.Println("APP: Finished Process Init.")
	fmt.Print("#YYYY-MM-DD HH:MM:SS,nic_rx_pkts,nic_rx_pps,nic_tx_pkts,nic_tx_pps\n" +
		"#YYYY-MM-DD HH:MM:SS,nf_tag,instance_id,service_id,core,parent,state,children_cnt,rx,tx,rx_pps,tx_pps,rx_drop,tx_drop,rx_drop_rate,tx_drop_rate," +
		"act_out,act_tonf,act_drop,act_next,act_buffer,act_returned,num_wakeups,wakeup_rate\n")
	// Not really ready yet: an NF that comes now finds nothing.
	time.Sleep(100 * time.Millisecond)
	l, err := net.Listen("unix", filepath.Join(os.Getenv("RUNTIME_DIRECTORY"), "standin"))
	if err != nil {
		return usage(err)
	}
	var mu sync.Mutex
	nfs := map[int]*standIn{}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				var nf standIn
				if json.NewDecoder(conn).Decode(&nf) != nil {
					return
				}
				if nf.Shared != shared(eal) || nf.Core < 0 || cores>>nf.Core&1 == 0 || nf.Service < 1 || nf.Service > 31 {
					fmt.Fprintln(conn, 0)
					return
				}
				mu.Lock()
				id := 1
				for nfs[id] != nil {
					id++
				}
				nfs[id] = &nf
				mu.Unlock()
				fmt.Fprintln(conn, id)
				if goodbye, err := bufio.NewReader(conn).ReadString('\n'); err == nil && goodbye == "stop\n" {
					mu.Lock()
					delete(nfs, id)
					mu.Unlock()
				} // else it died, which OpenNetVM does not notice
			}()
		}
	}()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	for n := uint64(1); ; n++ {
		select {
		case <-stop:
			fmt.Println("APP: Master thread done")
			return 0
		case <-time.After(50 * time.Millisecond): // OpenNetVM: 1 s
		}
		at := time.Now().Format(time.DateTime)
		for id := range devices {
			fmt.Printf("%s,%d,%d,%d,%d,%d\n", at, id, 100*n+uint64(id), 100, 90*n+uint64(id), 90)
		}
		mu.Lock()
		for id := range 10 {
			if nf := nfs[id]; nf != nil {
				fmt.Printf("%s,%s,%d,%d,%d,%d,%c,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d\n", at, nf.Tag, id, nf.Service, nf.Core, 0, 'W', 0,
					10*n, 9*n, 10, 9, 1, 2, 0, 0, 3*n, 4*n, 5, 6, 7, 8, 11, 0)
			}
		}
		mu.Unlock()
	}
}

func standInFunction(args []string) int {
	eal, rest, err := getopt(args, ealValues, []string{"--no-pci"})
	if err != nil {
		return usage(err)
	}
	own, rest, err := getopt(rest, []string{"-n", "-r", "-t", "-l"}, []string{"-m", "-s"})
	if err != nil {
		return usage(err)
	}
	service, serr := strconv.Atoi(strings.TrimSpace(own["-r"]))
	core, cerr := strconv.Atoi(strings.TrimSpace(eal["-l"]))
	if serr != nil || cerr != nil || eal["--proc-type"] != " secondary" || eal["--vdev"] != "" {
		return usage(fmt.Errorf("service %q, core %q, %v", own["-r"], eal["-l"], eal))
	}
	conn, err := net.Dial("unix", filepath.Join(os.Getenv("RUNTIME_DIRECTORY"), "standin"))
	if err != nil {
		fmt.Println("EAL: Error - exiting with code: 1\n  Cause: Cannot get service chain info structre")
		return 1
	}
	json.NewEncoder(conn).Encode(standIn{Tag: filepath.Base(os.Args[0]), Service: service, Core: core, Shared: shared(eal)})
	line, _ := bufio.NewReader(conn).ReadString('\n')
	if line == "0\n" || line == "" {
		fmt.Println("Requested core is not enabled or not in range")
		return 1
	}
	fmt.Printf("APP: Using Instance ID %sAPP: Using Service ID %d\n", line, service)
	fmt.Println("NF options", rest)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	if slices.Contains(rest, "crash") {
		time.Sleep(100 * time.Millisecond)
		return 3
	}
	<-stop
	fmt.Fprintln(conn, "stop")
	return 0
}
