"""People behind routers that let nobody in: found by address, met through a relay, led to a direct connection where the routers allow it."""

import time

import upnp
from netns import ASKED, FORWARD, MASQUERADE, SYMMETRIC, Natted
from node import OVERLAY, Node
from slix import Slix
from waiting import until

SETTINGS = """[overlay]
mdns = false
table = "{table}"
public_networks = ["10.80.0.0/16"]
bootstrap = [{bootstrap}]
[link]
mode = "off"
"""
LEVEL = "info,crosstalk_overlay=debug,libp2p_dcutr=debug"


class Far:
    """Public nodes, and alice and bob, each behind a router with the given rules."""

    def __init__(self, labs, publics, *routers):
        behind = {publics + number: rules for number, rules in enumerate(routers, 1)}
        self.lab = labs(publics + len(routers), "ipv4", lambda count, kind: Natted(count, kind, behind))
        bootstrap = ", ".join(f'"/ip4/{host.address}/tcp/{OVERLAY}"' for host in self.lab.hosts[:publics])
        nodes = [Node(host, settings=SETTINGS.format(table="auto" if host.number in behind else "server", bootstrap=bootstrap))
                 for host in self.lab.hosts]
        self.publics, self.homes = nodes[:publics], nodes[publics:]
        for node, name in zip(self.homes, ("alice", "bob")):
            node.add_account(name)
        self.began = time.monotonic()
        for number, rules in behind.items():
            if rules == ASKED:
                upnp.start(self.lab.routers[number], self.lab.hosts[number - 1])
        for node in nodes:
            node.start(level=LEVEL)

    def log_in(self):
        self.alice, self.bob = (Slix(node.host, name) for node, name in zip(self.homes, ("alice", "bob")))
        for client in (self.alice, self.bob):
            client.login(client.name)

    def befriend(self, seconds=120):
        """Each asks the other and says yes; by mailboxes, or however they meet."""
        for asker, asked in ((self.alice, self.bob), (self.bob, self.alice)):
            begin = time.monotonic()
            asker.subscribe(asked.jid)
            asked.wait("presence", seconds, after=begin, type="subscribe", sender=asker.jid)
            asked.accept(asker.jid)
            asker.wait("presence", seconds, after=begin, type="subscribed", sender=asked.jid)

    def since(self):
        return f"{time.monotonic() - self.began:.1f} s after the start"

    def address(self):
        """Where alice's node reaches bob's now; None if it does not."""
        other = self.homes[1].ask("status")["node"]
        return next((peer["address"] for peer in self.homes[0].ask("peers") if peer["node"] == other and peer["connected"]), None)

    def path(self):
        """None, relay or direct."""
        address = self.address()
        return address and ("relay" if "p2p-circuit" in address else "direct")

    def exchange(self, prefix, count=5, seconds=60):
        """Numbered messages both ways: each arrives, once and in order. The seconds that it took."""
        begin = time.monotonic()
        pairs = ((self.alice, self.bob), (self.bob, self.alice))
        for one, two in pairs:
            one.do("send", to=two.jid, body=f"{prefix} ", id=f"{prefix}{one.name}", first=0, count=count)
        for one, two in pairs:
            expected = [f"{prefix}{one.name}{number}" for number in range(count)]
            until(lambda: two.ids(prefix + one.name) == expected, seconds, lambda: f"{expected}, not {two.ids(prefix)}")
        return time.monotonic() - begin


def reach(node):
    return node.ask("status")["reach"]


def has_place(node):
    return [place["address"] for place in reach(node)["relays"] if place["since"]]


def finding(node):
    """What `crosstalk doctor` says of the matter."""
    done = node.cli("doctor")
    return next(line for line in done.stdout.splitlines() if line[6:].startswith("reach"))


def test_behind_two_routers_a_hole_is_punched_and_outlasts_the_relay(labs, figure):
    far = Far(labs, 1, MASQUERADE, MASQUERADE)
    for node in far.homes:
        until(lambda: has_place(node), 90, "a place at the relay", every=0.2)
    figure(f"both have a place at the relay {far.since()}")
    assert "by relays: /ip4/10.80.1.2/tcp/14774" in finding(far.homes[0])
    kept = far.homes[0].host.run(["ss", "-tno", "dst", "10.80.1.2"]).stdout
    assert "timer:(keepalive" in kept, f"a router would forget the connection to the relay:\n{kept}"
    far.log_in()
    far.befriend()
    figure(f"contacts {far.since()}")
    first = until(far.path, 180, "a connection between the two nodes", every=0.1)
    figure(f"first path {far.since()}: {first}")
    far.exchange("a")
    until(lambda: far.path() == "direct", 60, "a direct connection", every=0.2)
    figure(f"direct {far.since()}, at {far.address()}")
    log = far.homes[0].log() + far.homes[1].log()
    assert "InboundCircuitEstablished" in log and "in place of one through a relay" in log
    far.publics[0].kill()
    figure(f"5 messages each way without the relay: {far.exchange('b'):.1f} s")
    assert far.path() == "direct"


def test_where_no_hole_can_be_punched_relays_carry_on_and_replace_each_other(labs, figure):
    far = Far(labs, 2, SYMMETRIC, SYMMETRIC)
    for node in far.homes:
        until(lambda: len(has_place(node)) == 2, 90, "places at both relays", every=0.2)
    far.log_in()
    far.befriend()
    until(far.path, 180, "a connection between the two nodes", every=0.1)
    figure(f"5 messages each way through the relay: {far.exchange('a'):.1f} s")
    assert far.path() == "relay"
    address = far.address()
    used = next(node for node in far.publics if f"/{node.host.address}/" in address)
    used.kill()
    figure(f"5 messages each way after the loss of the relay: {far.exchange('b', seconds=120):.1f} s")
    assert far.path() == "relay"


def test_a_router_that_passes_the_port_on_makes_a_node_serve(labs, figure):
    far = Far(labs, 1, FORWARD, MASQUERADE)
    open_, hidden = far.homes
    found = until(lambda: reach(open_)["direct"], 90, "a confirmed address", every=0.2)
    figure(f"confirmed {far.since()}: {found[0][0]}")
    assert found[0][0].startswith(f"/ip4/10.80.{open_.host.number}.2/")
    assert reach(open_)["relays_others"] and "directly, at" in finding(open_)
    until(lambda: has_place(hidden), 90, "a place at a relay", every=0.2)


def test_a_router_that_is_asked_lets_others_in(labs, figure):
    far = Far(labs, 1, ASKED, MASQUERADE)
    asking, hidden = far.homes
    found = until(lambda: reach(asking)["direct"], 120, lambda: f"a confirmed address; now {reach(asking)}", every=0.2)
    figure(f"confirmed {far.since()}: {found[0][0]}")
    assert found[0][0].startswith(f"/ip4/44.80.{asking.host.number}.2/"), found
    assert reach(asking)["upnp"] == "mapped" and "directly, at" in finding(asking)
    # The other one is let in there, with no relay between them.
    far.log_in()
    far.befriend()
    until(lambda: far.path() == "direct", 60, "a direct connection", every=0.2)
    far.exchange("a")
