package netfile

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"weft/topo"
)

// Schema returns the JSON Schema (draft 2020-12) of weft's files, by which editors complete and
// check them. It is made of what Read itself goes by: the structures of topo, and the
// settings of links.
func Schema() ([]byte, error) {
	s := schemas{&fieldLists{}}
	shapes := []string{}
	for _, g := range topo.Generators() {
		shapes = append(shapes, g.Usage())
	}
	names := object{"anyOf": []object{
		{"type": "string", "description": "names, with blanks between: h[1-4] web"},
		{"type": "array", "items": object{"type": []string{"string", "number"}}},
	}}
	properties := object{}
	for _, sec := range sections() {
		properties[sec.name] = object{"description": sec.doc, "type": "string"}
	}
	set := func(name string, v object) {
		v["description"] = properties[name].(object)["description"]
		properties[name] = v
	}
	set("name", object{"type": []string{"string", "number"}})
	set("seed", object{"type": []string{"integer", "string"}})
	set("addressing", object{"$ref": "#/$defs/addressing"})
	set("topo", object{"type": "string", "examples": shapes})
	set("defaults", object{"type": "object", "additionalProperties": false, "properties": object{
		"host": ref("host"), "switch": ref("switch"), "controller": ref("controller"), "link": ref("link"),
	}})
	set("controllers", s.nodes("controller", object{"type": "string", "examples": []string{"none"}}))
	set("switches", s.nodes("switch", object{"type": "string"}))
	set("dpdk", object{"type": "object", "propertyNames": object{"pattern": `^\S+$`}, "additionalProperties": object{"anyOf": []object{
		ref("switch"), {"type": "null"}, {"type": "string", "description": "the NFs that packets pass", "examples": []string{"bridge", "firewall → bridge"}},
		s.value(reflect.TypeFor[[]topo.NF](), "nfs")}}})
	set("hosts", s.nodes("host", object{"type": "string"}))
	set("groups", object{"type": "object", "additionalProperties": object{"anyOf": []object{names,
		{"type": "object", "required": []string{"nodes"}, "properties": object{"nodes": names}}}}})
	link := object{"anyOf": []object{
		{"type": "string", "pattern": `^\S+ +(--|><) +\S+$`, "description": "A -- B, with ranges; A >< B joins each with every"},
		{"type": "array", "minItems": 2, "maxItems": 2, "items": ref("end")},
		ref("longLink"),
		ref("shortLinks"),
	}}
	set("links", object{"anyOf": []object{{"type": "array", "items": link}, ref("shortLinks")}})
	set("run", object{"type": "array", "items": object{"anyOf": []object{
		s.structure("command", reflect.TypeFor[topo.Command](), nil, "node", "command"),
		{"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": object{"anyOf": []object{
			{"type": "string", "description": "what the shell is to run"},
			s.structure("command", reflect.TypeFor[topo.Command](), []string{"node"}, "command"),
		}}},
	}}})
	settings := object{}
	way := object{}
	for _, k := range topo.LinkKeys() {
		v := object{"description": k.Doc + " (" + k.Syntax + ")", "type": []string{"string", "number", "boolean"}}
		settings[k.Name] = v
		if k.Way {
			way[k.Name] = v
		}
	}
	for name, doc := range map[string]string{"ab": "from the first end to the second", "ba": "from the second end to the first"} {
		settings[name] = object{"description": doc, "type": "object", "additionalProperties": false, "properties": way}
	}
	long := object{"a": ref("end"), "b": ref("end")}
	for name, v := range settings {
		long[name] = v
	}
	linkSchema := object{"type": "object", "additionalProperties": false, "properties": settings}
	root := object{
		"$schema":              "https://json-schema.org/draft/2020-12/schema",
		"title":                "a network for weft",
		"type":                 "object",
		"properties":           properties,
		"minProperties":        1,
		"additionalProperties": false,
		"$defs": object{
			"addressing": s.structure("addressing", reflect.TypeFor[topo.Addressing](), nil),
			"host":       s.structure("host", reflect.TypeFor[topo.Host](), []string{"name"}),
			"switch":     s.structure("switch", reflect.TypeFor[topo.Switch](), []string{"name"}),
			"controller": s.structure("controller", reflect.TypeFor[topo.Controller](), []string{"name"}),
			"link":       linkSchema,
			"longLink":   object{"type": "object", "additionalProperties": false, "required": []string{"a", "b"}, "properties": long},
			"shortLinks": object{"type": "object", "minProperties": 1, "additionalProperties": false,
				"patternProperties": object{`^\S+ +(--|><) +\S+$`: object{"anyOf": []object{ref("link"), {"type": "null"}}}}},
			"end": object{"anyOf": []object{
				{"type": []string{"string", "number"}, "description": "NODE, NODE/PORT or NODE/INTERFACE"},
				s.structure("end", reflect.TypeFor[topo.LinkEnd](), nil, "node"),
			}},
		},
	}
	b, err := json.MarshalIndent(root, "", "  ")
	return append(b, '\n'), err
}

