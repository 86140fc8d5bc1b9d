"""People on different networks, with routers and no multicast between: found by address, asked and answered."""

import time

import pytest

from netns import Routed
from node import OVERLAY, Node
from slix import Slix, befriend
from waiting import until

SETTINGS = """[overlay]
mdns = false
table = "server"
public_networks = ["10.80.0.0/16"]
bootstrap = ["/ip4/10.80.1.2/tcp/{port}"]
[link]
mode = "off"
"""


@pytest.fixture
def far(labs):
    """Five nodes, each in a network of its own; the first is the one that the others begin at."""
    lab = labs(5, "ipv4", Routed)
    nodes = [Node(host, settings=SETTINGS.format(port=OVERLAY)) for host in lab.hosts]
    addresses = {name: node.add_account(name) for name, node in zip(("alice", "bob"), nodes[1:])}
    for node in nodes:
        node.start()
    return nodes, addresses


def found(node, address):
    """What `crosstalk lookup` says, once the record is there and every signature fits."""
    lookup = node.ask("lookup", address)
    records = [value for step in lookup["steps"][:1] for value in step["values"]]
    return lookup if any(value["counts"] for value in records) else None


def test_strangers_find_each_other_and_ask_and_answer_by_mailboxes(far, figure):
    """Neither knows where the other is: requests and answers wait at other nodes until they are fetched."""
    nodes, addresses = far
    begin = time.monotonic()
    lookup = until(lambda: found(nodes[1], addresses["bob"]), 60, "bob's record")
    step = lookup["steps"][0]
    figure(f"found {time.monotonic() - begin:.1f} s after the start; the look-up took {step['millis']} ms, {step['asked']} nodes asked, {step['hops']} hops")
    assert step["hops"] >= 1 and len(step["path"]) == step["asked"], step
    assert any(asked["said"] == "has a value that counts" for asked in step["path"]), step
    alice, bob = (Slix(node.host, name) for node, name in zip(nodes[1:], ("alice", "bob")))
    for client in (alice, bob):
        client.login(client.name)
    for asker, asked in ((alice, bob), (bob, alice)):
        begin = time.monotonic()
        asker.subscribe(asked.jid)
        asked.wait("presence", 90, after=begin, type="subscribe", sender=asker.jid)
        figure(f"{asker.name}'s request arrived after {time.monotonic() - begin:.1f} s")
        asked.accept(asker.jid)
        asker.wait("presence", 90, after=begin, type="subscribed", sender=asked.jid)
        figure(f"{asked.name}'s answer after {time.monotonic() - begin:.1f} s")


def test_friends_see_each_other_and_whoever_comes_sees_who_was_there(far, figure):
    """Presence by a connection while both are there; sealed, with age, from the hash table when the friend's node is down."""
    nodes, _ = far
    alice, bob = (Slix(node.host, name) for node, name in zip(nodes[1:], ("alice", "bob")))
    for client in (alice, bob):
        client.login(client.name)
    begin = time.monotonic()
    befriend(alice, bob, 90)
    figure(f"both see each other {time.monotonic() - begin:.1f} s after the first asked")
    for shown, viewer in ((alice, bob), (bob, alice)):
        begin, changed = time.monotonic(), time.time()
        shown.do("presence", show="dnd", status="new")
        seen = viewer.wait("presence", 20, after=begin, sender=shown.jid, show="dnd")
        assert not seen["delayed"]
        figure(f"{shown.name}'s new status after {seen['at'] - begin:.2f} s")
    # What is shown is put into the table within half a minute; then Bob's laptop loses its power.
    until(lambda: sealed_after(nodes[1], bob.jid, changed), 60, "Bob's sealed presence", every=1)
    nodes[2].kill()
    alice.wait("presence", 40, after=begin, sender=bob.jid, type="unavailable")
    alice.close()
    nodes[1].stop()
    nodes[1].start()
    begin = time.monotonic()
    alice = Slix(nodes[1].host, "alice")
    alice.login("alice")
    seen = alice.wait("presence", 30, after=begin, sender=bob.jid, type="available")
    assert seen["delayed"] and seen["show"] == "dnd"
    figure(f"coming again: the friend whose node is down seen after {seen['at'] - begin:.2f} s")


def sealed_after(node, address, wall):
    """Whether the hash table has a presence of somebody that was sealed after that time (Unix seconds)."""
    says = [say for step in node.ask("lookup", address)["steps"][1:] for value in step["values"] for say in value["says"]]
    at = [int(say.split()[2].rstrip(",")) for say in says if say.startswith("sealed at")]
    return any(millis > 1_000 * wall for millis in at)
