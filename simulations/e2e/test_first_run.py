"""The very first start: the node makes what it needs and says once, on the terminal, how to log in."""

import os
import re
import stat

import pytest

from node import XMPP, Node, binary
from slix import Slix
from terminal import Terminal
from waiting import until


@pytest.fixture
def first(nodes):
    """`crosstalk run` on a terminal, in an empty home."""
    def run():
        return Terminal(nodes[0].host, [binary(), "run", "--data", nodes[0].data])
    return run


def said(terminal, label):
    """The value on the line that names `label`."""
    found = until(lambda: re.search(rf"^ *{label}:? +(\S.*?) *\r?\n", terminal.transcript, re.I | re.M), 20,
                  lambda: f"{label!r} in what it printed:\n{terminal.transcript}")
    return found.group(1)


def test_what_it_prints_is_enough_to_log_in(node, first):
    terminal = first()
    password, login = said(terminal, "password"), said(terminal, "address")
    assert said(terminal, "recovery code")
    until(lambda: node.host.listens(XMPP), 20, "the node listening")
    client = Slix(node.host, "person")
    client.login(login, password)
    assert re.fullmatch(r"00[0-9a-f]{64}@id\.internal", client.jid)
    assert password not in read(node.data), "the password must not be stored"


def test_the_password_is_printed_once(node, first):
    terminal = first()
    password, recovery = said(terminal, "password"), said(terminal, "recovery code")
    until(lambda: node.host.listens(XMPP), 20, "the node listening")
    terminal.close()
    again = first()
    until(lambda: node.host.listens(XMPP), 20, "the node listening again")
    assert password not in again.transcript and recovery not in again.transcript


def test_no_secret_goes_to_a_log(node):
    """Started without a terminal (a service), it must not put the password where logs are kept."""
    node.start(level="trace")
    until(lambda: "Ready" in node.log(), 20, "the node saying that it is ready")
    assert not re.search(r"^ *(password|recovery code):? +\S", node.log(), re.I | re.M)


def test_keys_are_readable_by_their_owner_only(node):
    node.add_account("alice")
    node.start()
    assert [path for path in [node.data, *files(node.data)] if stat.S_IMODE(os.stat(path).st_mode) & 0o077] == []


def test_two_nodes_on_one_data_directory(nodes):
    node = nodes[0].start()
    second = Node(node.host)
    second.process = node.host.popen([binary(), "run", "--data", node.data], stdin=-3, stdout=-3, stderr=-1, text=True)
    _, errors = second.process.communicate(timeout=20)
    assert second.process.returncode not in (0, None) and "panicked" not in errors and errors.strip()
    assert node.running()


def test_an_orderly_end(node):
    node.start()
    assert node.stop() == 0
    assert "panicked" not in node.log()


def files(folder):
    return [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names]


def read(folder):
    """All bytes under a folder, as text."""
    return "".join(open(path, "rb").read().decode("latin-1") for path in files(folder) if os.path.isfile(path))