// An object is one of JSON.
type object map[string]any

func ref(name string) object { return object{"$ref": "#/$defs/" + name} }

type schemas struct{ fields *fieldLists }

// nodes is the schema of a section of nodes.
func (s schemas) nodes(kind string, short object) object {
	one := object{"anyOf": []object{ref(kind), {"type": "null"}, short}}
	typ := map[string]reflect.Type{"host": reflect.TypeFor[topo.Host](), "switch": reflect.TypeFor[topo.Switch](), "controller": reflect.TypeFor[topo.Controller]()}[kind]
	return object{"anyOf": []object{
		{"type": "string"},
		{"type": "array", "items": object{"anyOf": []object{{"type": []string{"string", "number"}}, s.structure(kind, typ, nil, "name")}}},
		{"type": "object", "propertyNames": object{"pattern": `^\S+$`}, "additionalProperties": one},
	}}
}

// structure is the schema of a structure of topo.
func (s schemas) structure(what string, t reflect.Type, hidden []string, required ...string) object {
	properties := object{}
	all := docs()
	if t == reflect.TypeFor[topo.Switch]() { // what may be written beside them
		for name, v := range s.value(reflect.TypeFor[topo.DPDK](), "dpdk")["properties"].(object) {
			properties[name] = v
		}
	}
	for _, f := range s.fields.of(t) {
		if slices.Contains(hidden, f.name) {
			continue
		}
		v := s.value(f.typ, f.name)
		if doc := all[what+"."+f.name]; doc != "" {
			v["description"] = doc
		}
		properties[f.name] = v
	}
	o := object{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		o["required"] = required
	}
	return o
}

func (s schemas) value(t reflect.Type, name string) object {
	if w, ok := reflect.Zero(t).Interface().(interface{ Words() []string }); ok {
		return object{"type": "string", "enum": w.Words()}
	}
	scalar := func(types ...string) object { return object{"type": types} }
	switch {
	case t == reflect.TypeFor[netip.Prefix]():
		return object{"type": "string", "examples": []string{"10.0.0.1/8", "fd00::1/64"}}
	case t == reflect.TypeFor[netip.Addr]():
		return object{"type": "string", "examples": []string{"10.0.0.1"}}
	case t == reflect.TypeFor[topo.Duration]():
		return object{"type": []string{"string", "number"}, "pattern": `^[0-9.]+(ns|us|µs|ms|s|m|h)([0-9.]+(ns|us|µs|ms|s|m))*$|^0$`}
	case t == reflect.TypeFor[topo.FileMode]():
		return scalar("string", "integer")
	case t == reflect.TypeFor[topo.NF]():
		return object{"anyOf": []object{
			{"type": "string", "description": "NAME, NAME@SERVICE, and arguments", "examples": []string{"bridge", "firewall@2 --rules web.rules"}},
			s.structure("nf", t, nil, "name"),
		}}
	case t == reflect.TypeFor[[]topo.Chain]():
		steps := object{"anyOf": []object{
			{"type": []string{"string", "integer"}, "examples": []string{"1→3→2"}},
			{"type": "array", "items": scalar("string", "integer")},
		}}
		one := s.structure("chain", reflect.TypeFor[topo.Chain](), []string{"services"})
		one["properties"].(object)["services"] = steps
		return object{"anyOf": []object{
			{"type": "object", "additionalProperties": object{"anyOf": append([]object{one}, steps["anyOf"].([]object)...)}},
			{"type": "array", "items": one},
		}}
	case t == reflect.TypeFor[[]topo.File]():
		one := object{"type": "object", "additionalProperties": false, "properties": object{
			"path":    object{"type": "string", "description": "absolute"},
			"content": object{"type": "string", "description": "the text of the file"},
			"source":  object{"type": "string", "description": "a file beside this one that is copied"},
			"data":    object{"type": "string", "description": "bytes in base64"},
			"mode":    object{"type": []string{"string", "integer"}, "description": "permissions in octal (0644)"},
		}}
		return object{"anyOf": []object{
			{"type": "object", "propertyNames": object{"pattern": "^/.*/"}, "additionalProperties": object{"anyOf": []object{scalar("string", "number", "null"), one}}},
			{"type": "array", "items": one},
		}}
	}
	if list := enumerations()[name]; list != nil && t.Kind() == reflect.String {
		return object{"type": "string", "enum": list}
	}
	switch t.Kind() {
	case reflect.Bool:
		return object{"anyOf": []object{{"type": "boolean"}, {"enum": []any{"yes", "no", "on", "off", 0, 1}}}}
	case reflect.Int, reflect.Int64:
		return scalar("integer", "string")
	case reflect.Uint64:
		return scalar("integer", "string")
	case reflect.Float64:
		return scalar("number")
	case reflect.Pointer:
		inner := s.value(t.Elem(), name)
		if t.Elem().Kind() == reflect.Struct {
			return object{"anyOf": []object{{"type": "boolean"}, inner}}
		}
		return inner
	case reflect.Slice:
		inner := s.value(t.Elem(), name)
		return object{"anyOf": []object{inner, {"type": "array", "items": inner}}}
	case reflect.Struct:
		return s.structure(name, t, nil)
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.value(t.Elem(), name)}
	}
	return scalar("string", "number")
}

