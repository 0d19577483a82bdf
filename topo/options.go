package topo

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Options is a network as the flags of a command describe it, each in Mininet's
// way of writing. Empty means the default.
type Options struct {
	Name        string
	Seed        *uint64
	Topo        string   // Generate; default minimal
	Custom      *Spec    // of a file, instead of Topo; what it does not say, the others may
	Switch      string   // ParseSwitch
	Controllers []string // ParseController; default builtin
	Link        string   // ParseLink
	IPBase      string   // ParseIPBase
	IP6         string   // ParseIP6Base; IPv6 is off if empty
	MAC         bool     // Addressing.AutoMAC
	ARP         bool     // Addressing.StaticARP
	NAT         *string  // ParseNAT; nil for no gateway
}

// Spec builds the network. Its error names all that is wrong, a line for each.
func (o Options) Spec() (Spec, error) {
	var errs []error
	note := func(err error) { errs = append(errs, err) }

	var s Spec
	var err error
	if o.Custom != nil {
		s = *o.Custom
		s.Hosts, s.Switches, s.Links = slices.Clone(s.Hosts), slices.Clone(s.Switches), slices.Clone(s.Links)
		if len(o.Controllers) > 0 {
			s.Controllers = nil
		}
	} else {
		s, err = Generate(cmp.Or(o.Topo, "minimal"))
		note(err)
	}
	s.Name, s.Seed = cmp.Or(o.Name, s.Name), cmp.Or(o.Seed, s.Seed)

	sw, err := ParseSwitch(o.Switch)
	note(err)
	for i := range s.Switches {
		if o.Custom == nil || o.Switch != "" {
			s.Switches[i] = like(sw, s.Switches[i])
		}
	}

	controllers := o.Controllers
	if len(controllers) == 0 && len(s.Controllers) == 0 {
		controllers = []string{string(ControllerBuiltin)}
	}
	for _, arg := range controllers {
		list, err := ParseController(arg)
		note(err)
		for _, c := range list {
			c.Name = "c" + strconv.Itoa(len(s.Controllers))
			s.Controllers = append(s.Controllers, c)
		}
	}

	link, err := ParseLink(o.Link)
	note(err)
	for i := range s.Links {
		if s.Links[i].LinkSettings == (LinkSettings{}) && !s.Links[i].outside() {
			s.Links[i].LinkSettings = link
		}
	}
	if link.Driver == LinkPatch {
		s.patch(sw.Driver)
	}
	if link.Driver == LinkMemif {
		s.memif()
	}

	s.Addressing.AutoMAC = o.MAC || s.Addressing.AutoMAC
	s.Addressing.StaticARP = o.ARP || s.Addressing.StaticARP
	if o.IPBase != "" {
		s.Addressing.IPBase, err = ParseIPBase(o.IPBase)
		note(err)
	}
	if o.IP6 != "" {
		s.Addressing.IP6Base, err = ParseIP6Base(o.IP6)
		note(err)
	}
	if o.NAT != nil {
		host, connect, err := ParseNAT(*o.NAT)
		note(err)
		if err == nil && len(s.Switches) > 0 {
			s.Hosts = append(s.Hosts, host)
			s.Links = append(s.Links, Link{
				A: LinkEnd{Node: host.Name},
				B: LinkEnd{Node: cmp.Or(connect, s.Switches[0].Name)},
			})
		}
	}
	note(s.Validate()) // of what could be read: the rest has its defaults
	if err := errors.Join(errs...); err != nil {
		return Spec{}, err
	}
	return s, nil
}

// like returns sw with the name and, if it has one, the DPID of a generated switch.
func like(sw, generated Switch) Switch {
	sw.Name, sw.DPDK = generated.Name, sw.DPDK.Clone()
	if sw.DPID == 0 && sw.Driver != DriverLinux {
		sw.DPID = generated.DPID
	}
	return sw
}

// patch leaves the driver patch to links between Open vSwitch switches.
func (s *Spec) patch(driver SwitchDriver) {
	isSwitch := map[string]bool{}
	for _, sw := range s.Switches {
		isSwitch[sw.Name] = true
	}
	for i := range s.Links {
		if l := &s.Links[i]; l.Driver == LinkPatch && (!driver.OVS() || !isSwitch[l.A.Node] || !isSwitch[l.B.Node]) {
			l.Driver = LinkVeth
		}
	}
}

