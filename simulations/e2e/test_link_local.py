"""Bonjour clients (libpurple on avahi-daemon) and the people of a node, on one link: seeing each other, talking, leaving."""

import hashlib
import struct
import time
import zlib
from base64 import b64encode

import pytest

from bonjour import address, exchange
from node import Node
from profanity import Profanity
from slix import leave_nearby, see_nearby
from waiting import until

kinds = pytest.mark.parametrize("addresses", [pytest.param(kind, marks=pytest.mark.addresses(kind)) for kind in ("dual", "169.254", "fe80")])


def picture(colour):
    """A PNG of one pixel."""
    def chunk(kind, data):
        return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack("!IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(b"\0" + colour)) + chunk(b"IEND", b""))


def base64(data):
    return b64encode(data).decode()


@kinds
def test_they_see_each_other_and_talk(lab, nodes, bonjour, online, addresses):
    bob = bonjour(lab.hosts[1], "bob")
    alice = online(nodes[0], "alice", show="dnd", status="in a <meeting> & busy")
    bob.login(first="Bob", last="Builder", message="up & <about>")
    bob_jid = address(bob.instance)
    see_nearby(alice, bob_jid)
    assert alice.wait("roster-item", jid=bob_jid)["name"] == "Bob Builder (link)"
    shown = alice.wait("presence", sender=bob_jid, type="available")
    assert shown["show"] is None and shown["status"] == "up & <about>"
    seen = bob.sees("alice@h1", status="away")
    assert seen["alias"] == "alice" and bob.sees("alice@h1", message="in a <meeting> & busy")
    exchange(alice, bob, "alice@h1")

    begin = time.monotonic()
    alice.do("presence", status="back")
    bob.status("away", "lunch")
    assert bob.sees("alice@h1", after=begin, status="available")["message"] == "back"
    assert alice.wait("presence", after=begin, sender=bob_jid, status="lunch")["show"] == "away"  # said as `dnd` on the link
    begin = time.monotonic()
    alice.do("presence", show="away", status="gone fishing")
    bob.status("available")
    assert bob.sees("alice@h1", after=begin, status="away")["message"] == "gone fishing"
    assert alice.wait("presence", after=begin, sender=bob_jid, type="available", status=None)["show"] is None

    begin = time.monotonic()
    alice.do("logout")
    bob.misses("alice@h1", 5, after=begin)
    begin = time.monotonic()
    alice.do("return")
    bob.sees("alice@h1", 5, after=begin)
    see_nearby(alice, bob_jid, 5, after=begin)
    exchange(alice, bob, "alice@h1", "again")
    begin = time.monotonic()
    bob.logout()
    leave_nearby(alice, bob_jid, 5, after=begin)
    begin = time.monotonic()
    bob.do("enable")
    see_nearby(alice, bob_jid, 5, after=begin)
    assert " ERROR " not in nodes[0].log() and "panicked" not in nodes[0].log()


@pytest.mark.hosts(3)
def test_two_users_of_one_node_and_two_of_other_hosts(lab, nodes, bonjour, online):
    """Four people on three hosts, one of them with a node, another with a Bonjour client and the name of a user of that node."""
    bob, other = bonjour(lab.hosts[1], "bob"), bonjour(lab.hosts[2], "alice")
    alice, carol = (online(nodes[0], name) for name in ("alice", "carol"))
    bob.login()
    other.login()
    for person in (bob, other):
        for name in ("alice@h1", "carol@h1"):
            assert person.sees(name)["alias"] == name.split("@")[0]
    bob.sees("alice@h3")
    for client in (alice, carol):
        for person in (bob, other):
            see_nearby(client, address(person.instance))
    assert address("alice@h3") != alice.jid and address("alice@h3") in alice.do("roster")
    for client, instance in ((alice, "alice@h1"), (carol, "carol@h1")):
        for person in (bob, other):
            exchange(client, person, instance, "who is who?")
    for client in (alice, carol):
        assert {message["body"].split(" ")[1].split("-")[0] for message in client.all("message")} == {client.name}, "each got only its own"
    begin = time.monotonic()
    carol.do("logout")
    bob.misses("carol@h1", 5, after=begin)
    assert [event for event in bob.all("buddy", name="alice@h1") if not event["online"]] == []
    exchange(alice, bob, "alice@h1", "still here")


@pytest.mark.hosts(3)
def test_two_nodes_and_a_bonjour_client(lab, nodes, bonjour, online):
    """Users of nodes see each other once, by their verified addresses, and the Bonjour client beside them."""
    carol = bonjour(lab.hosts[2], "carol")
    alice, bob = (online(node, name) for node, name in zip(nodes, ("alice", "bob")))
    carol.login()
    for client, other in ((alice, bob), (bob, alice)):
        see_nearby(client, other.jid)
        see_nearby(client, address(carol.instance))
    for instance in ("alice@h1", "bob@h2"):
        carol.sees(instance)
    exchange(alice, carol, "alice@h1")
    exchange(bob, carol, "bob@h2")
    begin = time.monotonic()
    alice.do("presence", show="away", status="lunch")
    bob.wait("presence", after=begin, sender=alice.jid, status="lunch")
    carol.sees("alice@h1", after=begin, status="away", message="lunch")
    for client, other in ((alice, "bob@h2"), (bob, "alice@h1")):
        assert address(other) not in client.do("roster"), "a neighbour with a node is shown once"


def test_with_avahi_beside_the_node(lab, nodes, bonjour, online):
    """The node, avahi-daemon and a Bonjour client on one laptop; another Bonjour client elsewhere."""
    anna, bob = bonjour(lab.hosts[0], "anna"), bonjour(lab.hosts[1], "bob")
    anna.login()
    alice = online(nodes[0], "alice")
    bob.login()
    for person in (anna, bob):
        see_nearby(alice, address(person.instance))
        person.sees("alice@h1")
        exchange(alice, person, "alice@h1")
    anna.sees("bob@h2")
    bob.sees("anna@h1")
    assert anna.avahi.ready() == "h1" and "conflict" not in anna.avahi.log().lower()
    begin = time.monotonic()
    anna.logout()
    leave_nearby(alice, address(anna.instance), 5, after=begin)
    begin = time.monotonic()
    assert nodes[0].stop() == 0
    bob.misses("alice@h1", 5, after=begin)
    assert not any(event["online"] for event in bob.all("buddy", name="alice@h1") if event["at"] > begin)


def test_a_name_that_is_taken_on_the_machine_is_changed(lab, nodes, bonjour, online):
    """The Bonjour client of the same laptop has the name already: the user of the node gets the next one."""
    anna, bob = bonjour(lab.hosts[0], "anna"), bonjour(lab.hosts[1], "bob")
    anna.login()
    bob.login()
    bob.sees("anna@h1")
    client = online(nodes[0], "anna")
    assert bob.sees("anna-2@h1")["alias"] == "anna"
    assert [event for event in bob.all("buddy", name="anna@h1") if not event["online"]] == []
    exchange(client, bob, "anna-2@h1")


def test_pictures_go_both_ways(lab, nodes, bonjour, online):
    bob = bonjour(lab.hosts[1], "bob")
    alice = online(nodes[0], "alice")
    ours, theirs = picture(b"\xff\0\0"), picture(b"\0\0\xff")
    with open(f"{bob.host.home}/bob.png", "wb") as file:
        file.write(theirs)
    card = f"<vCard xmlns='vcard-temp'><PHOTO><TYPE>image/png</TYPE><BINVAL>{base64(ours)}</BINVAL></PHOTO></vCard>"
    assert alice.iq("set", card)["type"] == "result"
    bob.login()
    bob.do("icon", path=f"{bob.host.home}/bob.png")
    bob.sees("alice@h1", icon=hashlib.sha1(ours).hexdigest())
    see_nearby(alice, address(bob.instance))

    def has_picture():
        answer = alice.iq("get", "<vCard xmlns='vcard-temp'/>", address(bob.instance))
        return base64(theirs) in answer["xml"].replace("\n", "")
    until(has_picture, 10, "bob's picture")


@pytest.mark.hosts(4)
def test_what_is_announced_is_the_owners_choice(lab, bonjour, online):
    """Mode announce with one person hidden and one who only listens, mode listen, mode off."""
    announce, listen, off = Node(lab.hosts[0]), *(Node(host, settings=f'[link]\nmode = "{mode}"\n') for host, mode in zip(lab.hosts[2:], ("listen", "off")))
    bob = bonjour(lab.hosts[1], "bob")
    announce.add_account("hidden")
    assert announce.cli("account", "hide", "hidden").returncode == 0
    announce.add_account("shy")
    assert announce.cli("account", "link", "shy", "listen").returncode == 0
    hidden, shy, listener, outsider = online(announce, "hidden"), online(announce, "shy"), online(listen, "listener"), online(off, "outsider")
    alice = online(announce, "alice")  # the last: when she is announced, the others would have been
    bob.login()
    bob.sees("alice@h1")
    bob_jid = address(bob.instance)
    for client in (alice, hidden, shy, listener):
        see_nearby(client, bob_jid)
    see_nearby(outsider, alice.jid)
    assert bob_jid not in outsider.do("roster")
    exchange(alice, bob, "alice@h1")
    for client in (hidden, shy, listener, outsider):
        client.do("send", to=bob_jid, body="nobody knows me", id="x")
        client.wait("message", 10, id="x", type="error")
    assert {event["name"] for event in bob.all("buddy")} == {"alice@h1"}


def test_a_message_to_somebody_who_left_is_reported(lab, nodes, bonjour, online):
    bob = bonjour(lab.hosts[1], "bob")
    alice = online(nodes[0], "alice")
    bob.login()
    see_nearby(alice, address(bob.instance))
    begin = time.monotonic()
    bob.logout()
    leave_nearby(alice, address(bob.instance), 5, after=begin)
    alice.do("send", to=address(bob.instance), body="too late", id="late")
    assert alice.wait("message", 10, id="late", type="error")["condition"]


def test_profanity_sees_and_talks(lab, nodes, bonjour):
    bob, node = bonjour(lab.hosts[1], "bob"), nodes[0]
    node.add_account("alice")
    node.start()
    client = Profanity(node.host)
    client.login("alice", "secret")
    bob.login(first="Bob")
    client.wait_contact("Bob", "Nearby")
    bob.sees("alice@h1")
    client.say(address(bob.instance), "hello from profanity")
    assert bob.wait("message", 10)["body"] == "hello from profanity"
    bob.say("alice@h1", "hello profanity")
    client.wait_text("Bob.*: hello profanity")
    client.status("gone fishing", "away")
    assert bob.sees("alice@h1", status="away")["message"] == "gone fishing"
    bob.status("away", "lunch")
    client.home()
    client.wait_text("lunch")
