"""The server of a domain: invitation, enrolment, login without the server, a second laptop; guessing, losses, power cuts."""

import json
import os
import subprocess
import time

import pytest

from netns import Routed, end
from node import binary
from slix import Slix, befriend, is_nearby, see_nearby
from waiting import until

KILLS = int(os.environ.get("CROSSTALK_KILLS") or 6)
DOMAIN, ALICE, PASSWORD = "school.example", "alice@school.example", "four words are better"


def found(node, domain=DOMAIN):
    done = node.cli("authority", "init", domain)
    assert done.returncode == 0, done.stderr


def invite(server, name, add=True):
    if add:
        server.ask("authority", "user", "add", name)
    return server.ask("authority", "invite", name)["link"]


def enrol(node, to, password=PASSWORD, *more):
    return node.cli("enrol", to, "--password-stdin", "--json", *more, password=password, seconds=90)


def enrolled(node, to, password=PASSWORD):
    done = enrol(node, to, password)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refusal(done):
    assert done.returncode != 0, done.stdout
    return json.loads(done.stderr.splitlines()[-1])["error"]


def users(server):
    return {user["name"]: user["state"] for user in server.ask("authority", "user", "list")}


def logins(node):
    """Login names there; nothing while its socket is not open yet."""
    done = node.cli("account", "list", "--json")
    return [] if done.returncode else [account["login"] for account in json.loads(done.stdout)]


def issued(server, name="alice"):
    return [line for line in server.ask("authority", "audit") if line["name"] == name and line["what"] == "name issued"]


def client(node, address=ALICE, password=PASSWORD, resource=""):
    slix = Slix(node.host, f"{address.split('@')[0]}{node.host.number}{resource}")
    slix.login(address, password)
    return slix


@pytest.fixture
def school(labs, nodes_of):
    """A server and three laptops, all running, nobody enrolled."""
    nodes = nodes_of(labs(4))
    for node in nodes:
        node.start()
    found(nodes[0])
    return nodes


def test_enrolled_once_certified_for_good(school, figure):
    """By the link; from then with the same password, with and without the server; a further laptop by name and password alone."""
    server, first, second, other = school
    link = invite(server, "alice")
    assert users(server) == {"alice": "invited"}
    # What does not work, and says what to do.
    assert "copy all of it" in refusal(enrol(first, link[:-3]))
    assert "too short" in refusal(enrol(first, link, "secret"))
    begin = time.monotonic()
    made = enrolled(first, link)
    figure(f"enrolled within {time.monotonic() - begin:.1f} s")
    assert made["account"]["jid"] == ALICE and made["recovery"]
    assert users(server) == {"alice": "enrolled"} and len(issued(server)) == 1
    assert "already" in refusal(enrol(first, link))
    assert "used already" in refusal(enrol(other, link, "not the password of alice"))
    names = first.ask("status")["names"]
    assert [(name["address"], name["valid"]) for name in names] == [(ALICE, True)]
    assert names[0]["until"] > (time.time() + 399 * 86_400) * 1_000
    # The program of alice, with the server and without.
    alice = client(first)
    assert alice.jid == ALICE
    assert alice.ping(DOMAIN)["type"] == "result"
    # Who belongs to the school sees the name; who does not sees the key, and that the name is claimed.
    bob_link = invite(server, "bob")
    enrolled(other, bob_link)
    bob = client(other, "bob@school.example")
    befriend(alice, bob)
    alice.do("send", to=bob.jid, body="hello", id="m1")
    bob.wait("message", 10, id="m1", sender=ALICE, body="hello")
    server.add_account("carol")
    carol = Slix(server.host, "carol")
    carol.login("carol")
    see_nearby(carol, ALICE)
    second.add_account("dora")
    dora = Slix(second.host, "dora")
    dora.login("dora")
    xid = first.ask("account", "show", ALICE)["xid"]
    shown = dora.wait("roster-item", 20, jid=f"{xid}@id.internal", groups=is_nearby)
    assert f"claims {ALICE}" in shown["name"], shown
    # The server is away: nobody misses it.
    server.stop()
    alice.do("logout")
    alice = client(first, resource="again")
    bob.do("send", to=ALICE, body="still there", id="m2")
    alice.wait("message", 10, id="m2", sender=bob.jid)
    first.stop()
    first.start()
    alice = client(first, resource="later")
    assert alice.jid == ALICE
    # A second laptop needs the server, and name and password alone.
    assert "network" in refusal(enrol(second, ALICE))
    server.start()
    assert "password" in refusal(enrol(second, ALICE, "wrong password"))
    begin = time.monotonic()
    made = enrolled(second, ALICE)
    figure(f"a second laptop within {time.monotonic() - begin:.1f} s")
    assert made["account"]["jid"] == ALICE and not made["recovery"]
    assert first.ask("account", "show", ALICE)["xid"] == second.ask("account", "show", ALICE)["xid"]
    of = ("contact", "list", "--account", ALICE)
    until(lambda: [c["jid"] for c in second.ask(*of)] == [c["jid"] for c in first.ask(*of)] == [bob.jid], 60, "the contact list")
    both = client(second)
    bob.do("send", to=ALICE, body="to both", id="m3")
    for one in (alice, both):
        one.wait("message", 20, id="m3", sender=bob.jid)
    assert len(issued(server)) == 1, "one key, one certificate"


