"""A small crowd, measured against the same number of libpurple hosts; `simulations/bench/link-airtime` measures large ones."""

import time

import pytest

from airtime import CROWDS, Measurement, bytes_of
from waiting import until
from wire import Wire

HOSTS, START, IDLE = 6, 12, 20


@pytest.mark.long
def test_a_crowd_costs_less_than_libpurple(labs, nodes_of, figure):
    nodes_of(labs(1))  # says so if there is no node
    crowds = {kind: Measurement(labs(HOSTS), kind) for kind in CROWDS}
    for crowd in crowds.values():
        crowd.start()
    for crowd in crowds.values():
        crowd.settled(START)
    for crowd in crowds.values():
        crowd.idle(IDLE)
    found = {kind: crowd.result for kind, crowd in crowds.items()}
    for kind, result in found.items():
        figure(f"{HOSTS} hosts, {kind}: all saw all after {result['all_see_all_s']} s; multicast in the first {result['start_s']} s "
               f"{bytes_of(result, 'start')} bytes, then {bytes_of(result, 'idle') / result['idle_s']:.0f} bytes/s; "
               f"unicast {bytes_of(result, 'idle', 'unicast') / result['idle_s']:.0f} bytes/s")
    theirs, ours = found["libpurple"], found["CrossTalk"]
    assert ours["all_see_all_s"] and ours["all_see_all_s"] <= 10
    assert bytes_of(ours, "start") <= bytes_of(theirs, "start") / 2
    assert bytes_of(ours, "start") + bytes_of(ours, "idle") <= (bytes_of(theirs, "start") + bytes_of(theirs, "idle")) / 2


@pytest.mark.hosts(3)
def test_status_says_what_the_link_costs(lab, nodes_of, bonjour, online, figure):
    """What `crosstalk status` shows of the last minute is what the switch counted: multicast of both kinds, and keep-alives beside it."""
    pair, wire, begin = nodes_of(lab)[:2], Wire(lab), time.monotonic()
    online(pair[0], "alice"), online(pair[1], "bob")
    bonjour(lab.hosts[2], "carol").login()
    until(lambda: time.monotonic() > begin + 45, 46, "several keep-alives", every=0.1)
    before = wire.read()
    shown = [node.ask("status") for node in pair]
    after = wire.read()
    wire.close()
    for node, status in zip(pair, shown):
        least, most = ({kind: sums(counted[node.host.number], kind) for kind in ("multicast", "direct")} for counted in (before, after))
        air, frames = status["airtime"], status["frames"]
        figure(f"{node.host.name}: multicast {air['sent']}, direct {air['sent_direct']}, frames {frames}; on the wire {least}")
        for kind, traffic in (("multicast", air["sent"]), ("direct", air["sent_direct"])):
            found = (traffic["packets"], traffic["bytes"])
            assert least[kind][0] <= found[0] <= most[kind][0] and least[kind][1] <= found[1] <= most[kind][1], (kind, found, least, most)
        assert 0 < air["sent_by_swarm"]["packets"] < air["sent"]["packets"] and air["heard"]["packets"]
        assert air["sent_direct"]["packets"] and air["heard_direct"]["packets"], "carol is asked whether she is there"
        assert 2 <= frames["heartbeats"] <= 10 and frames["heartbeat_bytes"] and frames["others"]
        text = node.cli("status").stdout
        assert "airtime " in text and "keep-alives " in text and " heartbeats, " in text, text


def sums(counted, kind):
    kinds = ("mdns4", "mdns6") if kind == "multicast" else ("mdns-unicast",)
    return [sum(counted.get(name, [0, 0])[place] for name in kinds) for place in (0, 1)]
