"""The test bench itself: hosts reach each other, cables can be pulled, frames lost, and nothing is left behind."""

import os
import re
import socket
import subprocess
import sys
import time

import pytest

from waiting import until

HERE = os.path.dirname(os.path.abspath(__file__))


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
    link_local = re.search(r"inet6 (fe80\S+)/", two.ip("-6", "address", "show", "eth0")).group(1)
    assert pings(one, link_local)
    assert "default" not in one.ip("route") and set(re.findall(r"^\d+: (\w+)", one.ip("link"), re.M)) == {"lo", "eth0"}
    assert one.run(["hostname"]).stdout.strip() == "h1" and one.run(["ls", "/run"]).stdout == ""


def test_a_pulled_cable_cuts_and_a_plugged_one_mends(lab):
    one, two = lab.hosts
    lab.cable(two, up=False)
    assert "NO-CARRIER" in two.ip("link", "show", "eth0") and not pings(one, two.address)
    lab.cable(two, up=True)
    until(lambda: pings(one, two.address), 5, "ping after the cable was plugged in")


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
