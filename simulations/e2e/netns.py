"""Hosts of our own: network namespaces joined by a bridge that lives in a namespace of its own.

Each host has its own network, mounts (/run, /sys), host name and HOME, the addresses of a KIND and no default route. The namespaces have no names: they belong to a keeper process each, which dies with this
one, so nothing is left behind even after SIGKILL. No real interface is touched, and only processes started here are ended.
"""

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading

from waiting import until

HERE = os.path.dirname(os.path.abspath(__file__))
CLONE_NEWNET, PREFIX = 0x40000000, "crosstalk-e2e-"
KEEPER = """set -e
mount --make-rprivate /
mount -t sysfs sysfs /sys 2>/dev/null || true
mount -t tmpfs -o mode=755 tmpfs /run
hostname "$1"
ip link set lo up
echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad 2>/dev/null || true
echo ready
exec sleep infinity"""


# What a link gives its hosts: the IPv4 address of host N, and whether there is IPv6 (link-local).
KINDS = {"dual": ("10.77.0.{}/24", True), "ipv4": ("10.77.0.{}/24", False), "169.254": ("169.254.77.{}/16", False), "fe80": (None, True)}


class Forbidden(Exception):
    """This machine does not let us make network namespaces; the message says why."""


def tied(argv):
    """The command, ended by the kernel when this process ends."""
    return ["setpriv", "--pdeathsig", "KILL", *argv]


def end(process):
    """SIGKILL one process of ours and reap it."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            try:
                pipe.close()
            except OSError:
                pass


class Space:
    """A set of namespaces kept open by one sleeping process."""

    def __init__(self, name, ipv6=True):
        self.name = name
        argv = tied(["unshare", "--net", "--mount", "--uts", "sh", "-c", KEEPER, "sh", name])
        try:
            self.keeper = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                           stderr=subprocess.PIPE, text=True, start_new_session=True)
        except FileNotFoundError as error:
            raise Forbidden(f"{error.filename} is missing (Debian packages util-linux, iproute2)") from error
        if self.keeper.stdout.readline().strip() != "ready":
            self.keeper.kill()
            raise Forbidden(self.keeper.communicate()[1].strip() or "unshare failed")
        self.pid = self.keeper.pid
        if not ipv6:
            self.write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")
            self.write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")

    def write(self, path, text):
        """Set something of this space's kernel; a kernel without it is as good."""
        subprocess.run(self.enter(["sh", "-c", 'echo "$1" > "$2"', "sh", text, path]), stderr=subprocess.DEVNULL, check=False)

    def enter(self, argv):
        """The command, run inside. It keeps its pid: nsenter and setpriv replace themselves."""
        return tied(["nsenter", "-t", str(self.pid), "--net", "--mount", "--uts", "--", *argv])

    def ip(self, *words):
        run = subprocess.run(self.enter(["ip", *words]), capture_output=True, text=True, check=False)
        if run.returncode:
            raise Forbidden(f"ip {' '.join(words)}: {run.stderr.strip()}")
        return run.stdout

    def close(self):
        end(self.keeper)


