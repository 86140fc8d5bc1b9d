"""The power fails while a node writes: what it had acknowledged is on the disk.

The node's data lies on a file system of its own on a loop device. While the node is stopped for a moment, the image below
that file system is copied: it holds what had been written out, and nothing of what was still in memory. The copy is then
mounted in another host and a node started on it.
"""

import os
import shutil
import statistics

import pytest

from node import Node
from slix import Slix
from writers import Writer
from conftest import unavailable

CUTS = int(os.environ.get("CROSSTALK_CUTS") or 30)


def mount(host, image):
    """Mount an image in this host only, as the folder `disk` of its home."""
    folder = os.path.join(host.home, "disk")
    os.makedirs(folder, exist_ok=True)
    done = host.run(["mount", "-o", "loop", image, folder])
    if done.returncode:
        unavailable(f"loop devices: {done.stderr.strip()}")


@pytest.fixture
def image(lab):
    path = os.path.join(lab.root, "disk.img")
    with open(path, "wb") as file:
        file.truncate(96 << 20)
    assert lab.hosts[0].run(["mkfs.ext4", "-q", path]).returncode == 0
    return path


def revive(host, image, writer, acknowledged):
    """Start from the copied image, as a machine after a power cut does, and compare; returns the seconds to be ready."""
    mount(host, image)
    node = Node(host, data="disk/data")
    node.start()
    ready = node.wait_ready()
    people = [Slix(host, name) for name in ("alice", "bob")]
    for person in people:
        person.login(person.name)
    alice, bob = people
    writer.check_contacts(alice.do("roster"))
    last = f"n{writer.sent + 1}"
    alice.do("send", to=bob.jid, body="end", id=last)
    bob.wait("message", 60, id=last)
    writer.check_messages(bob.ids("n"), acknowledged)
    for person in people:
        person.close()
    node.kill()
    assert host.run(["umount", os.path.join(host.home, "disk")]).returncode == 0
    return ready


def test_acknowledged_changes_survive_power_cuts(lab, image, nodes, chance, figure):
    """Each copy is checked on the second host, whose cable is out: there is only one alice."""
    here, there = lab.hosts
    lab.cable(there, up=False)
    mount(here, image)
    node = Node(here, data="disk/data")
    node.add_account("alice")
    bob = node.add_account("bob")
    node.start()
    alice = Slix(here, "alice")
    alice.login("alice")
    writer, ready, copy = Writer(alice, bob), [], os.path.join(lab.root, "copy.img")
    for _ in range(CUTS):
        writer.write(chance, seconds=chance.uniform(0.05, 0.5), messages=5)
        node.freeze()
        writer.collect()
        acknowledged = writer.received()
        shutil.copyfile(image, copy)
        ready.append(revive(there, copy, writer, acknowledged))
        node.freeze(False)
        answered = alice.ping(seconds=30)
        assert answered["type"] == "result"
    figure(f"{CUTS} power cuts; acknowledged: {writer.acknowledged} of {writer.changes} contact changes, {len(acknowledged)} of {writer.sent} messages; "
           f"ready again in {statistics.median(ready):.2f} s (median), {max(ready):.2f} s at most")
    assert min(writer.acknowledged, len(acknowledged)) > CUTS // 2, "too little was acknowledged to prove anything"
