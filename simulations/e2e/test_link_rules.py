"""What XEP-0174 leaves to each program and the node decides: streams without `to`, how many users, saying goodbye."""

import time

import pytest

from bonjour import address, exchange
from mdns import Link, packet, presence
from slix import leave_nearby, see_nearby
from waiting import until

MOST = 16  # users announced by a node
HEADER = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' from='eve@h3'>"


@pytest.mark.hosts(3)
def test_a_stream_without_to_is_for_the_only_user(lab, nodes, online):
    """Old iChat opens such streams. Taken while one user is announced; of two, nobody can know which was meant."""
    link, node = Link(lab.hosts[2]), nodes[0]
    alice = online(node, "alice")
    link.say(packet(*presence("eve@h3", "h3", "10.77.0.3", nick="Eve")))
    see_nearby(alice, address("eve@h3"))
    until(lambda: link.heard("alice@h1"), 10, "Alice being announced")

    def stream(body):
        """What the node answers, until it closes; and the message is sent behind the header."""
        with lab.hosts[2].connect(5298, node.host.address) as connection:
            connection.sendall(f"{HEADER}<message from='eve@h3' type='chat'><body>{body}</body></message></stream:stream>".encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    stream("you are alone")
    assert alice.wait("message", 10, body="you are alone")["from"].split("/")[0] == address("eve@h3")
    carol = online(node, "carol")
    see_nearby(carol, address("eve@h3"))
    until(lambda: link.heard("carol@h1"), 10, "Carol being announced")
    assert "host-unknown" in stream("which of you?")
    for client in (alice, carol):
        assert client.ping()["type"] == "result"  # whatever came before it has been written
        assert client.all("message", body="which of you?") == []
    link.close()


def test_sixteen_users_at_most(lab, nodes, bonjour, online):
    """Whoever comes later sees the link and is not on it, and gets the place of the first who leaves."""
    bob = bonjour(lab.hosts[1], "bob")
    bob.login()
    bob_jid, names = address(bob.instance), [f"user{number}" for number in range(MOST + 1)]
    clients = [online(nodes[0], name) for name in names[:MOST]]
    for name in names[:MOST]:
        bob.sees(f"{name}@h1")
    late = online(nodes[0], names[MOST])
    see_nearby(late, bob_jid)
    late.do("send", to=bob_jid, body="nobody knows me", id="unknown")
    late.wait("message", 10, id="unknown", type="error")
    assert {event["name"] for event in bob.all("buddy")} == {f"{name}@h1" for name in names[:MOST]}
    exchange(clients[-1], bob, f"{names[MOST - 1]}@h1")
    begin = time.monotonic()
    clients[0].do("logout")
    bob.misses(f"{names[0]}@h1", 5, after=begin)
    bob.sees(f"{names[MOST]}@h1", 5, after=begin)
    exchange(late, bob, f"{names[MOST]}@h1")


@pytest.mark.hosts(3)
def test_an_orderly_stop_says_goodbye(lab, nodes, bonjour, online):
    """To Bonjour clients, which without it go on showing its people for a minute, and to other nodes."""
    bob = bonjour(lab.hosts[1], "bob")
    alice, carol, dave = online(nodes[0], "alice"), online(nodes[0], "carol"), online(nodes[2], "dave")
    bob.login()
    for user in (alice, carol):
        bob.sees(f"{user.name}@h1")
        see_nearby(dave, user.jid)
    begin = time.monotonic()
    assert nodes[0].stop() == 0
    for user in (alice, carol):
        assert bob.misses(f"{user.name}@h1", 5, after=begin)["at"] - begin < 3
        assert leave_nearby(dave, user.jid, 5, after=begin) - begin < 3
    assert bob.all("buddy", name="dave@h3", online=False) == []