class Host(Space):
    """One laptop. `home` is its HOME; files there last until the lab closes."""

    def __init__(self, number, root, kind="dual"):
        ipv4, ipv6 = KINDS[kind]
        super().__init__(f"h{number}", ipv6)
        self.number = number
        self.network = ipv4 and ipv4.format(number)
        self.address = ipv4 and self.network.split("/")[0]  # None without IPv4
        self.home = os.path.join(root, self.name)
        os.mkdir(self.home)
        self.processes = []

    def link_local(self):
        """Its IPv6 link-local address, without zone."""
        return re.search(r"inet6 (fe80\S+)/", self.ip("-6", "address", "show", "eth0")).group(1)

    def environment(self, **extra):
        return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "linux", "HOME": self.home, **extra}

    def popen(self, argv, env=None, **options):
        """Start a program in this host; it is ended with the lab at the latest."""
        process = subprocess.Popen(self.enter(argv), env=self.environment(**(env or {})), cwd=self.home,
                                   start_new_session=True, **options)
        self.processes.append(process)
        return process

    def run(self, argv, seconds=30, **options):
        """Run a program to its end; the CompletedProcess has stdout and stderr as text."""
        return subprocess.run(self.enter(argv), env=self.environment(), cwd=self.home, capture_output=True, text=True,
                              timeout=seconds, check=False, **options)

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM):
        """A socket of this host, usable from here: a short-lived thread enters the namespace to make it."""
        made = []

        def make():
            with open(f"/proc/{self.pid}/ns/net", encoding="ascii") as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) == 0:
                    made.append(socket.socket(family, kind))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if not made:
            raise Forbidden("setns is not permitted")
        return made[0]

    def connect(self, port, address="127.0.0.1", seconds=10):
        """A TCP connection made from inside this host."""
        connection = self.socket()
        connection.settimeout(seconds)
        connection.connect((address, port))
        return connection

    def listens(self, port):
        """Whether some process here listens on this TCP port; asks the kernel, touches nobody."""
        for table in ("tcp", "tcp6"):
            with open(f"/proc/{self.pid}/net/{table}", encoding="ascii") as lines:
                for line in lines:
                    words = line.split()
                    if words[3] == "0A" and words[1].endswith(f":{port:04X}"):
                        return True
        return False

    def close(self):
        for process in self.processes:
            end(process)
        super().close()


def sweep():
    """Remove the folders of runs that were killed; each has the pid of its run in its name."""
    for name in os.listdir(tempfile.gettempdir()):
        if name.startswith(PREFIX) and not os.path.exists(f"/proc/{name.removeprefix(PREFIX).split('-')[0]}"):
            shutil.rmtree(os.path.join(tempfile.gettempdir(), name), ignore_errors=True)


