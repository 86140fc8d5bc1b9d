"""Friends who never meet again: each is reached by nobody, and reaches the server alone, which says how the others are or were."""

import time

import pytest

from netns import Roads
from slix import befriend
from test_authority import ALICE, client, enrolled, found, invite
from test_sync import in_step, server_of
from waiting import until

BOB, CAROL = "bob@school.example", "carol@school.example"


@pytest.fixture
def village(labs, nodes_of):
    """A server in the open, and three friends who have met once; their laptops are off now, each carried to a network of its own."""
    roads = labs(4, "ipv4", Roads)
    server, *laptops = nodes_of(roads)
    roads.move(server.host, "open")
    for node in (server, *laptops):
        node.start()
    found(server)
    clients = []
    for node, address in zip(laptops, (ALICE, BOB, CAROL)):
        enrolled(node, invite(server, address.split("@")[0]))
        clients.append(client(node, address))
    alice, bob, carol = clients
    befriend(alice, bob)
    befriend(bob, carol)
    for node, slix in zip(laptops, clients):
        in_step(node)
        slix.do("logout")
        slix.close()
        node.stop()
        roads.move(node.host, "hidden")
    return server, *laptops


def listed(node, account):
    """How bob stands in somebody's list."""
    return next(c for c in node.ask("contact", "list", "--account", account) if c["jid"] == BOB)


def meets(node, account):
    """One more pass with the server, from beginning to end: whatever is changed here begins one."""
    before = server_of(node)["synced"]
    node.ask("contact", "add", "dave@far.example", "--name", f"Dave {before}", "--account", account)
    return until(lambda: server_of(node)["synced"] > before, 30, "a pass with the server")


def meets_only_the_server(node, server):
    """Nobody but the server is connected there."""
    peers = {peer["node"] for peer in node.ask("peers") if peer["connected"]}
    assert peers <= {server.ask("authority", "show")["node"]}, peers


def test_friends_who_meet_only_the_server(village, figure):
    """What bob shows comes to alice, with its age; what he shows after it, too; carol, whom he has blocked, is told nothing."""
    server, first, second, third = village
    began = time.time() * 1_000
    second.start()
    bob = client(second, BOB)
    bob.do("iq", type="set", xml=f"<block xmlns='urn:xmpp:blocking'><item jid='{CAROL}'/></block>")
    bob.do("presence", show="dnd", status="reading")
    in_step(second)
    first.start()
    begin = time.monotonic()
    alice = client(first, ALICE)
    shown = alice.wait("presence", 30, sender=BOB, show="dnd", status="reading")
    assert shown["delayed"], "as old as it is"
    figure(f"{shown['at'] - begin:.1f} s after the login")
    meets_only_the_server(first, server)
    assert listed(first, ALICE)["online"]
    third.start()
    carol = client(third, CAROL)
    in_step(third)
    # He goes; alice, who is told so when she meets the server next, knows then when he was here.
    bob.do("logout")
    gone = time.time() * 1_000
    until(lambda: meets(first, ALICE) and not listed(first, ALICE)["online"], 30, "alice to hear that he has gone")
    alice.wait("presence", 5, after=shown["at"], sender=BOB, type="unavailable")
    assert began < listed(first, ALICE)["last_seen"] <= gone + 2_000, listed(first, ALICE)
    meets(third, CAROL)
    meets_only_the_server(third, server)
    hidden = listed(third, CAROL)
    assert not hidden["online"] and (hidden["last_seen"] or 0) < began, hidden
    assert not [said for said in carol.all("presence", sender=BOB) if said["type"] != "unavailable"]
