"""A conversation goes on while the people in it change places: link, overlay, relay, mailbox; nothing is lost, repeated or out of order."""

import threading
import time

import pytest

from netns import Roads
from node import OVERLAY, Node
from slix import Slix, befriend, see_nearby
from waiting import until

MESSAGES, INTERVAL = 1_000, 0.1
SETTINGS = """[overlay]
table = "{table}"
public_networks = ["10.80.0.0/16"]
bootstrap = ["/ip4/10.80.1.2/tcp/{port}"]
"""


class Talk(threading.Thread):
    """One says numbers to the other until told to stop, and until it has said enough."""

    def __init__(self, sender, receiver):
        super().__init__(daemon=True)
        self.sender, self.receiver, self.said, self.over = sender, receiver, 0, threading.Event()
        self.name = f"{sender.name}-"
        self.start()

    def run(self):
        while self.said < MESSAGES or not self.over.is_set():
            self.said += 1
            try:
                self.sender.do("send", to=self.receiver.jid, body=f"number {self.said}", id=f"{self.name}{self.said}")
            except (ValueError, BrokenPipeError):  # the test is over, and has failed
                return
            time.sleep(INTERVAL)

    def heard_since(self, moment, seconds):
        """When the first message arrived that was written after this moment."""
        def first():
            new = {said["id"] for said in self.sender.all("sent") if said["at"] > moment}
            return next((m["at"] for m in self.receiver.all("message", sender=self.sender.jid) if m["id"] in new), None)
        return until(first, seconds, f"a message of {self.sender.name}'s to {self.receiver.name}", every=0.1)

    def got(self):
        return self.receiver.ids(self.name)

    def settle(self, seconds):
        """Everything that was said has arrived, once and in order."""
        self.over.set()
        self.join(seconds + MESSAGES * INTERVAL)
        assert not self.is_alive()
        wanted = [f"{self.name}{number}" for number in range(1, self.said + 1)]
        until(lambda: self.name + str(self.said) in self.got(), seconds, lambda: f"the last of {self.said}: {self.got()[-1:]} is there")
        got = self.got()
        missing = [message for message in wanted if message not in set(got)]
        assert got == wanted, f"{len(got)} came of {self.said}, {len(set(got))} different, missing {missing[:9]}"


class People:
    """Alice and Bob on a link, and three nodes elsewhere that know the way, relay, and hold mail."""

    def __init__(self, lab):
        self.lab = lab
        others, homes = lab.hosts[:3], lab.hosts[3:]
        for host in others:
            lab.move(host, "open")
        self.nodes = [Node(host, settings=SETTINGS.format(table="auto" if host in homes else "server", port=OVERLAY)) for host in lab.hosts]
        for node, name in zip(self.nodes[3:], ("alice", "bob")):
            node.add_account(name)
        for node in self.nodes:
            node.start()
        self.alice, self.bob = (Slix(host, name) for host, name in zip(homes, ("alice", "bob")))
        for client in (self.alice, self.bob):
            client.login(client.name)
        see_nearby(self.alice, self.bob.jid)
        befriend(self.alice, self.bob)
        for node, other in ((self.nodes[3], self.bob), (self.nodes[4], self.alice)):
            until(lambda: self.found(node, other.jid), 60, f"{other.name} in the table", every=0.2)
            until(lambda: self.places(node), 90, f"a place at a relay for {node.host.name}", every=0.2)

    @staticmethod
    def found(node, jid):
        """Whether `crosstalk lookup` finds where somebody is."""
        steps = node.ask("lookup", jid)["steps"]
        return len(steps) > 1 and all(any(value["counts"] for value in step["values"]) for step in steps)

    @staticmethod
    def places(node):
        return [place for place in node.ask("status")["reach"]["relays"] if place["since"]]

    def path(self):
        """How Bob's node is connected to Alice's now."""
        alice = self.nodes[3].ask("status")["node"]
        ways = [peer["address"] for peer in self.nodes[4].ask("peers") if peer["connected"] and peer["node"] == alice]
        if not ways:
            return None
        near = ways[0].startswith("/ip6zone") or self.bob.host.address.startswith("10.77.") and "/10.77." in ways[0]
        return "relay" if "p2p-circuit" in ways[0] else "link" if near else "direct"


@pytest.fixture
def people(labs):
    return People(labs(5, "dual", Roads))


def test_a_conversation_survives_every_change_of_its_path(people, figure):
    lab, alice, bob = people.lab, people.alice, people.bob
    talks = [Talk(alice, bob), Talk(bob, alice)]

    def passed(path, moment):
        """The conversation goes on by this path: how long it was interrupted."""
        gaps = [talk.heard_since(moment, 90) - moment for talk in talks]
        until(lambda: people.path() == path, 60, lambda: f"{path}, not {people.path()}", every=0.2)
        figure(f"{path}: {gaps[0]:.1f} s until Bob heard Alice, {gaps[1]:.1f} s until Alice heard Bob")

    def moved(place, path):
        moment = time.monotonic()
        lab.move(bob.host, place)
        passed(path, moment)

    passed("link", time.monotonic())
    moved("open", "direct")
    moved("hidden", "relay")
    by_mailbox(people, figure)
    moment = time.monotonic()
    lab.arrive(alice.host, "link")
    lab.move(bob.host, "link")
    passed("link", moment)
    moved("open", "direct")
    moved("link", "link")
    for talk in talks:
        talk.settle(120)


def by_mailbox(people, figure):
    """Bob is nowhere while Alice writes; then she is, and he gets it all the same."""
    lab, alice, bob = people.lab, people.alice, people.bob
    lab.leave(bob.host)
    left = time.monotonic()
    until(lambda: [entry for entry in people.nodes[3].ask("outbox") if "mailboxes" in entry["waits"]], 120, "Alice's messages in mailboxes", every=1)
    figure(f"mailbox: the first message is in {time.monotonic() - left:.1f} s after he left")
    lab.leave(alice.host)
    moment = time.monotonic()
    lab.arrive(bob.host, "hidden")
    at = bob.wait("message", 60, after=moment, sender=alice.jid)["at"]
    figure(f"mailbox: out of it {at - moment:.1f} s after he came back, while she is not there")