class Lab:
    """`with Lab(2) as lab`: hosts lab.hosts[0..], each on its own cable to one switch, with addresses of a KIND."""

    def __init__(self, count, kind="dual"):
        self.hosts, self.relays, self.switch, self.kind = [], {}, None, kind
        sweep()
        self.root = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")
        try:
            if os.geteuid() != 0:
                raise Forbidden("not root (use sudo)")
            self.switch = Space("switch", ipv6=False)  # it says nothing itself
            # No spanning tree and no snooping: ports forward at once, and multicast goes to everybody.
            self.switch.ip("link", "add", "br0", "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
            self.switch.ip("link", "set", "br0", "up")
            for number in range(1, count + 1):
                self._plug(number)
            until(lambda: all("state UP" in h.ip("link", "show", "eth0") for h in self.hosts), 5, "the cables")
        except BaseException:
            self.close()
            raise

    def _plug(self, number):
        host = Host(number, self.root, self.kind)
        self.hosts.append(host)
        self.plug(host, f"p{number}", "eth0", host.network)

    def plug(self, host, port, interface, network=None):
        """One (more) cable from the host to the switch."""
        self.switch.ip("link", "add", port, "type", "veth", "peer", "name", interface, "netns", str(host.pid))
        self.switch.ip("link", "set", port, "master", "br0", "up")
        if network:
            host.ip("address", "add", network, "brd", "+", "dev", interface)
        host.ip("link", "set", interface, "up")

    def cable(self, host, up):
        """Pull or plug the host's cable: the host sees its carrier go."""
        self.switch.ip("link", "set", f"p{host.number}", "up" if up else "down")

    def cut(self, host, out=True):
        """Take the host's port out of the switch, or put it back: nobody hears it, and its carrier stays."""
        port = f"{'q' if host.number in self.relays else 'p'}{host.number}"
        self.switch.ip("link", "set", port, *(["nomaster"] if out else ["master", "br0"]))

    def loss(self, host, percent=0.0, delay_ms=0.0, seed=0):
        """Lose that share of frames, each way, and hold back the others; 0 and 0 restore the plain cable.

        The frames are carried by a process (relay.py), because many kernels come without tc netem.
        """
        port, near, far = (f"{letter}{host.number}" for letter in "pqr")
        if relay := self.relays.pop(host.number, None):
            end(relay)
        else:
            self.switch.ip("link", "add", near, "type", "veth", "peer", "name", far)
            self.switch.ip("link", "set", far, "up")
            self.switch.ip("link", "set", near, "up")
        plain = not percent and not delay_ms
        self.switch.ip("link", "set", near, *(["nomaster"] if plain else ["master", "br0"]))
        self.switch.ip("link", "set", port, *(["master", "br0"] if plain else ["nomaster"]))
        if plain:
            self.switch.ip("link", "del", near)
            return
        argv = [sys.executable, os.path.join(HERE, "relay.py"), port, far, str(percent), str(delay_ms), str(seed)]
        relay = subprocess.Popen(self.switch.enter(argv), stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.relays[host.number] = relay
        if relay.stdout.readline().strip() != "ready":
            raise Forbidden("relay.py did not start")

    def close(self):
        for relay in self.relays.values():
            end(relay)
        self.relays.clear()
        for space in [*self.hosts, *([self.switch] if self.switch else [])]:
            space.close()
        self.hosts, self.switch = [], None
        shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Routed(Lab):
    """`with Routed(4) as lab`: each host alone in a network of its own, 10.80.N.0/24, joined by a router: no multicast between."""

    def __init__(self, count, kind="ipv4"):
        super().__init__(count, kind)
        self.switch.write("/proc/sys/net/ipv4/ip_forward", "1")

    def plug(self, host, port, interface, network=None):
        """A cable from the host to the router."""
        host.address = f"10.80.{host.number}.2"
        self.switch.ip("link", "add", port, "type", "veth", "peer", "name", interface, "netns", str(host.pid))
        self.switch.ip("address", "add", f"10.80.{host.number}.1/24", "dev", port)
        self.switch.ip("link", "set", port, "up")
        host.ip("address", "add", f"{host.address}/24", "brd", "+", "dev", interface)
        host.ip("link", "set", interface, "up")
        host.ip("route", "add", "default", "via", f"10.80.{host.number}.1")


def filter_packets(router, rules):
    """Give a router these rules, in the language of nft."""
    try:
        made = subprocess.run(router.enter(["nft", "-f", "-"]), input=rules, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise Forbidden("nft is missing (Debian package nftables)") from error
    if made.returncode:
        raise Forbidden(f"nft: {made.stderr.strip()}")


# What the router of `Roads` lets through: into its walled places only what answers.
WALL = """table ip wall {
    chain pass {
        type filter hook forward priority filter;
        ct state established,related accept
        ip saddr 10.77.0.0/24 ip daddr 10.77.0.0/24 accept
        ip daddr { 10.77.0.0/24, 10.81.0.0/16 } drop
    }
}"""


class Roads(Lab):
    """`with Roads(5) as lab`: hosts on a switch, and for each two places elsewhere, where `move` carries it; all joined by a router.

    The `link` (10.77.0.0/24) and what is `hidden` (10.81.N.0/24) are walled: who is there reaches others, and is reached by nobody.
    The `open` places (10.80.N.0/24) are not. No multicast passes the router.
    """

    ROUTER = "10.77.0.254"

    def __init__(self, count, kind="dual"):
        super().__init__(count, kind)
        self.switch.ip("address", "add", f"{self.ROUTER}/24", "dev", "br0")
        self.switch.write("/proc/sys/net/ipv4/ip_forward", "1")
        filter_packets(self.switch, WALL)
        for host in self.hosts:
            host.ip("route", "add", "default", "via", self.ROUTER)

    def leave(self, host):
        """The cable is pulled, and its addresses go, as a laptop's do that is carried off."""
        self.cable(host, up=False)
        host.ip("link", "set", "eth0", "down")
        host.ip("address", "flush", "dev", "eth0")

    def arrive(self, host, place):
        """The cable is plugged in at the place; the host gets an address there, and a way to the others."""
        port, on_switch = f"p{host.number}", place == "link"
        network = {"link": "10.77.0", "open": f"10.80.{host.number}", "hidden": f"10.81.{host.number}"}[place]
        host.address = f"{network}.{host.number if on_switch else 2}"
        router = self.ROUTER if on_switch else f"{network}.1"
        self.switch.ip("link", "set", port, *(["master", "br0"] if on_switch else ["nomaster"]))
        self.switch.ip("address", "flush", "dev", port)
        if not on_switch:
            self.switch.ip("address", "add", f"{router}/24", "dev", port)
        self.cable(host, up=True)
        host.ip("link", "set", "eth0", "up")
        host.ip("address", "add", f"{host.address}/24", "brd", "+", "dev", "eth0")
        host.ip("route", "add", "default", "via", router)

    def move(self, host, place):
        self.leave(host)
        self.arrive(host, place)


# What a home router does: whoever is inside leaves with its address, and only what answers comes in.
MASQUERADE = """table ip home {
    chain leave { type nat hook postrouting priority srcnat; oifname "out" masquerade; }
    chain enter { type filter hook input priority filter; iifname "out" ct state new drop; }
    chain pass { type filter hook forward priority filter; iifname "out" ct state new drop; }
}"""
# The same, and its owner has it pass the port for other nodes on to the one host.
FORWARD = """table ip home {
    chain leave { type nat hook postrouting priority srcnat; oifname "out" masquerade; }
    chain turn { type nat hook prerouting priority dstnat; iifname "out" meta l4proto { tcp, udp } th dport 14774 dnat to HOST; }
    chain enter { type filter hook input priority filter; iifname "out" ct state new drop; }
    chain pass { type filter hook forward priority filter; iifname "out" ct status dnat accept; iifname "out" ct state new drop; }
}"""
# As MASQUERADE, and each conversation leaves from a port of its own, so that nobody can guess the next: no hole can be punched.
SYMMETRIC = MASQUERADE.replace(" masquerade;", " masquerade random;")

# As MASQUERADE, with what a UPnP daemon (miniupnpd) fills in when it is asked; see upnp.py.
ASKED = """table inet filter {
    chain miniupnpd { }
    chain enter { type filter hook input priority filter; iifname "out" ct state new drop; }
    chain pass { type filter hook forward priority filter; jump miniupnpd; iifname "out" ct state new drop; }
}
table inet nat {
    chain prerouting_miniupnpd { }
    chain postrouting_miniupnpd { }
    chain turn { type nat hook prerouting priority dstnat; iifname "out" jump prerouting_miniupnpd; }
    chain leave { type nat hook postrouting priority srcnat; jump postrouting_miniupnpd; oifname "out" masquerade; }
}"""


class Natted(Routed):
    """`with Natted(3, behind={2: MASQUERADE, 3: SYMMETRIC}) as lab`: as Routed, but these hosts are 192.168.N.2 behind a router of their own."""

    def __init__(self, count, kind="ipv4", behind=None):
        self.behind = behind or {}
        self.routers = {}
        super().__init__(count, kind)

    def plug(self, host, port, interface, network=None):
        rules = self.behind.get(host.number)
        if rules is None:
            super().plug(host, port, interface, network)
            return
        router = self.routers[host.number] = Space(f"n{host.number}", ipv6=False)
        # Who asks a router believes in addresses of the Internet only.
        outside, inside = f"{'44' if rules == ASKED else '10'}.80.{host.number}", f"192.168.{host.number}"
        self.switch.ip("link", "add", port, "type", "veth", "peer", "name", "out", "netns", str(router.pid))
        self.switch.ip("address", "add", f"{outside}.1/24", "dev", port)
        self.switch.ip("link", "set", port, "up")
        router.ip("address", "add", f"{outside}.2/24", "dev", "out")
        router.ip("link", "set", "out", "up")
        router.ip("route", "add", "default", "via", f"{outside}.1")
        router.ip("link", "add", "in", "type", "veth", "peer", "name", interface, "netns", str(host.pid))
        router.ip("address", "add", f"{inside}.1/24", "dev", "in")
        router.ip("link", "set", "in", "up")
        router.write("/proc/sys/net/ipv4/ip_forward", "1")
        host.address = f"{inside}.2"
        host.ip("address", "add", f"{host.address}/24", "brd", "+", "dev", interface)
        host.ip("link", "set", interface, "up")
        host.ip("route", "add", "default", "via", f"{inside}.1")
        filter_packets(router, rules.replace("HOST", host.address))

    def close(self):
        super().close()
        for router in self.routers.values():
            router.close()
        self.routers = {}


class Subnets(Natted):
    """`with Subnets(20, behind={5: MASQUERADE}) as lab`: hosts in turn in three networks, 10.80.1.0/24 to 10.80.3.0/24, each a switch behind a router.

    A fourth network joins the routers: what one network says to all, no other hears. Some hosts are behind a router of their own in their network.
    """

    COUNT = 3

    def router(self, number):
        """The router of a network: its side of the network's switch, and its cable to the other routers."""
        if router := self.routers.get(number):
            return router
        router = self.routers[number] = Space(f"router{number}", ipv6=False)
        router.write("/proc/sys/net/ipv4/ip_forward", "1")
        router.ip("link", "add", "lan", "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
        router.ip("address", "add", f"10.80.{number}.1/24", "dev", "lan")
        router.ip("link", "set", "lan", "up")
        self.switch.ip("link", "add", f"u{number}", "type", "veth", "peer", "name", "wan", "netns", str(router.pid))
        self.switch.ip("link", "set", f"u{number}", "master", "br0", "up")
        router.ip("address", "add", f"10.80.0.{number}/24", "dev", "wan")
        router.ip("link", "set", "wan", "up")
        for other in range(1, self.COUNT + 1):
            if other != number:
                router.ip("route", "add", f"10.80.{other}.0/24", "via", f"10.80.0.{other}")
        return router

    def plug(self, host, port, interface, network=None):
        """A cable to the switch of the host's network: the host's own, or that of the router that it is behind."""
        place, number = divmod(host.number - 1, self.COUNT)
        router, outside = self.router(number + 1), f"10.80.{number + 1}"
        rules = self.behind.get(host.number)
        home = host if rules is None else Space(f"home{host.number}", ipv6=False)
        out = interface if rules is None else "out"
        router.ip("link", "add", port, "type", "veth", "peer", "name", out, "netns", str(home.pid))
        router.ip("link", "set", port, "master", "lan", "up")
        host.address = f"{outside}.{place + 2}"
        home.ip("address", "add", f"{host.address}/24", "brd", "+", "dev", out)
        home.ip("link", "set", out, "up")
        home.ip("route", "add", "default", "via", f"{outside}.1")
        if rules is not None:
            self.routers[f"home{host.number}"] = home
            self.inside(host, home, interface)
            filter_packets(home, rules.replace("HOST", host.address))

    def inside(self, host, home, interface):
        """The network between a host and the router that it is behind."""
        inside = f"192.168.{host.number}"
        home.write("/proc/sys/net/ipv4/ip_forward", "1")
        home.ip("link", "add", "in", "type", "veth", "peer", "name", interface, "netns", str(host.pid))
        home.ip("address", "add", f"{inside}.1/24", "dev", "in")
        home.ip("link", "set", "in", "up")
        host.address = f"{inside}.2"
        host.ip("address", "add", f"{host.address}/24", "brd", "+", "dev", interface)
        host.ip("link", "set", interface, "up")
        host.ip("route", "add", "default", "via", f"{inside}.1")


def stop_on_sigterm():
    """Let SIGTERM unwind like Ctrl-C, so that fixtures clean up."""
    def interrupt(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, interrupt)