// enumerations are the words that settings of type string take.
func enumerations() map[string][]string {
	return map[string][]string{"failMode": {"secure", "standalone"}, "transport": {"tcp", "ssl"}}
}

// docs says what each setting of the structures of topo is, by STRUCTURE.SETTING.
func docs() map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(docText) {
		if name, doc, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			m[name] = strings.TrimSpace(doc)
		}
	}
	return m
}

const docText = `
addressing.ipBase the IPv4 network of the hosts (10.0.0.0/8); numbers begin at its host part
addressing.ip6Base the IPv6 network of the hosts; without it there is no IPv6
addressing.autoMAC number the hosts' MAC addresses: h1 has 00:00:00:00:00:01
addressing.staticARP give every host permanent ARP entries of all others
host.name its name
host.ip address and length of its network: 10.0.0.1/8; with a range of names, a range: 10.0.1.[1-4]
host.ip6 the same for IPv6: fd00::1/64
host.mac its MAC address: 02:00:00:00:00:01
host.defaultRoute the address of its gateway
host.privateDirs directories of which it has its own, empty copy
host.files files that only this host's programs see, by their paths
host.nat a gateway to your own network: true, or the subnet inside
nat.subnet the network inside that is translated
switch.name its name
switch.driver ovs (OpenFlow), ovsbr (a bridge without controller), lxbr (Linux bridge), dpdk (NFs)
switch.dpdk what a dpdk node has besides; may be written beside these settings
dpdk.manager what moves packets: weft (its own), onvm (an installed OpenNetVM), dpdk (any DPDK program)
dpdk.portKind how it reaches its links: auto, packet, xdp (root)
dpdk.nics NICs of this machine by PCI address, as further ports
dpdk.command the program of manager dpdk, with {eal} and {ports}
dpdk.hugepages MB of huge pages (0)
dpdk.spin look for packets all the time; takes a core
dpdk.nfs its network functions: names such as bridge, with @SERVICE and arguments, or maps of settings
dpdk.chains the services or NFs that packets pass, by name: default: [1, 2]
dpdk.flows what leads packets into chains: tcp,nw_dst=10.0.0.2,actions=chain:web
nf.name one that comes with weft, or any with a command
nf.args its arguments; files among them are looked for from this file's directory
nf.command a program of your own, a shell command; in a container: words, without a shell
nf.dir the directory in which the command runs (that of this file)
nf.image an image of podman's on this machine: the NF runs in a container of it
nf.rootfs the directory that a container of its own sees as /
nf.outside somebody else starts it, by hand or in a container of docker's
nf.host the host of the network in whose namespaces it runs
nf.service the number by which chains know it (the one after the NF before it)
nf.instances how many share the service's flows (1)
nf.weight an instance's share (1)
nf.core the processor it runs on, from 1; 0 for any
nf.fused run it in the manager's own process: fastest, without protection
nf.readOnly it cannot change packets
nf.copy it works on copies of packets
nf.restart when it died: no, on-failure, always
nf.onDeath what happens to its flows until then: move, drop
chain.name its name; default for packets that no flow is for
chain.services numbers of services, or names of NFs
chain.out the port by which packets leave; without it the last NF says where they go
switch.dpid its datapath ID (from its name: s1 has 1); 0x for hexadecimal
switch.protocols the OpenFlow versions that it speaks: OpenFlow10, OpenFlow13
switch.failMode what it does without controllers: secure (nothing), standalone (a bridge)
switch.datapath where it forwards: auto, kernel, user, afxdp
switch.stp speak the spanning tree protocol
switch.local give it a device of its own name in the user datapath
switch.controllers the names of its controllers (all)
switch.listenPort a port of 127.0.0.1 at which it takes OpenFlow connections
controller.name its name
controller.kind builtin (weft's own), remote, ovsc, ryu, osken, cmd
controller.transport how a remote one is reached: tcp, ssl
controller.address its address or host name (127.0.0.1)
controller.port its TCP port
controller.command what to run: the app of ryu and osken, a shell command for cmd, with {port}
controller.inside run the command inside the network's sandbox
controller.caCert PEM file of the authority that signed its certificate
controller.cert PEM file of the switches' certificate
controller.key PEM file of the switches' key
end.node the node's name, hw: and the name or PCI address of a NIC of this machine, or memif: and the path of a socket
end.interface the interface's name (NODE-ethPORT)
end.port OpenFlow port of a switch from 1, interface number of a host from 0
end.mac MAC address of the interface
end.ip IPv4 address of a host's interface, with length
end.ip6 IPv6 address of a host's interface, with length
command.node where it runs: a host or switch
command.command what the shell is to run; end it with & if it is to go on
command.at when, counted from when the network is up: 5s, 1m30s (at once)
command.timeout how long it may take (30s)
`
