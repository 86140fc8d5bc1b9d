"""The server keeps what a user's laptops have said: the next laptop has it while the first is off, in whatever network."""

import json
import os
import time

import pytest

from netns import Routed
from test_authority import ALICE, DOMAIN, client, enrol, enrolled, found, invite
from slix import befriend
from waiting import until

# Contacts of a list that takes some time to fetch.
MANY = 500
KILLS = int(os.environ.get("CROSSTALK_KILLS") or 10)


def contacts(node):
    return {c["jid"]: (c["name"], c["groups"]) for c in node.ask("contact", "list", "--account", ALICE)}


def nobody_twice(node):
    listed = [c["jid"] for c in node.ask("contact", "list", "--account", ALICE)]
    assert len(listed) == len(set(listed)), listed


def server_of(node):
    """How the server stands there; its node may have only just started."""
    def said():
        done = node.cli("status", "--json")
        return done.returncode == 0 and json.loads(done.stdout)["servers"]
    return until(said, 20, f"{node.host.name} to answer")[0]


def in_step(node, seconds=60):
    """Everything here is at the server, and the other way round."""
    def said():
        view = server_of(node)
        return view if view["state"] == "up" and not view["held"] and not view["progress"] else None
    return until(said, seconds, f"{node.host.name} and the server to be in step")


def add(node, jid, name):
    node.ask("contact", "add", jid, "--name", name, "--account", ALICE)


def test_a_second_laptop_while_the_first_is_off(labs, nodes_of, figure):
    """List, names, blocks, and a request that nobody has answered; then both edit while the server is away."""
    lab = labs(4)
    server, first, second, other = nodes_of(lab)
    for node in (server, first, other):
        node.start()
    found(server)
    enrolled(first, invite(server, "alice"))
    enrolled(other, invite(server, "bob"))
    enrolled(other, invite(server, "carol"))
    alice, bob = client(first), client(other, "bob@school.example")
    befriend(alice, bob)
    carol = client(other, "carol@school.example")
    carol.do("presence", to=ALICE, type="subscribe")
    alice.wait("presence", 20, sender="carol@school.example", type="subscribe")
    add(first, "dave@far.example", "Dave")
    roster = "<query xmlns='jabber:iq:roster'><item jid='c{0}@far.example' name='Contact number {0}'/></query>"
    asked = [alice.begin("iq", type="set", xml=roster.format(number), seconds=60) for number in range(MANY)]
    assert all(alice.finish(number, 60)["type"] == "result" for number in asked)
    alice.do("iq", type="set", xml="<block xmlns='urn:xmpp:blocking'><item jid='eve@far.example'/></block>")
    view = in_step(first)
    shown = first.cli("status")
    assert "nothing held" in shown.stdout and ALICE in shown.stdout, shown.stdout
    figure(f"{view['sent']} bytes out and {view['received']} in, the last pass of the first laptop")
    of_first = contacts(first)
    first.stop()
    second.start()
    until(lambda: [peer["connected"] for peer in second.ask("peers")].count(True) == 2, 20, "the second laptop to meet the others")
    # As over a slow line, so that a person sees how far it is.
    lab.loss(server.host, delay_ms=300)
    begin = time.monotonic()
    enrolled(second, ALICE)
    done, of = until(lambda: server_of(second)["progress"], 20, "the progress of the first comparison", every=0)
    assert done <= of and of >= MANY, (done, of)
    lab.loss(server.host)
    until(lambda: contacts(second) == of_first, 30, lambda: f"the contact list: {contacts(second)}, not {of_first}")
    figure(f"everything there {time.monotonic() - begin:.1f} s after the beginning of `enrol`")
    again = client(second)
    again.wait("presence", 20, sender="carol@school.example", type="subscribe")
    assert "eve@far.example" in again.do("iq", type="get", xml="<blocklist xmlns='urn:xmpp:blocking'/>")["xml"]
    # The friend is seen, and is written to, from the new laptop alone.
    again.do("send", to=bob.jid, body="from the new one", id="s1")
    bob.wait("message", 20, id="s1", body="from the new one")
    # The server is away; so is each laptop from the other.
    in_step(second)
    server.stop()
    second.stop()
    first.start()
    add(first, "frank@far.example", "Frank")
    first.ask("contact", "remove", "dave@far.example", "--account", ALICE)
    held = until(lambda: (view := server_of(first))["state"] == "down" and view, 90, "the server's absence to be noticed")
    assert held["held"] >= 2, held
    level, text = first.doctor("server")
    assert level == "warn" and f"{held['held']} changes wait for it" in text, text
    first.stop()
    second.start()
    add(second, "dave@far.example", "David")
    add(second, "grace@far.example", "Grace")
    second.stop()
    server.start()
    # The wish of the second laptop is the later one: dave stays.
    for node in (first, second, first):
        node.start()
        in_step(node)
        list_of = contacts(node)
        node.stop()
    names = {jid: name for jid, (name, _) in list_of.items()}
    assert names["dave@far.example"] == "David" and names["grace@far.example"] == "Grace"
    assert names["frank@far.example"] == "Frank"
    second.start()
    in_step(second)
    assert contacts(second) == list_of