// An arg is what Mininet's options look like: name[,value...][,key=value...].
type arg struct {
	name string
	pos  []string
	opts []option
}

// An option's key may be in upper or lower case.
type option struct {
	key, value string
}

func splitArg(text string) arg {
	name, rest, more := strings.Cut(text, ",")
	a := arg{name: strings.TrimSpace(name)}
	if more {
		a.read(rest)
	}
	return a
}

// read adds the values and options of text, which are separated by commas.
func (a *arg) read(text string) {
	for part := range strings.SplitSeq(text, ",") {
		if key, value, ok := strings.Cut(part, "="); ok {
			a.opts = append(a.opts, option{strings.TrimSpace(key), strings.TrimSpace(value)})
		} else {
			a.pos = append(a.pos, strings.TrimSpace(part))
		}
	}
}

// A setter takes the value of one option and says what is wrong with it.
type setter struct {
	key string
	set func(value string) error
}

// apply gives the options of a to their setters.
func (a arg) apply(setters ...setter) error {
	var errs []error
	seen := make([]bool, len(setters))
	for _, o := range a.opts {
		i := slices.IndexFunc(setters, func(s setter) bool { return strings.EqualFold(s.key, o.key) })
		switch {
		case i < 0 && len(setters) == 0:
			errs = append(errs, fmt.Errorf("it takes no %q and no other option; leave it out", o.key))
		case i < 0:
			var keys []string
			for _, s := range setters {
				keys = append(keys, s.key)
			}
			errs = append(errs, unknown("option", o.key, keys))
		case seen[i]:
			errs = append(errs, fmt.Errorf("%s is given twice; write it once", setters[i].key))
		default:
			if err := setters[i].set(o.value); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", setters[i].key, err))
			}
			seen[i] = true
		}
	}
	return oneLine(errs)
}

// noValues is the error of values that nothing takes.
func (a arg) noValues() error {
	if len(a.pos) > 0 {
		return fmt.Errorf("%q is out of place; options are written key=value", a.pos[0])
	}
	return nil
}

// oneLine joins errors to one that fits into a line.
func oneLine(errs []error) error {
	var texts []string
	for _, err := range errs {
		if err != nil {
			texts = append(texts, err.Error())
		}
	}
	if len(texts) == 0 {
		return nil
	}
	return errors.New(strings.Join(texts, "; "))
}

// unknown is the error of a name that is none of names.
func unknown(what, name string, names []string) error {
	hint := ""
	if near := Nearest(name, names); near != "" {
		hint = fmt.Sprintf("; did you mean %s?", near)
	}
	if len(names) == 0 {
		return fmt.Errorf("there is no %s %q; it takes none", what, name)
	}
	return fmt.Errorf("there is no %s %q%s (there are: %s)", what, name, hint, strings.Join(names, ", "))
}

// Nearest returns the name that differs least from text, if it is close: at most a
// third of its letters must be changed. Otherwise it returns "".
func Nearest(text string, names []string) string {
	if len(text) > 64 {
		return ""
	}
	best, least := "", 0
	for _, name := range names {
		d := distance(strings.ToLower(text), strings.ToLower(name))
		if d <= max(1, len(name)/3) && d < len(name) && (best == "" || d < least) {
			best, least = name, d
		}
	}
	return best
}

// distance is the number of bytes to insert, delete or replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

func setString[T ~string](to *T, allowed ...T) func(string) error {
	return func(value string) error {
		if value == "" {
			return errors.New("the value is missing")
		}
		*to = T(value)
		if len(allowed) == 0 {
			return nil
		}
		var names []string
		for _, a := range allowed {
			if strings.EqualFold(value, string(a)) {
				*to = a
				return nil
			}
			names = append(names, string(a))
		}
		return unknown("value", value, names)
	}
}

func setBool(to *bool) func(string) error {
	return func(value string) (err error) {
		*to, err = parseBool(value)
		return err
	}
}

// parseBool reads 1, 0 and the words that Go and Python have for them.
func parseBool(value string) (bool, error) {
	b, err := strconv.ParseBool(strings.ToLower(value))
	if err != nil {
		return false, fmt.Errorf("%q is neither 1 nor 0", value)
	}
	return b, nil
}

func setPort(to *int) func(string) error {
	return func(value string) error {
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("%q is not a port from 1 to 65535", value)
		}
		*to = int(n)
		return nil
	}
}

