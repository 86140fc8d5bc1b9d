"""A small crowd, measured against the same number of libpurple hosts; `simulations/bench/link-airtime` measures large ones."""

import pytest

from airtime import CROWDS, Measurement, bytes_of

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
