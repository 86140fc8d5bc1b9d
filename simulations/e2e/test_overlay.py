"""People on different networks, with routers and no multicast between: found by address, asked and answered."""

import time

import pytest

from netns import Routed
from node import OVERLAY, Node
from slix import Slix
from waiting import until

SETTINGS = """[overlay]
mdns = false
table = "server"
public_networks = ["10.80.0.0/16"]
bootstrap = ["/ip4/10.80.1.2/tcp/{port}"]
[link]
mode = "off"
"""


@pytest.fixture
def far(labs):
    """Five nodes, each in a network of its own; the first is the one that the others begin at."""
    lab = labs(5, "ipv4", Routed)
    nodes = [Node(host, settings=SETTINGS.format(port=OVERLAY)) for host in lab.hosts]
    addresses = {name: node.add_account(name) for name, node in zip(("alice", "bob"), nodes[1:])}
    for node in nodes:
        node.start()
    return nodes, addresses


def found(node, address):
    """What `crosstalk lookup` says, once the record is there and every signature fits."""
    lookup = node.ask("lookup", address)
    records = [value for step in lookup["steps"][:1] for value in step["values"]]
    return lookup if any(value["counts"] for value in records) else None


def test_strangers_find_each_other_and_ask_and_answer_by_mailboxes(far, figure):
    """Neither knows where the other is: requests and answers wait at other nodes until they are fetched."""
    nodes, addresses = far
    begin = time.monotonic()
    lookup = until(lambda: found(nodes[1], addresses["bob"]), 60, "bob's record")
    step = lookup["steps"][0]
    figure(f"found {time.monotonic() - begin:.1f} s after the start; the look-up took {step['millis']} ms, {step['asked']} nodes asked")
    alice, bob = (Slix(node.host, name) for node, name in zip(nodes[1:], ("alice", "bob")))
    for client in (alice, bob):
        client.login(client.name)
    for asker, asked in ((alice, bob), (bob, alice)):
        begin = time.monotonic()
        asker.subscribe(asked.jid)
        asked.wait("presence", 90, after=begin, type="subscribe", sender=asker.jid)
        figure(f"{asker.name}'s request arrived after {time.monotonic() - begin:.1f} s")
        asked.accept(asker.jid)
        asker.wait("presence", 90, after=begin, type="subscribed", sender=asked.jid)
        figure(f"{asked.name}'s answer after {time.monotonic() - begin:.1f} s")