def test_in_another_network(labs, nodes_of):
    """Each behind its router: the second laptop learns of the first by the server alone, and the first of the second."""
    server, first, second = nodes_of(labs(3, "ipv4", Routed))
    for node in (server, first, second):
        node.start()
    found(server)
    enrolled(first, invite(server, "alice"))
    add(first, "dave@far.example", "Dave")
    in_step(first)
    shown = server.ask("authority", "show")
    done = enrol(second, ALICE, "four words are better", "--server", f"{shown['node']}@{shown['places'][0]}")
    assert done.returncode == 0, done.stderr
    in_step(second)
    assert contacts(second) == contacts(first)
    devices = lambda node: {device["device"] for device in node.ask("device", "list", "--account", ALICE)}
    until(lambda: len(devices(second)) == 2, 30, "the first laptop at the second")
    add(second, "grace@far.example", "Grace")
    in_step(second)
    first.kill()
    first.start()
    until(lambda: "grace@far.example" in contacts(first), 60, "what the second laptop has added")
    until(lambda: devices(first) == devices(second), 30, "the second laptop at the first")


@pytest.mark.parametrize("victim", ["server", "laptop"])
def test_a_power_cut_at_any_point_of_a_sync(labs, nodes_of, chance, figure, victim, database):
    """Killed while the two compare and tell: the next try completes, and nothing is lost or there twice."""
    server, first, second = nodes_of(labs(3))
    server.configure(database)
    for node in (server, first, second):
        node.start()
    found(server)
    enrolled(first, invite(server, "alice"))
    enrolled(second, ALICE)
    killed, whole = server if victim == "server" else first, 0
    for number in range(KILLS):
        for each in range(8):
            add(first, f"c{number}x{each}@far.example", f"Contact {number} {each}")
        # A change is told a second after it was made.
        time.sleep(chance.uniform(0.0, 0.9))
        killed.kill()
        if killed is first:
            first.start()
        # A laptop that lives is asked while the server is away: it would go on as soon as that is back.
        whole += server_of(first)["held"] == 0
        if killed is server:
            server.start()
    in_step(first, 120)
    in_step(second, 120)
    until(lambda: len(contacts(second)) == 8 * KILLS, 330, lambda: f"{8 * KILLS} contacts, not {len(contacts(second))}")
    assert contacts(first) == contacts(second)
    nobody_twice(first)
    nobody_twice(second)
    # Of so many some are cut off, or nothing was tried.
    assert whole < KILLS or KILLS < 6
    figure(f"{whole} of {KILLS} passes had ended before the power cut")
