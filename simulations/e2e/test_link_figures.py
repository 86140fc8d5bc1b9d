"""How long it takes on the link: being seen, seeing, a change of status, a host that vanishes and one that comes back."""

import statistics
import time

import pytest

from bonjour import address
from mdns import Link
from node import Node
from slix import Slix, leave_nearby, see_nearby
from waiting import until

RUNS = 5


def told(figure, what, values, limit=None):
    """Record the median (and all values), and hold it against the limit."""
    median = statistics.median(values)
    figure(f"{what}: {median:.2f} s (median of {', '.join(f'{value:.2f}' for value in sorted(values))})")
    assert limit is None or median <= limit, f"{what}: {median:.2f} s, at most {limit} s"


@pytest.mark.hosts(3)
def test_seeing_and_being_seen(lab, nodes, bonjour, figure):
    bob, ear, node = bonjour(lab.hosts[1], "bob"), Link(lab.hosts[2]), nodes[0]
    node.add_account("alice")
    node.start()
    alice = Slix(node.host, "alice")
    bob.login()
    bob_jid = address(bob.instance)
    being_seen, left, away, back = [], [], [], []
    for run in range(RUNS):
        begin = time.monotonic()
        alice.login("alice") if run == 0 else alice.do("return")
        being_seen.append(bob.sees("alice@h1", after=begin)["at"] - begin)
        see_nearby(alice, bob_jid, after=begin)
        # Wait for the announcement, and its repetition a second later, to be over: a change within it is another matter.
        until(lambda: time.monotonic() > begin + being_seen[-1] + 1.5, 5, "the announcements")
        changed = time.monotonic()
        alice.do("presence", show="dnd", status=f"change {run}")
        bob.status("away", f"change {run}")
        away.append(bob.sees("alice@h1", after=changed, status="away", message=f"change {run}")["at"] - changed)
        back.append(alice.wait("presence", after=changed, sender=bob_jid, status=f"change {run}")["at"] - changed)
        bob.status("available")
        begin = time.monotonic()
        alice.do("logout")
        left.append(bob.misses("alice@h1", after=begin)["at"] - begin)
    told(figure, "a user's client starts, until the Bonjour client shows the user", being_seen, 1.2)
    told(figure, "a user's status changes, until the Bonjour client shows it", away, 1.3)
    told(figure, "a Bonjour client's status changes, until the user's client shows it", back, 1.3)
    told(figure, "a user's client ends, until the Bonjour client shows it", left, 1.5)

    alice.do("return")
    since_start, since_announced, since_goodbye = [], [], []
    for _ in range(RUNS):
        begin = time.monotonic()
        bob.logout()
        since_goodbye.append(leave_nearby(alice, bob_jid, 10, after=begin) - begin)
        begin = time.monotonic()
        bob.do("enable")
        shown = see_nearby(alice, bob_jid, after=begin)
        since_start.append(shown - begin)
        since_announced.append(shown - ear.heard("bob@h2", begin))
    told(figure, "a Bonjour client starts (its own probing included), until the user's client shows it", since_start)
    told(figure, "a Bonjour client announces itself, until the user's client shows it", since_announced, 0.5)
    told(figure, "a Bonjour client ends, until the user's client shows it", since_goodbye, 1.3)
    ear.close()


def test_from_a_cold_start_to_being_seen(lab, bonjour, figure):
    """Node and client start together, with an empty data directory."""
    bob = bonjour(lab.hosts[1], "bob")
    bob.login()
    being_seen, seeing = [], []
    for run in range(RUNS):
        node, name = Node(lab.hosts[0], data=f"run{run}"), f"user{run}"
        node.add_account(name)
        client = Slix(node.host, name)
        client.wait("ready")
        begin = time.monotonic()
        node.start(wait=0)
        login = client.begin_login(name, retry=0.02)
        being_seen.append(bob.sees(f"{name}@h1", after=begin)["at"] - begin)
        seeing.append(see_nearby(client, address(bob.instance)) - begin)
        client.logged_in(login)
        assert node.stop() == 0
        client.close()
        bob.misses(f"{name}@h1", 5, after=begin)
    told(figure, "node and client start, until the Bonjour client shows the user", being_seen, 1.5)
    told(figure, "node and client start, until the client shows the Bonjour client", seeing, 1.0)


def test_messages_take_no_time(lab, nodes, bonjour, figure):
    bob, node = bonjour(lab.hosts[1], "bob"), nodes[0]
    node.add_account("alice")
    node.start()
    alice = Slix(node.host, "alice")
    alice.login("alice")
    bob.login()
    bob_jid = address(bob.instance)
    see_nearby(alice, bob_jid)
    bob.sees("alice@h1")
    there, back = [], []
    for number in range(20):
        begin = time.monotonic()
        alice.do("send", to=bob_jid, body=f"ping {number}", id=f"ping {number}")
        there.append(bob.wait("message", 10, body=f"ping {number}")["at"] - begin)
        begin = time.monotonic()
        bob.say("alice@h1", f"pong {number}")
        back.append(alice.wait("message", 10, body=f"pong {number}")["at"] - begin)
    figure(f"the first message, sent at once when they saw each other: {there[0]:.3f} s")
    told(figure, "a later message to the Bonjour client", there[1:], 0.05)
    told(figure, "a message from the Bonjour client", back, 0.05)


@pytest.mark.long
@pytest.mark.hosts(5)
def test_a_vanished_host_is_gone_within_30_s_and_back_within_5(lab, nodes, bonjour, figure):
    """Two Bonjour hosts and two nodes, of each one with its cable pulled and one with its port cut at the switch."""
    people = {"Bonjour, cable pulled": bonjour(lab.hosts[1], "bob"), "Bonjour, port cut": bonjour(lab.hosts[2], "carol")}
    users = {"node, cable pulled": (nodes[3], "dave"), "node, port cut": (nodes[4], "erin")}
    for node, name in [(nodes[0], "alice"), *users.values()]:
        node.add_account(name)
        node.start()
    alice, watched = Slix(nodes[0].host, "alice"), {}
    alice.login("alice")
    for what, person in people.items():
        person.login()
        watched[what] = (person.host, address(person.instance))
    for what, (node, name) in users.items():
        client = Slix(node.host, name)
        client.login(name)
        watched[what] = (node.host, client.jid)
    for _, jid in watched.values():
        see_nearby(alice, jid)

    def switch(on):
        begin = time.monotonic()
        for what, (host, _) in watched.items():
            lab.cable(host, up=on) if "cable" in what else lab.cut(host, out=not on)
        return begin

    begin = switch(on=False)
    for what, (_, jid) in watched.items():
        figure(f"{what}: gone after {leave_nearby(alice, jid, 30, after=begin) - begin:.1f} s")
    begin = switch(on=True)
    for what, (_, jid) in watched.items():
        figure(f"{what}: back after {see_nearby(alice, jid, 5, after=begin) - begin:.1f} s")