// ParseSwitch reads what switches are to be: "ovs", "ovsbr,stp=1",
// "ovsk,protocols=OpenFlow10,OpenFlow13". Empty means default. The DPID is
// hexadecimal, as in Mininet. DPDK nodes are "dpdk,nfs=firewall+bridge,portKind=packet". The result
// has no name.
func ParseSwitch(text string) (Switch, error) {
	a := splitArg(text)
	var s Switch
	switch a.name {
	case "", "default", "ovs", "ovsk":
		s.Driver = DriverOVS
	case "ovsbr":
		s.Driver = DriverOVSBridge
	case "lxbr":
		s.Driver = DriverLinux
	case string(DriverDPDK):
		s.Driver, s.DPDK = DriverDPDK, &DPDK{}
	case "user":
		return Switch{}, errors.New("switch user: weft does not run the reference user switch; write ovs,datapath=user")
	case "ivs":
		return Switch{}, errors.New("switch ivs: the Indigo switch is no longer made; write ovs")
	default:
		return Switch{}, unknown("switch", a.name, []string{"default", "ovs", "ovsk", "ovsbr", "lxbr", "dpdk"})
	}
	setProtocol := func(value string) error {
		var p string
		err := setString(&p, openFlowVersions...)(value)
		s.Protocols = append(s.Protocols, p)
		return err
	}
	var setters []setter
	if s.Driver != DriverDPDK {
		setters = append(setters, setter{"stp", setBool(&s.STP)})
	}
	if s.Driver.OVS() {
		setters = append(setters,
			setter{"local", setBool(&s.Local)},
			setter{"datapath", setString(&s.Datapath, DatapathAuto, DatapathKernel, DatapathUser, DatapathAFXDP)})
	}
	if s.Driver.OpenFlow() {
		setters = append(setters,
			setter{"protocols", setProtocol},
			setter{"dpid", func(value string) (err error) {
				s.DPID, err = strconv.ParseUint(strings.TrimPrefix(strings.ToLower(value), "0x"), 16, 64)
				if err != nil || s.DPID == 0 {
					return fmt.Errorf("%q is not a datapath ID; write 1 to 16 hexadecimal digits", value)
				}
				return nil
			}},
			setter{"batch", func(value string) error {
				if on, err := parseBool(value); err != nil || on {
					return err
				}
				return errors.New("switches are always configured together; leave it out")
			}})
	}
	if s.DPDK != nil {
		setters = append(setters, s.DPDK.setters()...)
	}
	if s.Driver == DriverOVS || s.Driver == DriverDPDK {
		setters = append(setters, setter{"failMode", setString(&s.FailMode, "secure", "standalone")})
	}
	errs := []error{a.apply(setters...)}
	for _, value := range a.pos { // the rest of protocols=A,B
		if len(s.Protocols) == 0 {
			errs = append(errs, a.noValues())
			break
		}
		errs = append(errs, setProtocol(value))
	}
	if err := oneLine(errs); err != nil {
		return Switch{}, fmt.Errorf("switch %s: %w", s.Driver, err)
	}
	return s, nil
}

// controllerNames are the names that ParseController takes.
var controllerNames = []string{"default", "builtin", "ref", "ovsc", "remote", "tcp:HOST:PORT", "ssl:HOST:PORT", "ryu", "osken", "cmd:COMMAND", "none"}

// ParseController reads which controller is to run: none for "none", otherwise one,
// without a name.
//
//	builtin[,ip=A][,port=N]       weft's own; also default and ref
//	remote[,ip=A][,port=N]...     one that runs; also remote,HOST:PORT and
//	                              tcp:HOST:PORT, ssl:HOST:PORT with or without remote
//	ovsc                          ovs-testcontroller
//	ryu,APP[,ARG...]              and osken: an app and its arguments
//	cmd:COMMAND                   a shell command, in which {port} is the port to
//	                              listen on; options come before the colon
//	none                          no controller
//
// The options are ip, port, protocol (or transport: tcp or ssl), cacert, cert and
// key for remote; ip, port and inside for those that weft starts.
func ParseController(text string) ([]Controller, error) {
	c, err := parseController(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("controller %q: %w", text, err)
	case c.Kind == "":
		return nil, nil
	}
	var errs []error
	for _, err := range checkController(c) {
		errs = append(errs, err)
	}
	if err := oneLine(errs); err != nil {
		return nil, fmt.Errorf("controller %q: %w", text, err)
	}
	return []Controller{c}, nil
}

