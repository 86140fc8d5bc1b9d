"""The back-up of a node: made while it runs, put back after the data directory is lost."""

import os
import shutil

from slix import Slix, befriend


def test_a_lost_node_comes_back_from_its_back_up(nodes):
    """Contact list, password and a message that waits are there, and messages go both ways."""
    for node, name in zip(nodes, ("alice", "bob")):
        node.add_account(name)
        node.start()
    here, there = nodes
    alice, bob = people = [Slix(node.host, name) for node, name in zip(nodes, ("alice", "bob"))]
    for person in people:
        person.login(person.name, sm=True)
    befriend(*people)
    assert here.cli("contact", "add", bob.jid, "--account", "alice", "--name", "Bob of the next village").returncode == 0
    there.stop()
    alice.do("send", to=bob.jid, body="waits", id="waits-", first=1, count=1)
    alice.wait("acked", 10)
    file = os.path.join(here.host.home, "alice.backup")
    made = here.ask("backup", file)
    assert made["entries"] > 5 and os.stat(file).st_mode & 0o777 == 0o600
    refused = here.cli("backup", file)
    assert refused.returncode == 4 and "exists" in refused.stderr, refused.stderr
    assert here.cli("restore", file).returncode == 6, "a node holds the directory"
    assert "private keys" in here.cli("backup", file + "-later").stdout
    alice.close()
    here.kill()
    refused = here.cli("restore", file)
    assert refused.returncode == 4 and "nothing was restored" in refused.stderr, refused.stderr
    shutil.rmtree(here.data)
    with open(file, "rb") as whole, open(file + "-cut", "wb") as cut:
        cut.write(whole.read()[:-100])
    refused = here.cli("restore", file + "-cut")
    assert refused.returncode == 5 and "cut off" in refused.stderr and not os.path.exists(here.data), refused.stderr
    assert here.ask("restore", file) == {**made, "accounts": ["alice"]}
    for node in nodes:
        node.start()
    alice = Slix(here.host, "alice again")
    alice.login("alice", sm=True)
    assert alice.jid == people[0].jid
    assert alice.do("roster")[bob.jid]["name"] == "Bob of the next village"
    bob.wait("message", 30, id="waits-1")
    for sender, receiver in ((alice, bob), (bob, alice)):
        sender.do("send", to=receiver.jid, body="and on", id="on-", first=1, count=3)
        receiver.wait("message", 30, id="on-3", sender=sender.jid)
        assert receiver.ids("on-") == ["on-1", "on-2", "on-3"]
    assert bob.ids("waits-") == ["waits-1"]
