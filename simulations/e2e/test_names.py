"""Writing to and adding somebody by name, `bob@school.example`, whom one's own node has never met: who it is, is found in the hash table."""

import time

import pytest

from netns import Routed
from node import OVERLAY, Node
from slix import Slix
from test_authority import PASSWORD, enrolled, found, invite
from test_overlay import SETTINGS
from waiting import until

SCHOOL = "school.example"


def named(name):
    return f"{name}@{SCHOOL}"


@pytest.fixture
def school(labs):
    """The school's server and three laptops, each in a network of its own; Alice and Bob are enrolled, and have never met."""
    lab = labs(4, "ipv4", Routed)
    nodes = [Node(host, settings=SETTINGS.format(port=OVERLAY)) for host in lab.hosts]
    for node in nodes:
        node.start()
    found(nodes[0])
    for laptop, name in zip(nodes[1:], ("alice", "bob")):
        enrolled(laptop, invite(nodes[0], name))
    # Bob's laptop has told the table whose the name is; Alice's has not asked.
    def counts():
        steps = nodes[0].ask("lookup", named("bob"))["steps"]
        return len(steps) > 1 and any(value["counts"] for value in steps[1]["values"])
    until(counts, 60, "Bob's name in the hash table", every=0.5)
    return lab, nodes


def login(node, name):
    slix = Slix(node.host, name)
    slix.login(named(name), PASSWORD)
    return slix


def waiting(node):
    return [(entry["to"], entry["waits"]) for entry in node.ask("outbox")]


def test_written_to_and_added_by_name_alone(school, figure):
    """Also while both laptops are never on together; and a name that nobody has is told to be wrong."""
    _, (_, here, there, _) = school
    alice, bob = login(here, "alice"), login(there, "bob")
    begin = time.monotonic()
    alice.do("send", to=named("bob"), body="hello", id="m1")
    got = bob.wait("message", 60, id="m1", sender=named("alice"), body="hello")
    figure(f"written to by name: arrived after {got['at'] - begin:.2f} s")
    begin = time.monotonic()
    alice.subscribe(named("bob"))
    bob.wait("presence", 60, after=begin, type="subscribe", sender=named("alice"))
    bob.accept(named("alice"))
    alice.wait("presence", 60, after=begin, type="subscribed", sender=named("bob"))
    # Nobody has this name.
    begin = time.monotonic()
    alice.do("send", to=named("bop"), body="hello", id="m2")
    until(lambda: (named("bop"), "somebody with this name to be found") in waiting(here), 10, "the message to wait")
    error = alice.wait("message", 120, type="error", id="m2")
    assert error["condition"] == "item-not-found", error
    figure(f"a name that nobody has: told after {error['at'] - begin:.1f} s")
    assert waiting(here) == []


def test_what_is_said_without_anybody_to_ask_waits_also_through_a_power_cut(school, figure):
    """Dora's laptop is cut off, and loses its power; what she wrote to Bob goes when the network is back, to Bob who comes later."""
    lab, (server, _, there, laptop) = school
    enrolled(laptop, invite(server, "dora"))
    laptop.stop()
    lab.cable(laptop.host, False)
    laptop.start()
    dora = login(laptop, "dora")
    dora.do("send", to=named("bob"), body="one", id="d1")
    dora.do("send", to=named("bob"), body="two", id="d2")
    until(lambda: len(waiting(laptop)) == 2, 10, "both to wait for a name")
    assert {waits for _, waits in waiting(laptop)} == {"somebody with this name to be found"}
    laptop.kill()
    there.stop()
    laptop.start()
    assert len(waiting(laptop)) == 2
    lab.cable(laptop.host, True)
    begin = time.monotonic()
    until(lambda: all("mailboxes" in waits for _, waits in waiting(laptop)), 120, "both to wait in mailboxes", every=0.5)
    figure(f"found and left in mailboxes {time.monotonic() - begin:.1f} s after the network was back")
    laptop.stop()
    there.start()
    bob = login(there, "bob")
    for number, body in (("d1", "one"), ("d2", "two")):
        bob.wait("message", 90, id=number, sender=named("dora"), body=body)
    assert bob.ids("d") == ["d1", "d2"]