// parseController returns the zero Controller for none.
func parseController(text string) (c Controller, err error) {
	if head, command, ok := strings.Cut(text, ":"); ok && (head == "cmd" || strings.HasPrefix(head, "cmd,")) {
		a := splitArg(head)
		c.Kind, c.Command = ControllerCommand, strings.TrimSpace(command)
		return c, oneLine([]error{a.noValues(), a.apply(c.started()...)})
	}
	a := splitArg(text)
	if transport, _, ok := strings.Cut(a.name, ":"); ok && (transport == "tcp" || transport == "ssl") {
		a.pos = append([]string{a.name}, a.pos...)
		a.name = "remote"
	}
	switch a.name {
	case "none":
		return c, oneLine([]error{a.noValues(), a.apply()})
	case "", "default", "builtin", "ref":
		c.Kind = ControllerBuiltin
		return c, oneLine([]error{a.noValues(), a.apply(setter{"ip", setString(&c.Address)}, setter{"port", setPort(&c.Port)})})
	case "ovsc":
		c.Kind = ControllerOVS
		return c, oneLine([]error{a.noValues(), a.apply(c.started()...)})
	case "remote":
		c.Kind = ControllerRemote
		return c, c.remote(a)
	case "ryu", "osken":
		c.Kind = ControllerKind(a.name)
		return c, c.app(text)
	case "cmd":
		return c, errors.New("the command is missing; write cmd:COMMAND")
	case "nox":
		return c, errors.New("NOX is no longer made; write ryu,APP or remote,HOST:PORT")
	}
	return c, unknown("kind", a.name, controllerNames)
}

// started are the options of the controllers that weft starts.
func (c *Controller) started() []setter {
	return []setter{{"ip", setString(&c.Address)}, {"port", setPort(&c.Port)}, {"inside", setBool(&c.Inside)}}
}

// app reads APP[,ARG...] of ryu and osken, where words that begin with '-' are the
// app's whatever they contain.
func (c *Controller) app(text string) error {
	_, rest, _ := strings.Cut(text, ",")
	var words []string
	var a arg
	for word := range strings.SplitSeq(rest, ",") {
		if word = strings.TrimSpace(word); strings.HasPrefix(word, "-") || !strings.Contains(word, "=") {
			words = append(words, word)
		} else {
			a.read(word)
		}
	}
	c.Command = strings.TrimSpace(strings.Join(words, " "))
	return a.apply(c.started()...)
}

// remote reads the values [tcp:|ssl:]HOST[:PORT] and PORT and the options of remote.
func (c *Controller) remote(a arg) error {
	var errs []error
	endpoint := func(value string) error {
		transport, address, port, err := splitEndpoint(value)
		if transport != "" {
			c.Transport = transport
		}
		if port != 0 {
			c.Port = port
		}
		c.Address = address
		return err
	}
	switch len(a.pos) {
	case 0:
	case 1:
		errs = append(errs, endpoint(a.pos[0]))
	case 2:
		errs = append(errs, endpoint(a.pos[0]), setPort(&c.Port)(a.pos[1]))
	default:
		errs = append(errs, fmt.Errorf("%q is out of place; write HOST:PORT", a.pos[2]))
	}
	errs = append(errs, a.apply(
		setter{"ip", endpoint},
		setter{"port", setPort(&c.Port)},
		setter{"protocol", setString(&c.Transport, "tcp", "ssl")},
		setter{"transport", setString(&c.Transport, "tcp", "ssl")},
		setter{"cacert", setString(&c.CACert)},
		setter{"cert", setString(&c.Cert)},
		setter{"key", setString(&c.Key)}))
	return oneLine(errs)
}

// splitEndpoint splits [tcp:|ssl:]HOST[:PORT], where HOST may be an IPv6 address,
// in brackets if a port follows.
func splitEndpoint(text string) (transport, host string, port int, err error) {
	rest := text
	if t, r, ok := strings.Cut(text, ":"); ok && (t == "tcp" || t == "ssl") {
		transport, rest = t, r
	}
	if a, err := netip.ParseAddr(rest); err == nil {
		return transport, a.String(), 0, nil
	}
	host = rest
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, ']') {
		host = rest[:i]
		if err := setPort(&port)(rest[i+1:]); err != nil {
			return "", "", 0, fmt.Errorf("%q is not HOST:PORT: %w", text, err)
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		a, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !strings.HasSuffix(host, "]") {
			return "", "", 0, fmt.Errorf("%q has no IPv6 address between brackets; write for example [::1]:6653", text)
		}
		return transport, a.String(), port, nil
	}
	if host == "" || strings.ContainsAny(host, ":[]/ ") {
		return "", "", 0, fmt.Errorf("%q is not HOST:PORT; write for example 127.0.0.1:6653 or [::1]:6653", text)
	}
	return transport, host, port, nil
}

