"""A long conversation while cables are pulled, nodes die by SIGKILL and clients lose their connections."""

import collections
import statistics
import threading
import time

import pytest

from slix import Slix, befriend
from waiting import until

MESSAGES, KILLS, INTERVAL = 1000, 20, 0.03


class Faults:
    """Pulls and plugs the cable in the background until told to stop; then the cable is in."""

    def __init__(self, lab, host, chance):
        self.lab, self.host, self.chance, self.cuts = lab, host, chance, 0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        while not self.done.wait(self.chance.uniform(0.3, 2.0)):
            self.lab.cable(self.host, up=False)
            self.cuts += 1
            self.done.wait(self.chance.uniform(0.05, 2.5))
            self.lab.cable(self.host, up=True)

    def stop(self):
        self.done.set()
        self.thread.join()


@pytest.fixture
def friends(nodes):
    """alice and bob, each on their node, contacts of each other; the options say who uses XEP-0198."""
    def make(alice_sm=True, bob_sm=True):
        people = []
        for node, name, sm in zip(nodes, ("alice", "bob"), (alice_sm, bob_sm)):
            node.add_account(name)
            node.start()
            people.append(Slix(node.host, name))
            people[-1].login(name, sm=sm)
        befriend(*people)
        return people
    return make


def torture(lab, nodes, people, chance, figure):
    """The conversation and its faults; returns when everything sent and kept has arrived, after all faults."""
    alice, bob = people
    faults = Faults(lab, lab.hosts[1], chance)
    try:
        for sender, receiver in ((alice, bob), (bob, alice)):
            sender.do("send", to=receiver.jid, body="number ", id=f"{sender.name}-", first=1, count=MESSAGES, interval=INTERVAL)
        back, flight, drops = [], [], 0
        for _ in range(KILLS):
            # Random moments, spread over the conversation.
            time.sleep(chance.uniform(0.2, 1.8) * MESSAGES * INTERVAL / KILLS)
            if chance.random() < 0.3:
                chance.choice(people).do("drop")
                drops += 1
            flight.append(sum(len(s.all("sent")) - len(r.ids(f"{s.name}-")) for s, r in ((alice, bob), (bob, alice))))
            nodes[1].kill()
            killed = time.monotonic()
            nodes[1].start()
            back.append(bob.wait("session", 30, after=killed)["at"] - killed)
    finally:
        faults.stop()
    figure(f"{KILLS} kills, {faults.cuts} cable cuts, {drops} client connections dropped; client back {statistics.median(back):.2f} s after the kill (median), "
           f"{max(back):.2f} s at most; messages on their way at a kill: median {statistics.median(flight):.0f}, most {max(flight)}")


def settle(sender, receiver, seconds=90):
    """Everything sent has been acknowledged (if it can be), and an end marker sent after it has arrived."""
    until(lambda: sender.do("counts") == {"fed": MESSAGES, "unsent": 0, "unacked": 0}, seconds,
          lambda: f"acknowledgements to {sender.name}: {sender.do('counts')}")
    sender.do("send", to=receiver.jid, body="end", id=f"{sender.name}-end")
    receiver.wait("message", seconds, id=f"{sender.name}-end")


def test_every_message_exactly_once_and_in_order(lab, nodes, friends, chance, figure):
    """With XEP-0198 on both ends, resumption across the node's restart included."""
    people = friends()
    torture(lab, nodes, people, chance, figure)
    for sender, receiver in (people, reversed(people)):
        begin = time.monotonic()
        settle(sender, receiver)
        got = receiver.ids(f"{sender.name}-")
        missing, twice = losses(sender, got)
        figure(f"{sender.name} to {receiver.name}: {len(got) - 1} arrived, {len(missing)} missing, {len(twice)} twice; settled in {time.monotonic() - begin:.1f} s")
        assert got == [f"{sender.name}-{n}" for n in range(1, MESSAGES + 1)] + [f"{sender.name}-end"]
    sessions = people[1].all("session")
    figure(f"bob's {len(sessions) - 1} returns: {sum(s['resumed'] for s in sessions)} resumed, {len(people[1].all('sm-failed'))} refused")
    assert all(s["resumed"] for p in people for s in p.all("session")[1:]), "every session is resumed, across restarts too"


def losses(sender, got):
    """Numbers that never came, and those that came more than once."""
    count = collections.Counter(got)
    return [n for n in range(1, MESSAGES + 1) if not count[f"{sender.name}-{n}"]], [i for i, times in count.items() if times > 1]


def test_a_receiver_without_acknowledgements_misses_nothing(lab, nodes, friends, chance, figure):
    """Bob's client has no XEP-0198: to him never twice on an unbroken connection, at least once across a break, same id."""
    alice, bob = people = friends(bob_sm=False)
    torture(lab, nodes, people, chance, figure)
    settle(alice, bob)
    arrived = [m for m in bob.all("message", sender=alice.jid)]
    missing, twice = losses(alice, [m["id"] for m in arrived])
    figure(f"alice (XEP-0198) to bob (without): {len(arrived) - 1} arrivals of {MESSAGES}, {len(missing)} missing, {len(twice)} repeated after a break")
    assert not missing
    on_one = collections.Counter((m["connection"], m["id"]) for m in arrived)
    assert max(on_one.values()) == 1, "twice on one connection"
    assert all(m["body"] == "number " + m["id"].split("-")[1] for m in arrived if m["id"] != "alice-end"), "the id went with the text"
    first = list(dict.fromkeys(int(m["id"].split("-")[1]) for m in arrived if m["id"] != "alice-end"))
    assert first == sorted(first), "first arrivals are in order"
    check_unacknowledged_sender(bob, alice, figure)


def check_unacknowledged_sender(bob, alice, figure):
    """What a client without XEP-0198 wrote may be lost when its connection breaks, but only the last things it wrote on it."""
    settle(bob, alice)
    sent, got = bob.all("sent"), alice.ids("bob-")
    count = collections.Counter(got)
    assert max(count.values()) == 1, "twice"
    lost = [s for s in sent if not count[s["id"]]]
    figure(f"bob (without) to alice: {len(sent)} written, {len(lost)} lost in breaks of his connection")
    for connection in {s["connection"] for s in lost}:
        written = [s["id"] for s in sent if s["connection"] == connection]
        arrived = [id for id in written if count[id]]
        assert arrived == written[:len(arrived)], "a message was lost that was followed by one which arrived"
    assert not any(s["connection"] == sent[-1]["connection"] for s in lost), "lost on an unbroken connection"
    assert got == [s["id"] for s in sent if count[s["id"]]], "in order"
