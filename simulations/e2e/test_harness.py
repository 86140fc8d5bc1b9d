"""The test bench itself: hosts reach each other, cables can be pulled, frames lost, and nothing is left behind."""

import os
import re
import socket
import struct
import subprocess
import sys
import time

import pytest

import netns
from waiting import until
from wire import Wire

HERE = os.path.dirname(os.path.abspath(__file__))
MDNS_GROUP = {socket.AF_INET: "224.0.0.251", socket.AF_INET6: "ff02::fb"}


def pings(host, target, seconds=1.0):
    """The time until `target` has refused a TCP connection, which only a host that is reached can do; else 0."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with host.socket(family) as probe:
        probe.settimeout(seconds)
        begin = time.monotonic()
        try:
            probe.connect((target, 7) if family == socket.AF_INET else (target, 7, 0, ethernet(host)))
        except ConnectionRefusedError:
            return time.monotonic() - begin
        except OSError:
            return 0.0
    raise AssertionError("port 7 is open")


def ethernet(host):
    return int(re.search(r"^(\d+): eth0", host.ip("link"), re.M).group(1))


def test_hosts_see_only_each_other(lab):
    one, two = lab.hosts
    assert pings(one, two.address) and pings(two, one.address)
    assert pings(one, two.link_local())
    assert "default" not in one.ip("route") and set(re.findall(r"^\d+: (\w+)", one.ip("link"), re.M)) == {"lo", "eth0"}
    assert one.run(["hostname"]).stdout.strip() == "h1" and one.run(["ls", "/run"]).stdout == ""


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.addresses(kind)) for kind in netns.KINDS])
def test_hosts_have_the_addresses_of_their_kind_and_no_others(lab, kind):
    one, two = lab.hosts
    network, ipv6 = netns.KINDS[kind]
    found = re.findall(r"inet6? (\S+)", one.ip("address", "show", "eth0"))
    assert [address for address in found if ":" not in address] == ([network.format(1)] if network else [])
    assert [address.startswith("fe80") for address in found if ":" in address] == ([True] if ipv6 else [])
    assert pings(one, two.address if network else two.link_local())


def test_a_pulled_cable_cuts_and_a_plugged_one_mends(lab):
    one, two = lab.hosts
    lab.cable(two, up=False)
    assert "NO-CARRIER" in two.ip("link", "show", "eth0") and not pings(one, two.address)
    lab.cable(two, up=True)
    until(lambda: pings(one, two.address), 5, "ping after the cable was plugged in")


def test_a_port_taken_out_of_the_switch_cuts_and_the_carrier_stays(lab):
    one, two = lab.hosts
    lab.cut(two)
    assert "NO-CARRIER" not in two.ip("link", "show", "eth0") and not pings(one, two.address)
    lab.cut(two, out=False)
    until(lambda: pings(one, two.address), 5, "ping after the port was put back")


def test_frames_are_lost_and_delayed(lab):
    one, two = lab.hosts
    lab.loss(two, delay_ms=30)
    until(lambda: pings(one, two.address), 5, "ping over the relay")
    assert pings(one, two.address) >= 0.06
    server = two.popen([sys.executable, "-c", "import socket; s=socket.create_server(('10.77.0.2', 9)); c=s.accept()[0]\n"
                        "n=0\nwhile d:=c.recv(65536): n+=len(d)\nc.close(); print(n, flush=True)"], stdout=subprocess.PIPE)
    until(lambda: two.listens(9), 5, "the server")
    with one.connect(9, two.address) as connection:  # TCP: checksums and large segments survive the relay
        connection.sendall(b"x" * 300_000)
    assert int(server.stdout.readline()) == 300_000
    lab.loss(two, percent=100)
    assert not pings(one, two.address)
    lab.loss(two)
    until(lambda: pings(one, two.address), 5, "ping over the plain cable")


def speaker_and_listener(one, two, family):
    """How `one` says something to the multicast group of mDNS, and how `two` hears it (at port 9, where nothing else does)."""
    group = MDNS_GROUP[family]
    ear, mouth = two.socket(family, socket.SOCK_DGRAM), one.socket(family, socket.SOCK_DGRAM)
    ear.bind(("", 9))
    if family == socket.AF_INET:
        ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack("=4s4si", socket.inet_aton(group), bytes(4), ethernet(two)))
        mouth.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", bytes(4), bytes(4), ethernet(one)))
    else:
        ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, struct.pack("=16si", socket.inet_pton(family, group), ethernet(two)))
        mouth.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, ethernet(one))
    return (lambda data: mouth.sendto(data, (group, 9))), ear


def heard(ear, seconds=2.0):
    ear.settimeout(seconds)
    try:
        return ear.recv(2000)
    except TimeoutError:
        return None


@pytest.mark.parametrize("family", MDNS_GROUP, ids=["IPv4", "IPv6"])
def test_multicast_is_lost_and_delayed_like_all_else(lab, family):
    one, two = lab.hosts
    say, ear = speaker_and_listener(one, two, family)
    say(b"plain")
    assert heard(ear) == b"plain"
    lab.loss(two, delay_ms=30)
    begin = time.monotonic()
    say(b"late")
    assert heard(ear) == b"late" and time.monotonic() - begin >= 0.03
    lab.loss(two, percent=40, seed=1)
    for number in range(200):
        say(str(number).encode())
    arrived = 0
    while heard(ear, 0.3):
        arrived += 1
    assert 90 <= arrived <= 150  # of 200; 120 on average, and less than 7 would be 5 standard deviations
    ear.close()


def test_the_wire_is_counted(lab):
    one, two = lab.hosts
    counter = Wire(lab)
    begin = counter.read()
    for family, port in ((socket.AF_INET, 5353), (socket.AF_INET6, 5353)):
        say, ear = speaker_and_listener(one, two, family)
        for _ in range(5):
            say(b"x" * 100)
        with one.socket(family, socket.SOCK_DGRAM) as mdns:
            mdns.setsockopt(*((socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", bytes(4), bytes(4), ethernet(one)))
                              if family == socket.AF_INET else (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, ethernet(one))))
            for _ in range(3):
                mdns.sendto(b"x" * 1000, (MDNS_GROUP[family], port))
        ear.close()
    until(lambda: counter.since(begin).get("mdns6", [0])[0] == 3, 5, "the counter")
    now = counter.since(begin)
    assert now["mdns4"] == [3, 3 * (14 + 20 + 8 + 1000)] and now["mdns6"] == [3, 3 * (14 + 40 + 8 + 1000)]
    assert now["multicast"][0] >= 10 and now["all multicast"][0] == now["multicast"][0] + 6
    assert pings(one, two.address) and counter.since(begin)["unicast"][0] >= 2
    counter.close()


def test_bonjour_clients_see_each_other_and_talk(lab, bonjour):
    """libpurple on avahi-daemon, one on each host, without any node: what the link tests stand on."""
    anna, bob = (bonjour(host, name) for host, name in zip(lab.hosts, ("anna", "bob")))
    anna.login(message="in the <garden> & happy")
    bob.login(first="Bob", last="Builder")
    assert bob.sees("anna@h1")["message"] == "in the <garden> & happy"
    assert anna.sees("bob@h2", alias="Bob Builder")["status"] == "available"
    assert anna.instance == "anna@h1"
    anna.settle("bob@h2")
    bob.settle("anna@h1")
    anna.say("bob@h2", "a < b & c\nwell")
    assert bob.wait("message", 5, **{"from": "anna@h1"})["body"] == "a < b & c\nwell"
    bob.say("anna@h1", "yes")
    anna.wait("message", 5, body="yes")
    bob.status("away", "lunch")
    anna.sees("bob@h2", 5, status="away", message="lunch")
    bob.status("available")
    anna.sees("bob@h2", 5, status="available", message=None, after=time.monotonic())
    bob.logout()
    anna.misses("bob@h2", 5)
    begin = time.monotonic()
    bob.do("enable")
    anna.sees("bob@h2", 5, after=begin)
    begin = time.monotonic()
    bob.close()  # SIGKILL; Avahi says the goodbye for it
    anna.misses("bob@h2", 5, after=begin)


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_nothing_is_left_after_an_abrupt_end(lab, signal):
    script = ("import sys, signal; sys.path.insert(0, sys.argv[1]); from netns import *; stop_on_sigterm()\n"
              "with Lab(1) as lab:\n p = lab.hosts[0].popen(['sleep', '1000'])\n"
              " print(lab.switch.pid, lab.hosts[0].pid, p.pid, flush=True); signal.pause()")
    victim = subprocess.Popen([sys.executable, "-c", script, HERE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    pids = victim.stdout.readline().split()
    assert len(pids) == 3 and all(os.path.exists(f"/proc/{pid}") for pid in pids)
    subprocess.run(["kill", f"-{signal}", str(victim.pid)], check=True)
    victim.wait()
    victim.stdout.close()
    until(lambda: not any(os.path.exists(f"/proc/{pid}/exe") and alive(pid) for pid in pids), 5, f"the end of {pids}")


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