// ParseLink reads how links are made and what they do: a driver ("veth", also "default" and
// empty; "patch", also "ovs", for the links between switches; "memif" for those between dpdk nodes; "tc", "auto", "netem" or "wire"
// for impaired links) and options as of LinkSettings.Set: tc,bw=10,delay=5ms,ab:loss=1.
func ParseLink(text string) (LinkSettings, error) {
	a := splitArg(text)
	var s LinkSettings
	switch a.name {
	case "", "default", "veth":
		s.Driver = LinkVeth
	case "ovs":
		s.Driver = LinkPatch
	case "tc", "tcu":
		s.Driver = LinkAuto
	case "auto", "netem", "wire", "patch", "memif":
		s.Driver = LinkDriver(a.name)
	default:
		return LinkSettings{}, unknown("link", a.name, []string{"default", "veth", "tc", "netem", "wire", "ovs", "patch", "memif"})
	}
	var options []string
	for _, o := range a.opts {
		options = append(options, o.key+"="+o.value)
	}
	if err := oneLine([]error{a.noValues(), s.Set(options...)}); err != nil {
		return LinkSettings{}, fmt.Errorf("link %s: %w", a.name, err)
	}
	return s, nil
}

// ParseNAT reads the options of a gateway host, "name=nat0,ip=10.0.0.9/8,
// mac=...,subnet=10.0.0.0/8,connect=s1"; any may be left out. It returns the host and
// the name of the switch to link it to, empty for the first one.
func ParseNAT(text string) (h Host, connect string, err error) {
	h = Host{Name: "nat0", NAT: &NAT{}}
	var a arg
	if strings.TrimSpace(text) != "" {
		a.read(text)
	}
	err = oneLine([]error{a.noValues(), a.apply(
		setter{"name", setString(&h.Name)},
		setter{"ip", func(value string) (err error) {
			h.IP, err = parsePrefix4(value, 8)
			return err
		}},
		setter{"mac", func(value string) (err error) {
			h.MAC, err = parseMAC(value)
			return err
		}},
		setter{"subnet", func(value string) (err error) {
			h.NAT.Subnet, err = parsePrefix4(value, 24)
			return err
		}},
		setter{"connect", setString(&connect)},
	)})
	if err != nil {
		return Host{}, "", fmt.Errorf("nat: %w", err)
	}
	return h, connect, nil
}

// ParseIPBase reads an IPv4 network. Without a "/" it means /24, and 10.0/8 is
// 10.0.0.0/8, both as in Mininet.
func ParseIPBase(text string) (netip.Prefix, error) {
	p, err := parsePrefix4(text, 24)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("ipbase: %w", err)
	}
	return p, nil
}

// parsePrefix4 reads ADDRESS[/BITS]. As in Mininet, bytes that are missing from the
// address are zeros before its last byte.
func parsePrefix4(text string, bits int) (netip.Prefix, error) {
	address, length, given := strings.Cut(text, "/")
	parts := strings.Split(address, ".")
	for len(parts) < 4 {
		parts = slices.Insert(parts, len(parts)-1, "0")
	}
	if !given {
		length = strconv.Itoa(bits)
	}
	p, err := netip.ParsePrefix(strings.Join(parts, ".") + "/" + length)
	if err != nil || !p.Addr().Is4() {
		return netip.Prefix{}, fmt.Errorf("%q is not an IPv4 network; write for example %s", text, DefaultIPBase)
	}
	return p, nil
}

// ParseIP6Base reads an IPv6 network. Without a "/" it means /64.
func ParseIP6Base(text string) (netip.Prefix, error) {
	full := text
	if !strings.Contains(text, "/") {
		full += "/64"
	}
	p, err := netip.ParsePrefix(full)
	if err != nil || !p.Addr().Is6() || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("ip6: %q is not an IPv6 network; write for example %s", text, DefaultIP6Base)
	}
	return p, nil
}
