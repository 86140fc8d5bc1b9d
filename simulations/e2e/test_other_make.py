"""A peer of another make: js-libp2p meets a node, identifies and pings it, and finds a user in its hash table."""

import hashlib
import json
import os
import shutil
import subprocess

import pytest

from conftest import unavailable
from netns import HERE
from node import OVERLAY, Node
from waiting import until

INTEROP = os.path.join(HERE, "..", "interop")
# Where simulations/test has npm put js-libp2p.
INSTALLED = os.path.normpath(os.path.join(HERE, "..", "..", "target", "interop"))
SETTINGS = """[overlay]
mdns = false
table = "server"
public_networks = ["10.77.0.0/16"]
bootstrap = ["/ip4/10.77.0.1/tcp/{port}"]
[link]
mode = "off"
"""
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def peer_id(node):
    """A node's libp2p peer id: base58 of an identity multihash over its key (Protobuf: type Ed25519, 32 bytes)."""
    number, text = int("002408011220" + node, 16), ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return "1" + text


@pytest.fixture
def table(labs):
    """Two nodes that hold the hash table, and a user of the first."""
    if not shutil.which("node") or not os.path.isdir(os.path.join(INSTALLED, "node_modules", "libp2p")):
        unavailable("js-libp2p is not installed: simulations/test does that where npm reaches its registry")
    lab = labs(3, "ipv4")
    nodes = [Node(host, settings=SETTINGS.format(port=OVERLAY)) for host in lab.hosts[:2]]
    address = nodes[0].add_account("alice")
    for node in nodes:
        node.start()
    return lab, nodes, address


def js(host, *words):
    """`node other_make.mjs WORDS` in a host."""
    for name in ("other_make.mjs", "user_record.mjs"):
        shutil.copy(os.path.join(INTEROP, name), INSTALLED)
    done = host.run([shutil.which("node"), os.path.join(INSTALLED, "other_make.mjs"), *words], seconds=60)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


def test_js_libp2p_meets_a_node_and_verifies_a_user_record(table, figure):
    lab, nodes, address = table
    user = address[2:66]
    until(lambda: any(value["counts"] for step in nodes[1].ask("lookup", address)["steps"] for value in step["values"]), 60, "alice's record")
    node = nodes[1].ask("status")["node"]
    seen = js(lab.hosts[2], f"/ip4/{lab.hosts[1].address}/tcp/{OVERLAY}/p2p/{peer_id(node)}", user)
    assert seen["agentVersion"].startswith("crosstalk/") and seen["protocolVersion"] == "crosstalk/1"
    assert seen["encryption"] == "/noise" and seen["muxer"] == "/yamux/1.0.0"
    assert {"/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", "/crosstalk/kad/1", "/crosstalk/link/1"} <= set(seen["protocols"])
    assert peer_id(node) in seen["closest"]
    assert seen["held"] and all(len(held["devices"]) == 1 for held in seen["held"])
    assert seen["unnoticed"] == [], "altered bytes are noticed"
    key = hashlib.sha256(b"crosstalk/1/dht/user\0" + bytes.fromhex(user)).hexdigest()
    figure(f"js-libp2p was answered in {seen['ping']} ms, asked {len(seen['closest'])} nodes, and got alice's record "
           f"({len(seen['held'][0]['value']) // 2} bytes, at {key[:8]}…) from {len(seen['held'])} of them")


def test_what_has_ended_or_was_revoked_does_not_count_there_either():
    """`user_record.mjs`, which the test above trusts, against the vectors."""
    program = shutil.which("node") or unavailable("Node.js is not installed: simulations/test does that")
    done = subprocess.run([program, "--test", os.path.join(INTEROP, "user_record.test.mjs")], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
