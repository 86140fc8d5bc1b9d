"""One person, two laptops: joined by a code; the contact list, what arrives and what is sent are the same on both."""

import json
import time

import pytest

from netns import Routed
from slix import Slix, befriend
from waiting import until

CARBONS = "<enable xmlns='urn:xmpp:carbons:2'/>"


def offer(node, password="secret"):
    done = node.cli("device", "add", "--account", "alice", "--password-stdin", "--json", password=password)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def join(node, code, *more, password="secret"):
    return node.cli("device", "join", code, "--password-stdin", "--json", *more, password=password, seconds=60)


def joined(node, code):
    done = join(node, code)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def contacts(node):
    """The real contacts as the node tells them."""
    return {c["jid"]: (c["name"], c["groups"], c["subscription"]) for c in node.ask("contact", "list", "--account", "alice")}


def client(node, name):
    slix = Slix(node.host, f"{name}{node.host.number}")
    slix.login(name)
    assert slix.iq("set", CARBONS)["type"] == "result"
    return slix


@pytest.fixture
def trio(labs, nodes_of):
    """alice's first laptop, her second, bob's: nodes running, alice on the first only."""
    nodes = nodes_of(labs(3))
    nodes[0].add_account("alice")
    nodes[2].add_account("bob")
    for node in nodes:
        node.start()
    return nodes


def test_a_second_laptop(trio, figure):
    """By the code on the screen of the first; then whatever is done on one is so on the other, also what was missed."""
    first, second, third = trio
    old, bob = client(first, "alice"), client(third, "bob")
    befriend(old, bob)
    # What does not work, and says so.
    assert first.cli("device", "add", "--account", "alice", "--password-stdin", password="wrong").returncode == 4
    assert "no code" in join(second, "ABCD-EFGH").stderr
    code = offer(first)["code"]
    begin = time.monotonic()
    wrong = join(second, code, password="wrong")
    assert wrong.returncode == 4 and "does not open" in wrong.stderr, wrong.stderr
    made = joined(second, code)
    figure(f"joined within {time.monotonic() - begin:.1f} s, a wrong password tried before")
    assert made["jid"] == old.jid
    assert "already" in join(second, code).stderr
    assert "does not count" in join(third, code).stderr
    # The contact list follows by itself, and stays the same.
    until(lambda: contacts(second) == contacts(first) and bob.jid in contacts(second), 20, "the contact list on the second laptop")
    new = client(second, "alice")
    new.wait("presence", 20, sender=bob.jid, type="available")
    old.set_contact("carl@far.example", "Carl")
    new.wait("roster-item", 10, jid="carl@far.example", name="Carl")
    new.set_contact("carl@far.example", "Charles", ["Work"])
    old.wait("roster-item", 10, jid="carl@far.example", name="Charles", groups=["Work"])
    old.remove_contact("carl@far.example")
    new.wait("roster-item", 10, jid="carl@far.example", subscription="remove")
    # A message reaches both, and the answer given on one is seen on the other.
    bob.do("send", to=old.jid, body="where are you?", id="q1")
    for one in (old, new):
        one.wait("message", 10, id="q1", body="where are you?", carbon=None)
    new.do("send", to=bob.jid, body="on the train", id="a1")
    bob.wait("message", 10, id="a1", body="on the train")
    old.wait("message", 10, id="a1", carbon="sent")
    # One is away: it catches up, with what arrived, what was sent, and what was edited.
    new.do("logout")
    second.stop()
    bob.do("send", to=old.jid, body="still there?", id="q2")
    old.wait("message", 10, id="q2")
    old.do("send", to=bob.jid, body="yes", id="a2")
    bob.wait("message", 10, id="a2")
    old.set_contact("dora@far.example", "Dora")
    second.start()
    back = client(second, "alice")
    back.wait("message", 60, id="q2", body="still there?")
    back.wait("message", 60, id="a2", carbon="sent")
    until(lambda: contacts(second) == contacts(first) and "dora@far.example" in contacts(second), 60, "the list after being away")
    devices = {d["here"]: d for d in first.ask("device", "list", "--account", "alice")}
    assert len(devices) == 2 and devices[False]["live"]


def test_edits_on_both_laptops_while_apart(labs, nodes_of):
    """The cable between them is cut; both edit; they agree again, and nothing that was wanted is lost."""
    lab = labs(2)
    first, second = nodes_of(lab)
    first.add_account("alice")
    for node in (first, second):
        node.start()
    joined(second, offer(first)["code"])
    one, two = client(first, "alice"), client(second, "alice")
    one.set_contact("carl@far.example", "Carl", ["School"])
    two.wait("roster-item", 20, jid="carl@far.example", name="Carl")
    lab.cable(second.host, up=False)
    one.set_contact("carl@far.example", "Charles", ["School"])
    one.set_contact("dora@far.example", "Dora")
    two.set_contact("carl@far.example", "Carl", ["Work"])
    two.set_contact("emil@far.example", "Emil")
    lab.cable(second.host, up=True)
    until(lambda: contacts(first) == contacts(second) and len(contacts(first)) == 3, 60, "both lists to agree")
    assert contacts(first)["carl@far.example"][:2] == ("Charles", ["Work"])


def test_a_second_laptop_in_another_network(labs, nodes_of):
    """No multicast between them: the long code has the address of the first."""
    lab = labs(2, "ipv4", Routed)
    first, second = nodes_of(lab)
    first.add_account("alice")
    for node in (first, second):
        node.start()
    codes = offer(first)
    assert joined(second, codes["long_code"])["jid"] == first.address("alice")
    one, two = client(first, "alice"), client(second, "alice")
    one.set_contact("carl@far.example", "Carl")
    two.wait("roster-item", 30, jid="carl@far.example", name="Carl")


def test_a_lost_laptop_is_revoked(trio):
    """Its owner's other laptop learns it at once and sends it nothing more; the lost one is not listed any longer."""
    first, second, third = trio
    joined(second, offer(first)["code"])
    until(lambda: len(first.ask("device", "list", "--account", "alice")) == 2, 20, "both devices to be known")
    lost = next(d for d in first.ask("device", "list", "--account", "alice") if not d["here"])
    revoke = ("device", "revoke", lost["device"][:8], "--account", "alice", "--password-stdin")
    assert first.cli(*revoke, password="wrong").returncode == 4
    done = first.cli(*revoke, password="secret")
    assert done.returncode == 0, done.stderr
    assert [d["here"] for d in first.ask("device", "list", "--account", "alice")] == [True]
    old = client(first, "alice")
    old.set_contact("carl@far.example", "Carl")
    time.sleep(2)
    assert first.ask("outbox") == []
