"""Interfaces and addresses of a node's machine that come, go and change while its people are on the link."""

import re
import socket
import time

import pytest

from bonjour import address, exchange
from mdns import Link
from slix import leave_nearby, see_nearby
from waiting import until


@pytest.mark.hosts(3)
def test_only_the_links_own_addresses_are_announced(lab, nodes, bonjour, online):
    """Not those of loopback, nor of another link of the machine, nor of the machine's tunnels."""
    host, ear = lab.hosts[0], Link(lab.hosts[2])
    host.ip("link", "add", "tun0", "type", "veth", "peer", "name", "tun1")
    host.ip("address", "add", "10.99.0.1/24", "dev", "tun0")
    host.ip("link", "set", "tun0", "up")
    host.ip("link", "set", "tun1", "up")
    bob = bonjour(lab.hosts[1], "bob")
    alice = online(nodes[0], "alice")
    bob.login()
    see_nearby(alice, address(bob.instance))
    bob.sees("alice@h1")
    exchange(alice, bob, "alice@h1")
    said = b"".join(data for _, data in ear.packets)
    assert socket.inet_aton(host.address) in said and socket.inet_pton(socket.AF_INET6, host.link_local()) in said
    other = re.search(r"inet6 (fe80\S+)/", host.ip("-6", "address", "show", "tun0")).group(1)
    for foreign in (socket.inet_aton("127.0.0.1"), socket.inet_aton("10.99.0.1"), bytes(15) + b"\1", socket.inet_pton(socket.AF_INET6, other)):
        assert foreign not in said
    ear.close()


def test_an_address_that_changes(lab, nodes, bonjour, online):
    """As when DHCP gives another one. libpurple takes streams from announced addresses only."""
    host, bob = lab.hosts[0], bonjour(lab.hosts[1], "bob")
    alice = online(nodes[0], "alice")
    bob.login()
    see_nearby(alice, address(bob.instance))
    bob.sees("alice@h1")
    host.ip("address", "add", "10.77.0.50/24", "brd", "+", "dev", "eth0")
    host.ip("address", "del", "10.77.0.1/24", "dev", "eth0")
    begin = time.monotonic()
    exchange(alice, bob, "alice@h1", "over what is left")
    # Avahi holds the old address for a while; the stream must not depend on it.
    assert [event for event in bob.all("buddy", name="alice@h1", online=False) if event["at"] > begin] == []
    assert alice.all("presence", sender=address(bob.instance), type="unavailable") == []


@pytest.mark.parametrize("addresses", [pytest.param(kind, marks=pytest.mark.addresses(kind)) for kind in ("dual", "fe80")])
def test_a_link_that_comes_after_the_node(lab, nodes, bonjour, online, figure, addresses):
    """The node starts without any network; then the interface comes up, goes down and comes up again."""
    host, bob = lab.hosts[0], bonjour(lab.hosts[1], "bob")
    host.ip("link", "set", "eth0", "down")
    alice = online(nodes[0], "alice")
    bob.login()

    def up():
        begin = time.monotonic()
        host.ip("link", "set", "eth0", "up")
        seen, sees = bob.sees("alice@h1", 5, after=begin)["at"] - begin, see_nearby(alice, address(bob.instance), 5, after=begin) - begin
        figure(f"after the interface came up, shown by the Bonjour client in {seen:.2f} s, showing it in {sees:.2f} s")
        exchange(alice, bob, "alice@h1")
    up()
    begin = time.monotonic()
    host.ip("link", "set", "eth0", "down")
    leave_nearby(alice, address(bob.instance), 10, after=begin)
    up_again = time.monotonic()
    host.ip("link", "set", "eth0", "up")
    figure(f"showing it again {see_nearby(alice, address(bob.instance), 5, after=up_again) - up_again:.2f} s after it came up again")
    exchange(alice, bob, "alice@h1")


def test_two_interfaces_in_the_same_subnet(lab, nodes, bonjour, online):
    """Cable and radio to one network: everybody is shown once, and can be talked to whichever of the two works."""
    host, bob = lab.hosts[0], bonjour(lab.hosts[1], "bob")
    lab.plug(host, "second", "eth1", "10.77.0.101/24")
    until(lambda: "state UP" in host.ip("link", "show", "eth1"), 5, "the second cable")
    alice = online(nodes[0], "alice")
    bob.login()
    see_nearby(alice, address(bob.instance))
    bob.sees("alice@h1")
    exchange(alice, bob, "alice@h1")
    assert {event["name"] for event in bob.all("buddy")} == {"alice@h1"}, "not renamed because of its own echo"
    begin = time.monotonic()
    lab.cable(host, up=False)
    # What goes into the stream at this moment may be lost with the cable, but not in silence.
    alice.do("send", to=address(bob.instance), body="just now", id="just now")
    until(lambda: bob.all("message", body="just now") or alice.all("message", id="just now", type="error"), 100, "the message arriving or being reported")
    exchange(alice, bob, "alice@h1", "over the other cable", 30)
    assert [event for event in alice.all("presence", sender=address(bob.instance), type="unavailable") if event["at"] > begin] == []
