"""Two laptops on one cable, no server: their people see each other and talk, with the clients they already have."""

import statistics
import time

import pytest

from mcabber import Mcabber
from node import XMPP, Node
from profanity import Profanity
from slix import Slix, befriend, is_nearby, leave_nearby, see_nearby

RUNS, LIMIT = 5, 2.0


@pytest.fixture
def pair(nodes):
    """alice on the first node, bob on the second, both nodes running: [(node, address), ...]."""
    addresses = [node.add_account(name) for node, name in zip(nodes, ("alice", "bob"))]
    for node in nodes:
        node.start()
    return list(zip(nodes, addresses))


@pytest.fixture
def clients(pair):
    """A slixmpp client of each, logged in, each seeing the other nearby."""
    both = [Slix(node.host, name) for (node, _), name in zip(pair, ("alice", "bob"))]
    for client in both:
        client.login(client.name)
    for viewer, seen in zip(both, reversed(both)):
        see_nearby(viewer, seen.jid)
    return both


# The two laptops as they always were, and where a cable gives them nothing but IPv6 link-local addresses.
everywhere = pytest.mark.parametrize("addresses", [pytest.param(kind, marks=pytest.mark.addresses(kind)) for kind in ("dual", "fe80")])


@everywhere
def test_from_start_to_seeing_each_other(lab, nodes, figure, addresses):
    """Nodes and clients start cold at the same moment; below two seconds at the median of five runs."""
    names, runs = ("alice", "bob"), []
    for run in range(RUNS):
        laptops = [Node(host, data=f"run{run}") for host in lab.hosts]
        addresses = [node.add_account(name) for node, name in zip(laptops, names)]
        begin = time.monotonic()
        people = []
        for node, name in zip(laptops, names):
            node.start(wait=0)
            people.append(Slix(node.host, f"{name}{run}"))
        logins = [person.begin_login(name, retry=0.02) for person, name in zip(people, names)]
        ready = max(node.wait_ready() for node in laptops)
        for person, login in zip(people, logins):
            person.logged_in(login)
        login = max(person.wait("session")["at"] for person in people) - begin
        nearby = max(see_nearby(person, address) for person, address in zip(people, reversed(addresses))) - begin
        runs.append((ready, login, nearby))
        for person, node in zip(people, laptops):
            person.close()
            node.kill()
    for name, values in zip(("node ready", "logged in", "each sees the other"), zip(*runs)):
        figure(f"{name} after {statistics.median(values):.2f} s (median of {', '.join(f'{v:.2f}' for v in sorted(values))})")
    assert statistics.median(run[2] for run in runs) < LIMIT


@everywhere
def test_slixmpp_subscribes_chats_and_offers_a_file(clients, addresses):
    alice, bob = clients
    befriend(alice, bob)
    for sender, receiver, text in ((alice, bob, "hello bob"), (bob, alice, "hello alice")):
        sender.do("send", to=receiver.jid, body=text, id=f"to-{receiver.name}")
        message = receiver.wait("message", body=text, sender=sender.jid)
        assert message["id"] == f"to-{receiver.name}" and message["type"] == "chat" and not message["delayed"]
    alice.do("presence", show="dnd", status="in a meeting")
    seen = bob.wait("presence", sender=alice.jid, status="in a meeting")
    assert seen["show"] == "dnd" and "/" in seen["from"]
    alice.do("state", to=bob.jid, state="composing")
    bob.wait("chat-state", sender=alice.jid, state="composing")
    assert bob.offer_file(seen["from"])["type"] == "result"
    assert "letter.txt" in alice.wait("offer", sender=bob.jid)["xml"]
    assert bob.disco(seen["from"])["type"] == "result" and bob.iq("get", "<nonsense xmlns='x:y'/>", seen["from"])["type"] == "error"


def test_neighbours_talk_before_they_are_contacts(clients):
    alice, bob = clients
    alice.do("send", to=bob.jid, body="we have not met", id="stranger-1")
    assert bob.wait("message", body="we have not met")["from"].startswith(alice.jid)
    bob.do("presence", show="away", status="at the pump")
    assert alice.wait("presence", sender=bob.jid, status="at the pump")["show"] == "away"
    assert [entry for entry in bob.do("roster").values() if not is_nearby(entry["groups"])] == []


@pytest.mark.parametrize("tls", ["none", "starttls"])
def test_both_ways_to_log_in_on_loopback(pair, tls):
    (node, address), _ = pair
    client = Slix(node.host, "alice")
    client.login("alice", tls=tls)
    assert client.jid == address
    with pytest.raises(Exception, match="not-authorized"):
        Slix(node.host, "thief").login("alice", "wrong", tls=tls)


def test_the_chat_port_is_open_to_this_machine_only(lab, pair):
    with pytest.raises(ConnectionRefusedError):
        lab.hosts[1].connect(XMPP, lab.hosts[0].address)


@everywhere
def test_a_neighbour_who_vanishes_is_gone_within_30_s(lab, pair, clients, figure, addresses):
    alice, bob = clients
    begin = time.monotonic()
    lab.cable(lab.hosts[1], up=False)
    leave_nearby(alice, bob.jid, 30, after=begin)
    figure(f"gone {time.monotonic() - begin:.1f} s after the cable was pulled")
    lab.cable(lab.hosts[1], up=True)
    begin = time.monotonic()
    alice.wait("presence", 30, after=begin, sender=bob.jid, type="available")
    figure(f"back {time.monotonic() - begin:.1f} s after it was plugged in")


def test_profanity_sees_and_talks(pair):
    (one, alice), (two, bob) = pair
    friend = Slix(two.host, "bob")
    friend.login("bob")
    client = Profanity(one.host)
    client.login("alice", "secret")
    client.wait_contact("bob", "Nearby")
    see_nearby(friend, alice)
    client.say(bob, "hello from profanity")
    friend.wait("message", body="hello from profanity", sender=alice)
    friend.do("send", to=alice, body="hello profanity", id="p1")
    client.wait_text("bob.*: hello profanity")
    friend.do("state", to=alice, state="composing")
    client.wait_text("typing")
    client.status("gone fishing", "away")
    assert friend.wait("presence", sender=alice, status="gone fishing")["show"] == "away"
    friend.do("presence", show="dnd", status="busy")
    client.wait_contact("bob", "Nearby", show="dnd")
    assert one.log().count(" ERROR ") == 0


def test_mcabber_sees_and_talks(pair):
    (one, alice), (two, bob) = pair
    friend = Slix(two.host, "bob")
    friend.login("bob")
    client = Mcabber(one.host, "alice", "secret")
    client.wait_login()
    client.wait_contact("bob", "Nearby")
    see_nearby(friend, alice)
    client.say(bob, "hello from mcabber")
    friend.wait("message", body="hello from mcabber", sender=alice)
    friend.do("send", to=alice, body="hello mcabber", id="m1")
    client.open("bob")
    client.wait_text("<== hello mcabber")
    client.status("gone fishing", "away")
    assert friend.wait("presence", sender=alice, status="gone fishing")["show"] == "away"


def test_profanity_and_mcabber_talk_to_each_other(pair):
    (one, alice), (two, bob) = pair
    left, right = Profanity(one.host), Mcabber(two.host, "bob", "secret")
    left.login("alice", "secret", tls="disable")
    right.wait_login()
    left.wait_contact("bob", "Nearby")
    right.wait_contact("alice", "Nearby")
    left.say(bob, "tick")
    right.open("alice")
    right.wait_text("<== tick")
    right.say(alice, "tock")
    left.wait_text("bob.*: tock")
