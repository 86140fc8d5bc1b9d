"""A stolen user key, and a stolen laptop: contacts are warned, nothing from the old address counts, and the person has a new one."""

import json
import time

from slix import Slix, befriend
from test_devices import joined, offer
from test_overlay import far, found  # noqa: F401 (a fixture)
from waiting import until


def logged_in(node, name, password="secret"):
    slix = Slix(node.host, f"{name}{node.host.number}")
    slix.login(name, password)
    return slix


def test_a_stolen_key_ends_its_address(labs, nodes_of, figure):
    """alice's address ends on both her laptops; bob is warned, and finds her again by her new one."""
    first, second, third = nodes_of(labs(3))
    first.add_account("alice")
    third.add_account("bob")
    for node in (first, second, third):
        node.start()
    joined(second, offer(first)["code"])
    alice, other, bob = logged_in(first, "alice"), logged_in(second, "alice"), logged_in(third, "bob")
    befriend(alice, bob)
    old = alice.jid
    refused = first.cli("account", "compromised", "alice", "--password-stdin", "--yes", password="wrong")
    assert refused.returncode == 4, refused.stderr
    begin = time.monotonic()
    done = first.cli("account", "compromised", "alice", "--password-stdin", "--yes", "--json", password="secret")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["jid"] != old and made["password"] and made["recovery_code"]
    warned = bob.wait("message", 20, after=begin, body=lambda text: old in (text or ""))
    figure(f"bob is warned after {warned['at'] - begin:.1f} s")
    bob.wait("presence", 20, after=begin, sender=old, type="unavailable")
    until(lambda: "alice" not in [made["name"] for made in second.ask("account", "list")], 20, "the end of the account on the second laptop")
    # Nothing goes to the old address.
    bob.do("send", to=old, body="are you there?", id="q")
    bob.wait("message", 20, id="q", type="error")
    # She is asked for by her new address, and they talk.
    bob.wait("presence", 30, sender=made["jid"], type="subscribe")
    again = Slix(first.host, "again")
    again.login("alice", made["password"])
    bob.accept(again.jid)
    again.wait("presence", 20, sender=bob.jid, type="subscribed")
    again.do("send", to=bob.jid, body="it is me", id="m")
    bob.wait("message", 20, id="m", sender=made["jid"])
    # A restart changes nothing of that.
    third.stop()
    third.start()
    back = logged_in(third, "bob")
    back.do("send", to=old, body="really not?", id="r")
    back.wait("message", 20, id="r", type="error")


def is_ended(node, address):
    """Whether all holders of a user's record say that its key was stolen, and nothing else."""
    said = [line for value in node.ask("lookup", address)["steps"][0]["values"] for line in value["says"]]
    return said and all("stolen" in line for line in said)


def test_who_was_away_is_warned_by_the_hash_table(far):  # noqa: F811
    """No multicast between them, and bob's node is down while alice's address ends."""
    nodes, addresses = far
    for node, name in zip(nodes[1:], ("alice", "bob")):
        until(lambda: found(node, addresses["bob" if name == "alice" else "alice"]), 60, f"the other's record at {name}'s")
    alice, bob = (logged_in(node, name) for node, name in zip(nodes[1:], ("alice", "bob")))
    for asker, asked in ((alice, bob), (bob, alice)):
        asker.subscribe(asked.jid)
        asked.wait("presence", 90, type="subscribe", sender=asker.jid)
        asked.accept(asker.jid)
        asker.wait("presence", 90, type="subscribed", sender=asked.jid)
    bob.do("logout")
    nodes[2].stop()
    done = nodes[1].cli("account", "compromised", "alice", "--password-stdin", "--yes", "--json", password="secret")
    assert done.returncode == 0, done.stderr
    old = addresses["alice"]
    # The hash table says so, where the record stood that named her laptop.
    until(lambda: is_ended(nodes[3], old), 60, "the last word about the address")
    nodes[1].stop()
    nodes[2].start()
    back = logged_in(nodes[2], "bob")
    back.wait("message", 90, body=lambda text: old in (text or ""))
    back.do("send", to=old, body="are you there?", id="q")
    back.wait("message", 20, id="q", type="error")
