"""A stand-in for the package mininet that only notes which network a script describes.

weft runs this as: python3 -B -c CODE PATH TOPO, and reads JSON from file descriptor 3.
"""
import importlib.machinery
import json
import os
import re
import sys
import types

PATH, TOPO = sys.argv[1], sys.argv[2]
LIMIT = 100000
OUT = os.fdopen(3, "w")
record = {"nodes": [], "links": [], "notes": [], "options": {}, "topos": []}


class Quiet(Exception):
    pass


def finish(error=None, line=0):
    if error:
        record["error"], record["line"] = error[:2000], line
    json.dump(record, OUT, default=str)
    OUT.close()
    sys.stdout.flush()
    os._exit(0)


def line():
    """The line of the user's file that called."""
    f = sys._getframe(1)
    while f:
        if f.f_code.co_filename == PATH:
            return f.f_lineno
        f = f.f_back
    return 0


def note(text):
    if text not in record["notes"] and len(record["notes"]) < 50:
        record["notes"].append(text)


def plain(value):
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(v) for v in value]
    if isinstance(value, type):
        return value.__name__
    return getattr(value, "name", None) or str(value)


def bounded(items):
    if len(items) > LIMIT:
        finish("the script makes more than %d nodes or links" % LIMIT, line())


def natural(text):
    return [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", str(text))]


class Recorder:
    """What a Topo or a Mininet has made."""

    def __init__(self):
        self.made, self.joined, self.opts = [], [], {}

    def node(self, kind, name, params):
        name = str(name)
        self.made.append({"kind": kind, "name": name, "params": params, "line": line()})
        bounded(self.made)

    def link(self, a, b, params):
        self.joined.append({"a": str(a), "b": str(b), "params": params, "line": line()})
        bounded(self.joined)


class Topo:
    def __init__(self, *args, **params):
        self._r = Recorder()
        self.hopts = params.pop("hopts", {})
        self.sopts = params.pop("sopts", {})
        self.lopts = params.pop("lopts", {})
        self.ports = {}
        self.build(*args, **params)

    def build(self, *args, **params):
        pass

    def addNode(self, name, **opts):
        kind = "switch" if opts.pop("isSwitch", False) else "host"
        self._r.node(kind, name, opts)
        return name

    def addHost(self, name, **opts):
        if not opts and self.hopts:
            opts = self.hopts
        return self.addNode(name, **opts)

    def addSwitch(self, name, **opts):
        if not opts and self.sopts:
            opts = self.sopts
        return self.addNode(name, isSwitch=True, **opts)

    def addLink(self, node1, node2, port1=None, port2=None, key=None, **opts):
        if not opts and self.lopts:
            opts = dict(self.lopts)
        p1, p2 = self.addPort(node1, node2, port1, port2)
        opts = dict(opts, port1=p1, port2=p2)
        self._r.link(node1, node2, opts)
        return len(self._r.joined)

    def addPort(self, src, dst, sport=None, dport=None):
        for n, port in ((src, sport), (dst, dport)):
            used = self.ports.setdefault(n, [])
            if port is None:
                port = (1 if self.isSwitch(n) else 0) + len(used)
            used.append(port)
        return self.ports[src][-1], self.ports[dst][-1]

    def _names(self, kind):
        return [n["name"] for n in self._r.made if n["kind"] == kind]

    def isSwitch(self, n):
        return n in self._names("switch")

    def nodes(self, sort=True):
        names = [n["name"] for n in self._r.made]
        return sorted(names, key=natural) if sort else names

    def hosts(self, sort=True):
        return sorted(self._names("host"), key=natural) if sort else self._names("host")

    def switches(self, sort=True):
        return sorted(self._names("switch"), key=natural) if sort else self._names("switch")

    def links(self, sort=False, withKeys=False, withInfo=False):
        joined = self.inOrder().joined if sort else self._r.joined
        return [(x["a"], x["b"]) + ((i + 1,) if withKeys else ()) + ((x["params"],) if withInfo else ()) for i, x in enumerate(joined)]

    def inOrder(self):
        """What was made in the order in which Mininet makes it of a Topo, and gives addresses."""
        r = Recorder()
        r.made = sorted(self._r.made, key=lambda n: (n["kind"] != "host", natural(n["name"])))
        r.joined = sorted(self._r.joined, key=lambda x: (natural(x["a"]), natural(x["b"])))
        return r

    def nodeInfo(self, name):
        for n in self._r.made:
            if n["name"] == name:
                return n["params"]
        raise KeyError(name)

    def setNodeInfo(self, name, info):
        for n in self._r.made:
            if n["name"] == name:
                n["params"] = info

    def port(self, a, b):
        for x in self._r.joined:
            if (x["a"], x["b"]) == (a, b):
                return x["params"]["port1"], x["params"]["port2"]
            if (x["b"], x["a"]) == (a, b):
                return x["params"]["port2"], x["params"]["port1"]
        raise KeyError((a, b))


class SingleSwitchTopo(Topo):
    def build(self, k=2, **_opts):
        s = self.addSwitch("s1")
        for h in irange(1, k):
            self.addLink(self.addHost("h%s" % h), s)


class SingleSwitchReversedTopo(Topo):
    def build(self, k=2):
        s = self.addSwitch("s1")
        for h in irange(1, k):
            self.addLink(self.addHost("h%s" % h), s, port1=0, port2=k - h + 1)


class MinimalTopo(SingleSwitchTopo):
    def build(self):
        return SingleSwitchTopo.build(self, k=2)


class LinearTopo(Topo):
    def build(self, k=2, n=1, sopts=None, **_opts):
        last = None
        for i in irange(1, k):
            s = self.addSwitch("s%s" % i, **(sopts or {}))
            for j in irange(1, n):
                self.addLink(self.addHost("h%s" % i if n == 1 else "h%ss%d" % (j, i)), s)
            if last:
                self.addLink(s, last)
            last = s


class TreeTopo(Topo):
    def build(self, depth=1, fanout=2):
        self.hostNum = self.switchNum = 1
        self.addTree(depth, fanout)

    def addTree(self, depth, fanout):
        if depth > 0:
            node = self.addSwitch("s%s" % self.switchNum)
            self.switchNum += 1
            for _ in range(fanout):
                self.addLink(node, self.addTree(depth - 1, fanout))
        else:
            node = self.addHost("h%s" % self.hostNum)
            self.hostNum += 1
        return node


class TorusTopo(Topo):
    def build(self, x, y, n=1):
        switches, names = {}, lambda i, j: "%dx%d" % (i + 1, j + 1)
        for i in range(x):
            for j in range(y):
                s = switches[i, j] = self.addSwitch("s" + names(i, j), dpid="%x" % ((i + 1) * 256 + j + 1))
                for k in range(n):
                    self.addLink(self.addHost("h" + names(i, j) + ("" if n == 1 else "x%d" % (k + 1))), s)
        for i in range(x):
            for j in range(y):
                self.addLink(switches[i, j], switches[i, (j + 1) % y])
                self.addLink(switches[i, j], switches[(i + 1) % x, j])


class Anything:
    """Stands for what has no meaning in a description: it takes every call."""

    def __init__(self, *args, **kwargs):
        pass

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()

    def __call__(self, *args, **kwargs):
        return Anything()

    def __iter__(self):
        return iter(())

    def __str__(self):
        return ""

    def __len__(self):
        return 0

    def __getitem__(self, key):
        return Anything()


class Node:
    kind = "host"

    def __init__(self, name="", *args, **params):
        self.name, self.params, self.cmds, self.net = name, params, [], None
        self.intfs, self.nameToIntf = {}, {}

    def __str__(self):
        return self.name

    def cmd(self, *args, **kwargs):
        words = [str(a) for a in (args[0] if len(args) == 1 and isinstance(args[0], (list, tuple)) else args)]
        self.cmds.append((" ".join(words), line()))
        bounded(self.cmds)
        return ""

    cmdPrint = cmd

    def config(self, *args, **params):
        return {}

    def terminate(self):
        pass

    @classmethod
    def setup(cls):
        pass

    def setIP(self, ip, prefixLen=None, intf=None, **kwargs):
        if intf is not None:
            note("line %d: setIP of an interface is left out; write the address with addLink" % line())
            return
        if prefixLen and "/" not in str(ip):
            ip = "%s/%s" % (ip, prefixLen)
        self.params["ip"] = ip

    def setMAC(self, mac, intf=None):
        if intf is None:
            self.params["mac"] = mac

    def setDefaultRoute(self, intf=None):
        self.params["defaultRoute"] = intf

    def IP(self, intf=None):
        return str(self.params.get("ip", "10.0.0.1")).split("/")[0]

    def MAC(self, intf=None):
        return str(self.params.get("mac", "00:00:00:00:00:01"))

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()


def subclass(name, base, **attrs):
    return type(name, (base,), attrs)


Host = subclass("Host", Node)
CPULimitedHost = subclass("CPULimitedHost", Host)
Switch = subclass("Switch", Node, kind="switch")
OVSSwitch = subclass("OVSSwitch", Switch)
OVSKernelSwitch = OVSSwitch
OVSBridge = subclass("OVSBridge", OVSSwitch, driver="ovsbr")
UserSwitch = subclass("UserSwitch", Switch)
IVSSwitch = subclass("IVSSwitch", Switch)
LinuxBridge = subclass("LinuxBridge", Switch, driver="lxbr")
NAT = subclass("NAT", Node, nat=True)
Controller = subclass("Controller", Node, kind="controller", controller="builtin")
OVSController = subclass("OVSController", Controller)
DefaultController = OVSController
RemoteController = subclass("RemoteController", Controller, controller="remote")
Ryu = subclass("Ryu", Controller, controller="ryu")
NOX = subclass("NOX", Controller, controller="nox")
NullController = subclass("NullController", Controller, controller="none")


class Link:
    def __init__(self, *args, **params):
        self.intf1, self.intf2 = Anything(), Anything()


class TCLink(Link):
    pass


TCULink, OVSLink = subclass("TCULink", TCLink), subclass("OVSLink", Link)


class Mininet:
    def __init__(self, topo=None, switch=OVSSwitch, host=Host, controller=DefaultController, link=Link, intf=None,
                 build=True, xterms=False, cleanup=False, ipBase="10.0.0.0/8", inNamespace=False,
                 autoSetMacs=False, autoStaticArp=False, autoPinCpus=False, listenPort=None, waitConnected=False):
        self._r = Recorder()
        self._objects = {}
        self.topo, self.switch, self.host, self.link = topo, switch, host, link
        self._r.opts = {"ipBase": ipBase, "autoMAC": bool(autoSetMacs), "staticARP": bool(autoStaticArp)}
        self.controller = controller
        nets.append(self)
        if topo is not None:
            self._take(topo)

    def _take(self, topo):
        made = topo.inOrder()
        for n in made.made:
            self._add(n["kind"], n["name"], n["params"], n["line"])
        for x in made.joined:
            params = dict(x["params"])
            if self.link is not Link and "cls" not in params:
                params["cls"] = self.link
            self._r.joined.append(dict(x, params=params))

    def _add(self, kind, name, params, at=None):
        params = dict(params)
        cls = params.get("cls")
        default = {"host": self.host, "switch": self.switch}.get(kind)
        if not isinstance(cls, type):
            cls = default
            if isinstance(default, Partial):
                params = dict(default.kwargs, **params)
                cls = default.cls
        if isinstance(cls, type) and cls not in (Host, OVSSwitch):
            params["cls"] = cls
        obj = (cls if isinstance(cls, type) and issubclass(cls, Node) else Node)(name)
        obj.name, obj.params, obj.net = str(name), params, self
        self._r.made.append({"kind": kind, "name": str(name), "params": params, "line": at or line(), "object": obj})
        bounded(self._r.made)
        self._objects[str(name)] = obj
        return obj

    def addHost(self, name, cls=None, **params):
        if cls:
            params["cls"] = cls
        return self._add("host", name, params)

    def addSwitch(self, name, cls=None, **params):
        if cls:
            params["cls"] = cls
        return self._add("switch", name, params)

    def addController(self, name="c0", controller=None, **params):
        if isinstance(name, Node):
            obj = name
            params = dict(obj.params)
            controller, name = type(obj), obj.name
        cls = controller or self.controller or DefaultController
        if isinstance(cls, Partial):
            params = dict(cls.kwargs, **params)
            cls = cls.cls
        if not isinstance(cls, type):
            cls = DefaultController
        obj = Controller(name)
        obj.params = params
        self._r.made.append({"kind": "controller", "name": str(name), "params": dict(params, cls=cls), "line": line()})
        return obj

    def addNAT(self, name="nat0", connect=True, inNamespace=False, **params):
        obj = self._add("host", name, dict(params, nat=True))
        if connect:
            to = connect if connect is not True else self._names("switch")[0]
            self.addLink(obj, to)
        return obj

    def addLink(self, node1, node2, port1=None, port2=None, cls=None, **params):
        if port1 is not None:
            params["port1"] = port1
        if port2 is not None:
            params["port2"] = port2
        if cls or self.link is not Link:
            params["cls"] = cls or self.link
        if isinstance(params.get("cls"), Partial):
            params = dict(params["cls"].kwargs, **dict(params, cls=params["cls"].cls))
        self._r.link(node1, node2, params)
        return Link()

    def _names(self, kind):
        return [n["name"] for n in self._r.made if n["kind"] == kind]

    def get(self, *names):
        found = [self[n] for n in names]
        return found[0] if len(found) == 1 else found

    getNodeByName = get

    def __getitem__(self, name):
        if name not in self._objects:
            raise KeyError(name)
        return self._objects[name]

    def __contains__(self, name):
        return name in self._objects

    def __iter__(self):
        return iter(list(self._objects))

    @property
    def hosts(self):
        return [self._objects[n] for n in self._names("host")]

    @property
    def switches(self):
        return [self._objects[n] for n in self._names("switch")]

    @property
    def controllers(self):
        return [Controller(n) for n in self._names("controller")]

    def configLinkStatus(self, *args):
        note("line %d: links that go down later are left out" % line())

    def iperf(self, *args, **kwargs):
        return ["0", "0"]

    def pingAll(self, *args, **kwargs):
        return 0

    ping = pingPair = pingAll

    @classmethod
    def init(cls):
        pass

    def start(self):
        for obj in self._objects.values():
            obj.started = len(obj.cmds)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()


class Partial:
    """partial(TCLink, bw=10) and custom(...)."""

    def __init__(self, cls, **kwargs):
        if isinstance(cls, Partial):
            kwargs = dict(cls.kwargs, **kwargs)
            cls = cls.cls
        self.cls, self.kwargs = cls, kwargs

    def __call__(self, *args, **kwargs):
        return self.cls(*args, **dict(self.kwargs, **kwargs))


nets = []


def irange(start, end):
    return range(start, end + 1)


def quiet(*args, **kwargs):
    return Anything()


def module(name, **members):
    m = types.ModuleType(name)
    m.__dict__.update(members)
    m.__getattr__ = lambda attr: missing(name, attr)
    m.__path__ = []
    sys.modules[name] = m
    return m


def missing(name, attr):
    if attr.startswith("__"):
        raise AttributeError(attr)
    return Anything


topos = dict(Topo=Topo, SingleSwitchTopo=SingleSwitchTopo, SingleSwitchReversedTopo=SingleSwitchReversedTopo, LinearTopo=LinearTopo, MinimalTopo=MinimalTopo)
nodes = {c.__name__: c for c in (Node, Host, CPULimitedHost, Switch, OVSSwitch, OVSBridge, UserSwitch, IVSSwitch, Controller, OVSController, RemoteController, Ryu, NOX, NullController)}
nodes.update(OVSKernelSwitch=OVSSwitch, DefaultController=DefaultController, findController=lambda *a: DefaultController)
links = dict(Link=Link, TCLink=TCLink, TCULink=TCULink, OVSLink=OVSLink, Intf=Anything, TCIntf=Anything)
top = module("mininet")
top.topo = module("mininet.topo", **topos)
top.topolib = module("mininet.topolib", TreeTopo=TreeTopo, TorusTopo=TorusTopo, TreeNet=lambda depth=1, fanout=2, **kw: Mininet(topo=TreeTopo(depth, fanout), **kw))
top.node = module("mininet.node", **nodes)
top.nodelib = module("mininet.nodelib", LinuxBridge=LinuxBridge, NAT=NAT)
top.link = module("mininet.link", **links)
top.net = module("mininet.net", Mininet=Mininet, MininetWithControlNet=Mininet)
top.cli = module("mininet.cli", CLI=Anything)
top.log = module("mininet.log", lg=Anything(), **{n: quiet for n in "setLogLevel info error debug output warn warning".split()})
top.util = module("mininet.util", irange=irange, custom=Partial, customClass=Partial, natural=natural, naturalSeq=natural, ensureRoot=quiet, dumpNodeConnections=quiet,
                  dumpNetConnections=quiet, quietRun=lambda *a, **k: "", waitListening=lambda *a, **k: True, pmonitor=lambda *a, **k: iter(()), isShellBuiltin=lambda *a: False)
top.clean = module("mininet.clean", cleanup=quiet, Cleanup=Anything)
top.term = module("mininet.term")


class Rest:
    """Finds the other modules of mininet, which have nothing that describes a network."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.startswith("mininet."):
            return importlib.machinery.ModuleSpec(name, Rest)

    @staticmethod
    def create_module(spec):
        return module(spec.name)

    @staticmethod
    def exec_module(m):
        pass


sys.meta_path.insert(0, Rest)

import functools  # noqa: E402
import time  # noqa: E402

original_partial = functools.partial


class PartialOfNode(Partial):
    def __new__(cls, first, *args, **kwargs):
        if isinstance(first, Partial) or isinstance(first, type) and issubclass(first, (Node, Link)):
            return Partial(first, **kwargs)
        return original_partial(first, *args, **kwargs)


functools.partial = PartialOfNode
time.sleep = lambda *a: None


def fail(e):
    tb, at = e.__traceback__, 0
    if isinstance(e, SyntaxError) and e.filename == PATH:
        finish("%s (Python)" % e.msg, e.lineno or 0)
    while tb:
        if tb.tb_frame.f_code.co_filename == PATH:
            at = tb.tb_lineno
        tb = tb.tb_next
    finish("%s: %s (Python)" % (type(e).__name__, e), at)


def run(name):
    space = {"__name__": name, "__file__": PATH, "__builtins__": __builtins__}
    try:
        exec(compile(SOURCE, PATH, "exec"), space)
    except SystemExit as e:
        if e.code not in (None, 0) and not nets:
            finish("the script ends with %r" % (e.code,), line())
    except BaseException as e:
        if not (nets and name == "__main__"):
            fail(e)
        note("line %d: the script stops here: %s: %s" % (lineof(e), type(e).__name__, e))
    return space


def lineof(e):
    tb, at = e.__traceback__, 0
    while tb:
        if tb.tb_frame.f_code.co_filename == PATH:
            at = tb.tb_lineno
        tb = tb.tb_next
    return at


def take(r, objects=None):
    for n in r.made:
        cls = n["params"].get("cls")
        if isinstance(cls, Partial):
            n["params"] = dict(cls.kwargs, **n["params"])
            cls = n["params"]["cls"] = cls.cls
        out = {"kind": n["kind"], "name": n["name"], "line": n["line"], "params": {}, "cmds": []}
        for k, v in n["params"].items():
            if k != "cls":
                out["params"][k] = plain(v)
        if isinstance(cls, type):
            for attr in ("driver", "controller", "nat"):
                if hasattr(cls, attr) and not isinstance(getattr(cls, attr), Anything):
                    out[attr] = getattr(cls, attr)
            out["cls"] = cls.__name__
            if n["kind"] == "host" and issubclass(cls, Node) and cls.config is not Node.config:
                obj = cls(n["name"])
                obj.name, obj.params = n["name"], dict(n["params"])
                try:
                    obj.config(**{k: v for k, v in n["params"].items() if k != "cls"})
                except Exception as e:
                    note("%s: config of %s fails: %s" % (n["name"], cls.__name__, e))
                out["cmds"] = obj.cmds
        obj = n.get("object")
        if obj is not None:
            out["cmds"] = out["cmds"] + obj.cmds
        record["nodes"].append(out)
    for x in r.joined:
        params = dict(x["params"])
        cls = params.pop("cls", None)
        if isinstance(cls, Partial):
            params = dict(cls.kwargs, **params)
            cls = cls.cls
        if isinstance(cls, type):
            params["cls"] = cls.__name__
        record["links"].append({"a": x["a"], "b": x["b"], "line": x["line"], "params": plain(params)})
    record["options"] = r.opts


def number(text):
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            pass
    return text


def main():
    global SOURCE
    with open(PATH, "rb") as f:
        SOURCE = f.read()
    sys.argv = [PATH]
    sys.path.insert(0, os.path.dirname(os.path.abspath(PATH)))
    space = run("weft_topology")
    found = space.get("topos") if isinstance(space.get("topos"), dict) else {}
    classes = {k: v for k, v in space.items() if isinstance(v, type) and issubclass(v, Topo) and getattr(v, "__module__", "") == "weft_topology"}
    record["topos"] = sorted(str(k) for k in (found or classes))
    words = [w for w in TOPO.split(",")] if TOPO else []
    choice = None
    if words:
        choice = found.get(words[0]) or classes.get(words[0])
        if choice is None:
            record["unknown"] = words[0]
            finish()
    elif len(found) == 1:
        choice = list(found.values())[0]
    elif not found and not nets:
        run("__main__")
    if choice is None and not nets and not found and len(classes) == 1:
        choice = list(classes.values())[0]
    if choice is not None:
        args, kwargs = [], {}
        for w in words[1:]:
            key, eq, value = w.partition("=")
            if eq:
                kwargs[key] = number(value)
            else:
                args.append(number(key))
        try:
            made = choice(*args, **kwargs)
        except BaseException as e:
            fail(e)
        if not isinstance(made, Topo):
            finish("%s makes no Topo" % (words[0] if words else "topos"))
        record["custom"] = True
        take(made.inOrder())
    elif nets:
        net = nets[-1]
        if not [n for n in net._r.made if n["kind"] == "controller"]:
            c = net.controller
            lists = c if isinstance(c, (list, tuple)) else [c]
            for i, one in enumerate(lists):
                if one is None:
                    record["uncontrolled"] = True
                elif isinstance(one, Node):
                    net.addController(one)
                else:
                    net.addController("c%d" % i, one)
        take(net._r)
    finish()


try:
    main()
except BaseException as e:
    fail(e)
