"""SIGKILL while accounts, contacts and messages are being written: what was acknowledged is there after the restart."""

import os
import statistics
import subprocess
import time

from node import binary
from slix import Slix
from writers import Writer

KILLS = int(os.environ.get("CROSSTALK_KILLS") or 100)


def add_account(node, name):
    """`crosstalk account add` beside the running node."""
    process = node.host.popen([binary(), "account", "add", name, "--password-stdin", "--data", node.data],
                              stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
    process.stdin.write("secret\n")
    process.stdin.close()
    return process


def test_acknowledged_changes_survive_sigkill(node, chance, figure):
    node.add_account("alice")
    bob = node.add_account("bob")
    node.start()
    alice = Slix(node.host, "alice")
    alice.login("alice")
    writer, accounts, back = Writer(alice, bob), {}, []
    for kill in range(KILLS):
        adding = add_account(node, f"user{kill}") if kill % 4 == 0 else None
        writer.write(chance, seconds=chance.uniform(0.02, 0.4), messages=5)
        node.kill()
        killed = time.monotonic()
        if adding:
            accounts[f"user{kill}"] = adding.wait(30) == 0
        node.start()
        back.append(alice.wait("session", 60, after=killed)["at"] - killed)
        writer.collect()
        writer.check_contacts(alice.do("roster"))
    added = [name for name, acknowledged in accounts.items() if acknowledged]
    figure(f"{KILLS} kills; acknowledged: {writer.acknowledged} of {writer.changes} contact changes, {len(writer.received())} of {writer.sent} "
           f"messages, {len(added)} of {len(accounts)} accounts; back in {statistics.median(back):.2f} s (median), {max(back):.2f} s at most")
    assert min(writer.acknowledged, len(writer.received())) > KILLS // 2, "too little was acknowledged to prove anything"
    for name in added:
        assert node.address(name)
    reader = Slix(node.host, "bob")
    reader.login("bob")
    last = f"n{writer.sent + 1}"
    alice.do("send", to=bob, body="end", id=last)
    reader.wait("message", 60, id=last)
    writer.check_messages(reader.ids("n"), writer.received())