def test_guessing_is_slowed_and_locks_nobody_out(school):
    """Who guesses waits longer and longer; the one who knows the password gets in meanwhile, from another laptop."""
    server, first, second, guesser = school
    enrolled(first, invite(server, "alice"))
    said = []
    for guess in range(9):
        said.append(refusal(enrol(guesser, ALICE, f"guess number {guess}")))
    assert all("password" in text for text in said)
    assert "try again in" not in said[0] and any("try again in" in text for text in said[5:]), said
    enrolled(second, ALICE)
    # Names that nobody has are answered alike.
    assert refusal(enrol(second, "nobody@school.example")) == said[0]


def test_names_are_taken_back(school):
    """Disabled: nobody is let in, and whoever knows the school believes the name no longer. Reset: a new key, a new certificate."""
    server, first, second, other = school
    enrolled(first, invite(server, "alice"))
    enrolled(other, invite(server, "bob"))
    alice, bob = client(first), client(other, "bob@school.example")
    befriend(alice, bob)
    withdrawn = invite(server, "carol")
    server.ask("authority", "user", "disable", "alice")
    server.ask("authority", "user", "reset", "carol")
    assert "does not know this invitation" in refusal(enrol(second, withdrawn))
    assert "ended this account" in refusal(enrol(second, ALICE))
    tier = lambda: {c["jid"]: c["tier"] for c in other.ask("contact", "list", "--account", "bob@school.example")}[ALICE]
    until(lambda: tier() == "key", 20, "the revocation at a contact")
    server.ask("authority", "user", "reset", "alice")
    server.kill()
    server.start()
    link = invite(server, "alice", add=False)
    enrolled(second, link, "another good password")
    keys = [line["user"] for line in issued(server)]
    serials = [line["serial"] for line in issued(server)]
    assert len(set(keys)) == 2 and serials == sorted(set(serials))
    assert users(server) == {"alice": "enrolled", "bob": "enrolled", "carol": "new"}


def test_from_another_network(labs, nodes_of):
    """No multicast between server and laptops: the link says where the server is, and so can a person."""
    server, first, second = nodes_of(labs(3, "ipv4", Routed))
    for node in (server, first, second):
        node.start()
    found(server)
    enrolled(first, invite(server, "alice"))
    assert client(first).jid == ALICE
    assert "--server" in refusal(enrol(second, ALICE))
    shown = server.ask("authority", "show")
    print(shown["places"])
    done = enrol(second, ALICE, PASSWORD, "--server", f"{shown['node']}@{shown['places'][0]}")
    assert done.returncode == 0, done.stderr
    assert client(second).jid == ALICE
    assert len(issued(server)) == 1


@pytest.mark.parametrize("victim", ["server", "laptop"])
def test_a_power_cut_at_any_point_of_enrolment(labs, nodes_of, chance, figure, victim, database):
    """One of the two is killed while a user is enrolled, again and again: the next try completes, and nothing is there twice."""
    server, laptop = nodes_of(labs(2))
    server.configure(database)
    for node in (server, laptop):
        node.start()
    found(server)
    cut, survived = 0, 0
    for number in range(KILLS):
        name = f"user{number}"
        address, link = f"{name}@{DOMAIN}", invite(server, name)
        killed = server if victim == "server" else laptop
        words = ["enrol", link, "--password-stdin", "--json"]
        asking = laptop.host.popen([binary(), *words, "--data", laptop.data], stdin=subprocess.PIPE,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        asking.stdin.write(f"{PASSWORD}\n".encode())
        asking.stdin.close()
        time.sleep(chance.uniform(0.0, 0.5))
        killed.kill()
        end(asking)
        if killed is laptop:
            laptop.start()
        # A laptop that lives is asked while the server is away: it would go on as soon as that is back.
        was_there = address in until(lambda: logins(laptop), 20, "the laptop's node to answer")
        if killed is server:
            server.start()
        survived, cut = survived + was_there, cut + (not was_there)
        # A laptop that lives goes on by itself as soon as the server is back.
        until(lambda: address in logins(laptop) or enrol(laptop, link).returncode == 0, 90, f"{name} to be enrolled at last")
        assert logins(laptop).count(address) == 1
        assert len(issued(server, name)) == 1
        assert users(server)[name] == "enrolled"
        if number == 0:
            assert client(laptop, address).jid == address
    # Of so many some are cut off, or nothing was tried.
    assert cut > 0 or KILLS < 6
    listed = [user["name"] for user in server.ask("authority", "user", "list")]
    assert sorted(listed) == sorted(set(listed)) and len(listed) == KILLS, listed
    figure(f"{cut} enrolments cut off and repeated, {survived} had ended before")
