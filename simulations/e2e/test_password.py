"""A password that is changed on a laptop, with and without the server: the next laptop is enrolled with the new one."""

import os
import time

from test_authority import ALICE, PASSWORD, client, enrol, enrolled, found, invite, refusal
from test_sync import server_of
from waiting import until

CHANGES = int(os.environ.get("CROSSTALK_KILLS") or 3)


def change(node, password, recovery):
    done = node.cli("account", "password", ALICE, "--password-stdin", "--recovery-stdin", "--json", password=f"{password}\n{recovery}")
    assert done.returncode == 0, done.stderr


def told(node):
    until(lambda: server_of(node)["password"] is None, 60, "the server to know the new password")


def lets_in(node, password):
    """Whether the server lets alice in with it, on a laptop that forgets her then."""
    done = enrol(node, ALICE, password)
    if done.returncode == 0:
        assert node.cli("account", "remove", ALICE, "--yes").returncode == 0
    return done.returncode == 0


def test_it_follows_when_the_server_is_met(labs, nodes_of, chance, figure):
    server, first, second = nodes = nodes_of(labs(3))
    for node in nodes:
        node.start()
    found(server)
    recovery = enrolled(first, invite(server, "alice"))["recovery"]
    server.stop()
    change(first, "quite another one", recovery)
    assert server_of(first)["password"] and "a new password waits for it" in first.cli("status").stdout
    assert client(first, ALICE, "quite another one").jid == ALICE
    first.kill()
    server.start()
    # Nobody has told it yet.
    assert lets_in(second, PASSWORD)
    first.start()
    began = time.monotonic()
    told(first)
    figure(f"the server knew the new password {time.monotonic() - began:.1f} s after it was met")
    assert "password" in refusal(enrol(second, ALICE, PASSWORD))
    enrolled(second, ALICE, "quite another one")
    assert client(second, ALICE, "quite another one").jid == ALICE
    assert second.cli("account", "remove", ALICE, "--yes").returncode == 0
    # Killed in between, again and again: always one of the two, and the new one in the end.
    before = "quite another one"
    for number in range(CHANGES):
        after = f"password number {number}"
        change(first, after, recovery)
        time.sleep(chance.uniform(0.0, 0.4))
        victim = (server, first)[number % 2]
        victim.kill()
        if victim is first:
            assert lets_in(second, after) or lets_in(second, before)
        victim.start()
        # It may be told between the two tries.
        assert lets_in(second, after) or lets_in(second, before) or lets_in(second, after)
        told(first)
        assert lets_in(second, after)
        before = after
