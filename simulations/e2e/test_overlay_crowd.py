"""Twenty nodes in three networks joined by routers: found by address, asked, answered and seen, whoever is online when, while others die."""

import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import pytest

from netns import MASQUERADE, Subnets
from node import OVERLAY, Node
from slix import Slix, befriend
from waiting import until

COUNT = 20
# Hosts behind a router that lets nobody in: those of Dave and of Erin.
BEHIND = {10: MASQUERADE, 14: MASQUERADE}
# Where people live: in networks 1, 2, 3, 1, 2 and 3. The others have no accounts.
HOMES = {"alice": 0, "bob": 4, "carol": 8, "dave": 9, "erin": 13, "frank": 17}
# In so many seconds each holder has looked whether others hold the same, and given up on one that died under its hands.
ROUND = 32
SETTINGS = """[overlay]
table = "{table}"
public_networks = ["10.80.0.0/16"]
bootstrap = ["/ip4/10.80.2.2/tcp/{port}", "/ip4/10.80.3.2/tcp/{port}"]
repair_seconds = 10
[link]
mode = "off"
"""


class Crowd:
    """The nodes, and whose home each is."""

    def __init__(self, lab):
        table = lambda host: "auto" if host.number in BEHIND else "server"
        self.nodes = [Node(host, settings=SETTINGS.format(port=OVERLAY, table=table(host))) for host in lab.hosts]
        self.home = {name: self.nodes[number] for name, number in HOMES.items()}
        self.clients = {}
        with ThreadPoolExecutor(2) as several:
            self.address = dict(zip(HOMES, several.map(lambda name: self.home[name].add_account(name), HOMES)))
        for node in self.nodes:
            node.start(wait=0)
        for node in self.nodes:
            node.wait_ready(60)

    def comes(self, name):
        """A person starts the laptop and logs in."""
        if not self.home[name].running():
            self.home[name].start(60)
        client = self.clients[name] = Slix(self.home[name].host, name)
        client.login(name, seconds=60)
        return client

    def goes(self, name):
        if client := self.clients.pop(name, None):
            client.close()
        if self.home[name].running():
            self.home[name].stop()

    def living(self):
        return [node for node in self.nodes if node.running()]

    def mail(self):
        """What each living node holds for others."""
        with ThreadPoolExecutor(4) as several:
            return dict(zip(self.living(), several.map(lambda node: node.ask("status")["trees"]["mail"][0], self.living())))

    def held(self, name):
        """Of what somebody sends, how many nodes hold the part that the fewest hold."""
        return min((entry["held"] for entry in self.home[name].ask("outbox")), default=0)


def millis(node, address):
    """How long a look-up took, once the record is there and every signature fits."""
    steps = node.ask("lookup", address)["steps"]
    found = steps and any(value["counts"] for value in steps[0]["values"])
    return steps[0]["millis"] if found else None


def kill_holders(crowd, count):
    """Kill, one after another, nodes that hold something; the others have time to look for it between."""
    for _ in range(count):
        mail = crowd.mail()
        holder = max((node for node in mail if node not in crowd.home.values()), key=mail.get)
        assert mail[holder] > 0, "nobody holds anything"
        holder.kill()
        # Copies may be more than three, so their number does not say when it is made up for.
        at = time.monotonic()
        made_up = lambda: time.monotonic() >= at + ROUND and sum(held > 0 for held in crowd.mail().values()) >= 3
        until(made_up, 90, "three holders again", every=1)
        print(f"{holder.host.name} killed; held:", {node.host.name: held for node, held in crowd.mail().items() if held}, flush=True)


def never_together(crowd, asker, asked, figure, dying=(0, 0)):
    """One asks the other, who answers; there is no moment at which both are there, and what holds the mail dies meanwhile."""
    begin = time.monotonic()
    crowd.goes(asked)
    crowd.comes(asker).subscribe(crowd.address[asked])
    until(lambda: crowd.held(asker) >= 3, 60, f"{asker}'s request at three nodes", every=0.5)
    crowd.goes(asker)
    kill_holders(crowd, dying[0])
    client = crowd.comes(asked)
    client.wait("presence", 90, type="subscribe", sender=crowd.address[asker])
    client.accept(crowd.address[asker])
    until(lambda: crowd.held(asked) >= 3, 60, f"{asked}'s answer at three nodes", every=0.5)
    crowd.goes(asked)
    kill_holders(crowd, dying[1])
    client = crowd.comes(asker)
    granted = lambda: client.do("roster").get(crowd.address[asked], {}).get("subscription") == "to"
    until(granted, 90, f"{asked}'s answer", every=0.5)
    figure(f"{asker} asked {asked}, and was answered, in {time.monotonic() - begin:.0f} s; {sum(dying)} nodes killed meanwhile")


@pytest.mark.long
def test_twenty_nodes_in_three_networks_two_behind_nat(labs, figure):
    """Everything that two people do who have never met, with a third of the nodes killed on the way."""
    begin = time.monotonic()
    crowd = Crowd(labs(COUNT, "ipv4", lambda count, kind: Subnets(count, kind, BEHIND)))
    figure(f"{COUNT} nodes up after {time.monotonic() - begin:.0f} s")
    # Who comes while the tables fill leaves its record with those it has met till then, and nearer ones get it in time.
    addresses = list(crowd.address.values())
    wanted = {node: addresses[number % len(addresses)] for number, node in enumerate(crowd.nodes)}
    for node, address in wanted.items():
        until(lambda: millis(node, address) is not None, 90, f"{address} at {node.host.name}", every=0.5)
    figure(f"found from everywhere {time.monotonic() - begin:.0f} s after the start")
    took = [millis(node, address) for node, address in wanted.items()]
    figure(f"found by address in {median(took):.0f} ms (median of {len(took)}, {max(took)} at most)")
    assert median(took) < 1_000

    alice, bob = crowd.comes("alice"), crowd.comes("bob")
    at = time.monotonic()
    befriend(alice, bob, 90)
    figure(f"added, answered and seen, both ways, after {time.monotonic() - at:.0f} s")
    for sender, receiver in ((alice, bob), (bob, alice)):
        at = time.monotonic()
        sender.do("send", to=receiver.jid, body="hello", id=f"from-{sender.name}")
        receiver.wait("message", 30, id=f"from-{sender.name}")
        sender.do("presence", show="dnd", status="busy")
        receiver.wait("presence", 30, after=at, sender=sender.jid, show="dnd", status="busy")
        figure(f"{sender.name}'s message and status there after {time.monotonic() - at:.1f} s")

    never_together(crowd, "carol", "dave", figure)
    never_together(crowd, "erin", "frank", figure, dying=(4, 3))
    killed = [node for node in crowd.nodes if not node.running() and node not in crowd.home.values()]
    assert 3 * len(killed) >= COUNT
    figure(f"all in {time.monotonic() - begin:.0f} s")
