"""Garbage, floods and lies at the XMPP port: answered by the standard error or a close, at a bounded cost, disturbing nobody."""

import base64
import re
import time

import pytest

from node import XMPP
from slix import Slix
from waiting import until

HEADER = ("<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' "
          "to='id.internal' version='1.0'>")
MEBIBYTE = 1 << 20
MEMORY_MARGIN = 24 * 1024  # KiB that all the abuse of one test may add to the node's resident memory


class Raw:
    """A socket on the node's XMPP port that says whatever it is told to."""

    def __init__(self, host):
        self.socket, self.heard = host.connect(XMPP), b""

    def say(self, data):
        """Send; False when the node has hung up."""
        try:
            self.socket.sendall(data if isinstance(data, bytes) else data.encode())
            return True
        except OSError:
            return False

    def hear(self, pattern, seconds=10):
        """Read until the pattern stands in what was heard; None if the node closes or stays silent first."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern.encode(), self.heard)):
            if not self._read(deadline):
                return None
        return found

    def _read(self, deadline):
        self.socket.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return False
        except ConnectionError:
            data = b""
        self.heard += data
        return bool(data)

    def closed(self, seconds=10):
        """Whether the node hangs up within that time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                if not (data := self.socket.recv(65536)):
                    return True
                self.heard += data
            except ConnectionError:
                return True
            except TimeoutError:
                return False
        return False

    def login(self, name="mallory", password="secret"):
        """Open a stream, authenticate by PLAIN, bind; the address."""
        self.say(HEADER)
        assert self.hear("</stream:features>"), self.heard
        self.say("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + plain(name, password) + "</auth>")
        assert self.hear("<success"), self.heard
        self.heard = b""
        self.say(HEADER)
        assert self.hear("</stream:features>"), self.heard
        self.say("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
        found = self.hear("<jid>([^<]*)</jid>")
        assert found, self.heard
        self.heard = b""
        return found.group(1).decode()

    def close(self):
        self.socket.close()


def plain(name, password):
    return base64.b64encode(f"\0{name}\0{password}".encode()).decode()


@pytest.fixture
def witness(node):
    """A node with an undisturbed user: after the test the same session still works, and memory has stayed bounded."""
    for name in ("alice", "mallory"):
        node.add_account(name)
    node.start()
    client = Slix(node.host, "alice")
    client.login("alice", sm=False)
    before = node.memory()[0]
    yield client
    assert client.ping(seconds=30)["type"] == "result", "the other session still works"
    assert client.all("disconnected") == [], "the other session was disturbed"
    assert node.memory()[1] <= before + MEMORY_MARGIN, f"{before} KiB before, {node.memory()[1]} KiB at most"
    assert "panicked" not in node.log()


def stream_error(raw, *conditions):
    """The node says one of these stream errors (RFC 6120 section 4.9.3) and hangs up."""
    found = raw.hear("<stream:error[^>]*><([a-z-]+)")
    assert found, f"no stream error but {raw.heard[-300:]}"
    assert found.group(1).decode() in conditions, f"{found.group(1)}, wanted {conditions}"
    assert raw.closed(), "the node did not close"


DEEP = "<a>" * 10_000
BAD_STREAMS = {
    "not xml": ("GET / HTTP/1.1\r\n\r\n", ["not-well-formed", "bad-format"]),
    "unbalanced": (HEADER + "<iq></message>", ["not-well-formed"]),
    "document type": ("<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'aaaaaaaa'><!ENTITY b '&a;&a;&a;'>]>" + HEADER[21:], ["restricted-xml", "not-well-formed"]),
    "entity": (HEADER + "<iq>&bomb;</iq>", ["restricted-xml", "not-well-formed"]),
    "comment": (HEADER + "<!-- hello -->", ["restricted-xml"]),
    "processing instruction": (HEADER + "<?php evil?>", ["restricted-xml"]),
    "not utf-8": (HEADER.encode() + b"<iq id='\xff\xfe'/>", ["unsupported-encoding", "not-well-formed", "bad-format"]),
    "utf-16": ((HEADER).encode("utf-16"), ["unsupported-encoding", "not-well-formed", "bad-format"]),
    "control character": (HEADER + "<iq id='&#1;'/>", ["not-well-formed", "restricted-xml"]),
    "wrong stream namespace": (HEADER.replace("etherx.jabber.org/streams", "example.org/other"), ["invalid-namespace"]),
    "wrong content namespace": (HEADER.replace("'jabber:client'", "'jabber:server'"), ["invalid-namespace"]),
    "unknown host": (HEADER.replace("to='id.internal'", "to='other.example'"), ["host-unknown"]),
    "old version": (HEADER[:-14] + "version='0.9'>", ["unsupported-version"]),
    "undeclared prefix": (HEADER + "<x:iq/>", ["not-well-formed", "invalid-namespace", "bad-namespace-prefix"]),
    "stanza before login": (HEADER + "<message to='a@id.internal'><body>x</body></message>", ["not-authorized"]),
    "deep": (HEADER + DEEP, ["policy-violation", "not-authorized"]),
    "endless attribute": (HEADER + "<iq id='" + "x" * (4 * MEBIBYTE), ["policy-violation"]),
    "endless name": (HEADER + "<" + "x" * (4 * MEBIBYTE), ["policy-violation", "not-well-formed"]),
}


@pytest.mark.hosts(1)
@pytest.mark.parametrize("kind", BAD_STREAMS)
def test_a_bad_stream_is_refused_with_a_reason(witness, node, kind):
    text, conditions = BAD_STREAMS[kind]
    raw = Raw(node.host)
    raw.say(text)
    stream_error(raw, *conditions)


AFTER_LOGIN = {
    "deep": ("<message to='alice@id.internal'>" + DEEP, ["policy-violation"]),
    "huge": ("<message to='alice@id.internal'><body>" + "x" * (8 * MEBIBYTE), ["policy-violation"]),
    "ten thousand attributes": ("<message " + " ".join(f"a{n}='1'" for n in range(10_000)) + "/>", ["policy-violation"]),
    "unknown top element": ("<surprise xmlns='jabber:client'/>", ["unsupported-stanza-type"]),
    "foreign namespace": ("<message xmlns='jabber:server'/>", ["unsupported-stanza-type", "invalid-namespace"]),
    "text between stanzas": ("hello?", ["bad-format", "not-well-formed"]),
    "comment": ("<message><!-- x --></message>", ["restricted-xml"]),
    "entity": ("<message><body>&lol;</body></message>", ["restricted-xml", "not-well-formed"]),
    "not utf-8": (b"<message><body>\xc3\x28</body></message>", ["unsupported-encoding", "not-well-formed", "bad-format"]),
}


@pytest.mark.hosts(1)
@pytest.mark.parametrize("kind", AFTER_LOGIN)
def test_bad_input_after_login_ends_that_session_only(witness, node, kind):
    text, conditions = AFTER_LOGIN[kind]
    raw = Raw(node.host)
    raw.login()
    raw.say(text)
    stream_error(raw, *conditions)


@pytest.mark.hosts(1)
def test_a_forged_sender_reaches_nobody(witness, node):
    """RFC 6120 section 8.1.2.1: the server stamps `from`; a stanza with another's is refused or relabelled, never passed on."""
    raw = Raw(node.host)
    own = raw.login()
    raw.say(f"<message from='{witness.jid}' to='{witness.full}' type='chat' id='forged'><body>it is me</body></message>")
    raw.say(f"<message to='{witness.full}' type='chat' id='honest'><body>after</body></message>")
    if raw.hear("<invalid-from", 3):
        assert raw.closed()
        return
    witness.wait("message", id="honest")
    for message in witness.all("message"):
        assert message["from"] == own, f"forged: {message}"


@pytest.mark.hosts(1)
def test_stanza_errors_are_answered_and_the_session_goes_on(witness, node):
    raw = Raw(node.host)
    raw.login()
    wrong = []
    for sent, condition in {
            "<iq type='get' id='q1'><unknown xmlns='x:y'/></iq>": "service-unavailable",
            "<iq type='nonsense' id='q2'><x xmlns='x:y'/></iq>": "bad-request",
            "<iq type='get' id='q3'/>": "bad-request",
            "<iq type='get' id='q4' to='@@@'><x xmlns='x:y'/></iq>": "jid-malformed",
            "<iq type='set' id='q5'><query xmlns='jabber:iq:roster'><item/></query></iq>": "(bad-request|jid-malformed)",
            "<iq type='set' id='q6'><query xmlns='jabber:iq:roster'><item jid='a@b'/><item jid='c@d'/></query></iq>": "bad-request",
    }.items():
        raw.heard = b""
        raw.say(sent)
        if not raw.hear(f"<{condition}", 3):
            wrong.append(f"{sent} got {raw.heard}, wanted {condition}")
    assert not wrong, "\n".join(wrong)
    raw.say("<iq type='get' id='last'><ping xmlns='urn:xmpp:ping'/></iq>")
    assert raw.hear("id=['\"]last['\"]"), raw.heard


@pytest.mark.hosts(1)
def test_a_flood_of_wrong_passwords_costs_little(witness, node, figure):
    """Each is refused; the connection ends after a few; the right password still works afterwards."""
    begin, refused, connections = time.monotonic(), 0, 0
    while refused < 200 and time.monotonic() - begin < 20:
        raw = Raw(node.host)
        connections += 1
        raw.say(HEADER)
        assert raw.hear("</stream:features>"), raw.heard
        while refused < 200:
            raw.heard = b""
            raw.say("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + plain("mallory", f"guess{refused}") + "</auth>")
            if not raw.hear("<failure.*not-authorized|<failure.*temporary-auth-failure|<stream:error"):
                break
            refused += 1
            if b"<stream:error" in raw.heard:
                break
        raw.close()
    figure(f"{refused} wrong passwords on {connections} connections in {time.monotonic() - begin:.1f} s")
    assert witness.ping()["type"] == "result"
    until(lambda: signed_in(node), 60, "mallory's right password being accepted again")


def signed_in(node):
    raw = Raw(node.host)
    try:
        return raw.login()
    except AssertionError:
        return None
    finally:
        raw.close()


@pytest.mark.hosts(1)
def test_many_silent_and_slow_connections(witness, node, figure):
    """Idle connections, a byte at a time, half headers: others log in meanwhile, and the slow ones are hung up on in the end."""
    silent = []
    for _ in range(300):
        try:
            silent.append(Raw(node.host))
        except OSError:
            break  # refusing more is an answer too
    for number, raw in enumerate(silent):
        raw.say(HEADER[:number % len(HEADER)])
    begin = time.monotonic()
    late = Slix(node.host, "late")
    late.login("mallory", sm=False)
    figure(f"login took {time.monotonic() - begin:.2f} s beside {len(silent)} silent connections; resident {node.memory()[0]} KiB")
    until(lambda: all(raw.closed(0.01) for raw in silent), 90, "the silent connections being closed")
    figure(f"silent connections all closed within {time.monotonic() - begin:.0f} s")


@pytest.mark.hosts(1)
def test_a_client_that_stops_reading_is_let_go(witness, node, figure):
    """Its queue is bounded: the writers go on, and memory does not grow with what it does not read."""
    raw = Raw(node.host)
    lazy = raw.login()
    raw.say("<presence/>")
    text = "x" * 10_000
    for number in range(2000):
        witness.begin("send", to=lazy, body=text, id=f"f{number}")
    until(lambda: witness.do("counts", seconds=60)["unsent"] == 0, 120, "alice's messages being taken")
    assert witness.ping(seconds=60)["type"] == "result"
    figure(f"20 MB sent to a client that does not read; resident {node.memory()[0]} KiB, highest {node.memory()[1]} KiB")


@pytest.mark.hosts(1)
def test_truncated_logins_leave_nothing_behind(witness, node):
    """Connections cut at every point of a login."""
    script = (HEADER + "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + plain("mallory", "secret") + "</auth>").encode()
    for cut in range(0, len(script), 7):
        raw = Raw(node.host)
        raw.say(script[:cut])
        raw.close()
    assert signed_in(node)


@pytest.mark.hosts(1)
def test_garbage_at_the_overlay_port(witness, node):
    """Noise that is no handshake is hung up on."""
    for garbage in (b"\0" * 4096, b"\xff" * 65536, b"GET / HTTP/1.1\r\n\r\n", b"\x13/multistream/1.0.0\n" + b"\x7f" * 1000):
        connection = node.host.connect(14774, node.host.address)
        try:
            connection.sendall(garbage)
            connection.settimeout(30)
            while connection.recv(65536):
                pass
        except ConnectionError:
            pass
        connection.close()
