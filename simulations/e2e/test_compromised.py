"""A stolen user key, and a stolen laptop: contacts are warned, nothing from the old address counts, and the person has a new one."""

import json
import time

from slix import Slix, befriend
from test_devices import joined, offer
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
