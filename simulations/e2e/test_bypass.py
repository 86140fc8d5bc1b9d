"""The bypass gateway: unmodified programs on their own networks, through the node; nothing is added, lost or let through beside."""

import os
import socket
import ssl
import threading

import pytest

from irc import PORT as IRC, Irssi, Ngircd, Weechat
from node import Node
from purple import Purple
from slix import Slix, befriend
from stock import PORT as XMPP, Ejabberd, Prosody
from waiting import until

GATE, STUB, FIGURES = 1080, 17000, 9522
ROMEO, JULIET, ROOM = "romeo@stock.example", "juliet@stock.example", "balcony@rooms.stock.example"
PROXY = f"socks5://127.0.0.1:{GATE}"
SI = ("<si xmlns='http://jabber.org/protocol/si' id='f1' profile='http://jabber.org/protocol/si/profile/file-transfer'>"
      "<file xmlns='http://jabber.org/protocol/si/profile/file-transfer' name='letter.txt' size='1022'/>"
      "<feature xmlns='http://jabber.org/protocol/feature-neg'><x xmlns='jabber:x:data' type='form'><field var='stream-method' type='list-single'>"
      "<option><value>http://jabber.org/protocol/bytestreams</value></option></field></x></feature></si>")


def gateway(host, *allow, more=""):
    """A node with the gateway on, not started."""
    return Node(host, settings=f"[bypass]\nlisten = ['127.0.0.1:{GATE}']\nallow = {list(allow)}\n{more}\n[metrics]\nlisten = ['127.0.0.1:{FIGURES}']\n")


def started(node):
    """The gateway opens behind the door for XMPP, and the port for figures last."""
    node.start()
    until(lambda: node.host.listens(GATE) and node.host.listens(FIGURES), 10, "the gateway")
    return node


def bypass(node):
    return node.ask("status")["bypass"]


@pytest.fixture(params=[Prosody, Ejabberd], ids=["prosody", "ejabberd"])
def kind(request):
    return request.param


def test_xmpp_users_keep_their_network(labs, kind):
    """libpurple by SOCKS 4 and slixmpp by SOCKS 5: contacts, messages, disco, a file offer and a room of the base server; then it is killed."""
    host = labs(1).hosts[0]
    romeo, juliet = Purple(host, "romeo"), Slix(host, "juliet")
    base, node = kind(host), gateway(host, f"xmpp://localhost:{XMPP}", f"xmpp://127.0.0.1:{XMPP}")
    started(node)
    base.start()
    first = Slix(host, "romeo")
    juliet.login(JULIET, port=XMPP, server="localhost", proxy=PROXY)
    first.login(ROMEO, port=XMPP, proxy=PROXY)
    befriend(first, juliet)
    first.do("logout")
    # The contact list and presence.
    romeo.login(ROMEO, port=XMPP, proxy=(4, "127.0.0.1", GATE))
    romeo.wait("buddy", 20, name=JULIET, online=True)
    here = juliet.wait("presence", 20, sender=ROMEO, type="available", **{"from": f"{ROMEO}/purple"})
    # Messages each way.
    romeo.do("send", to=JULIET, body="who is there? <&> \u2603")
    juliet.wait("message", 10, sender=ROMEO, body="who is there? <&> \u2603")
    juliet.do("send", to=ROMEO, body="it is I", id="j1")
    romeo.wait("message", 10, body="it is I")
    # Service discovery and a file offer, as between any two clients.
    assert "http://jabber.org/protocol/muc" in juliet.disco("rooms.stock.example")["xml"]
    assert "pidgin" in juliet.disco(here["from"])["xml"].lower()
    offer = juliet.begin("iq", type="set", xml=SI, to=here["from"], seconds=10)
    assert romeo.wait("offer", 10, name="letter.txt")["from"].startswith(JULIET)
    # A room of the base server.
    juliet.do("raw", xml=f"<presence xmlns='jabber:client' to='{ROOM}/juliet'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
    juliet.wait("presence", 10, **{"from": f"{ROOM}/juliet"})
    form = "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query>"
    assert juliet.iq("set", form, ROOM)["type"] == "result"
    romeo.do("join", room=ROOM, nick="romeo")
    juliet.wait("presence", 10, **{"from": f"{ROOM}/romeo"})
    until(lambda: romeo.do("inside", room=ROOM), 10, "romeo in the room")
    romeo.do("say", room=ROOM, body="my lady")
    juliet.wait("message", 10, type="groupchat", body="my lady", **{"from": f"{ROOM}/romeo"})
    juliet.do("raw", xml=f"<message xmlns='jabber:client' to='{ROOM}' type='groupchat'><body>my love</body></message>")
    romeo.wait("chat", 10, body="my love", room=ROOM)
    view = bypass(node)
    assert (view["open"], view["spoken"], view["alarms"], view["refused"]) == (2, {"xmpp": 3}, [], {}), view
    # Who it is, by the servers' word, as long as it lasts.
    assert sorted((user["address"], user["destination"]) for user in view["users"]) == [(JULIET, f"localhost:{XMPP}"), (ROMEO, f"127.0.0.1:{XMPP}")], view
    # The base server is killed: both are told by the end of their connections; and later that it is not there.
    base.process.kill()
    juliet.wait("disconnected", 10)
    romeo.wait("connection-error", 10)
    until(lambda: bypass(node)["refused"].get("connection refused"), 10, "the next try to be refused")
    view = bypass(node)
    assert view["open"] == 0 and view["users"] == [], view
    juliet.do("leave")
    juliet.close()
    assert offer and "not connected to localhost" in node.log()


def test_irc_users_keep_their_network(labs):
    """WeeChat by SOCKS 5 and irssi in a wrapper by SOCKS 4: login, a channel, messages in it and beside it, a topic; then the server is killed."""
    host = labs(1).hosts[0]
    base, node = Ngircd(host).start(), started(gateway(host, f"irc://127.0.0.1:{IRC}"))
    romeo, juliet = Weechat(host, "romeo", GATE), Irssi(host, "juliet", GATE)
    for client in (romeo, juliet):
        client.sees("welcome to the base network")
    romeo.enter("/join #balcony")
    romeo.sees("romeo.*has joined #balcony")
    juliet.enter("/join #balcony")
    romeo.sees("juliet.*has joined")
    romeo.enter("what light is that \u2603")
    juliet.sees("romeo.*what light is that \u2603")
    juliet.enter("/topic #balcony a garden")
    romeo.sees("juliet has changed topic.*a garden")
    juliet.enter("/msg romeo only for you")
    romeo.sees(r"\d\. +juliet")
    romeo.enter("/buffer juliet")
    romeo.sees("juliet.*only for you")
    view = bypass(node)
    assert (view["open"], view["spoken"], view["alarms"], view["refused"]) == (2, {"irc": 2}, [], {}), view
    base.kill()
    romeo.sees("irc: (disconnected|reading data|reconnecting)|connection closed|disconnected")
    juliet.enter("/window goto 1")
    juliet.sees("Connection lost to 127.0.0.1")
    until(lambda: bypass(node)["open"] == 0, 10, "both connections to end")


class Stub:
    """A base server of ours: what came in is kept, what is said is given. It runs here, its socket is the host's."""

    def __init__(self, host, says, context=None, address="127.0.0.1"):
        self.heard, self.says, self.context = b"", says, context
        self.listener = host.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((address, STUB))
        self.listener.listen(400)

    def serve(self):
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        return self

    def _serve(self):
        connection, _ = self.listener.accept()
        if self.context:
            connection = self.context.wrap_socket(connection, server_side=True)
        saying = threading.Thread(target=connection.sendall, args=(self.says,), daemon=True)
        saying.start()
        while more := connection.recv(65536):
            self.heard += more
        saying.join()
        connection.close()

    def close(self):
        self.listener.close()


def request_of(version, name, address):
    """A whole request for the stub, as a client says it that does not wait for answers, and how much comes before the server's first byte."""
    port, name, address = STUB.to_bytes(2, "big"), name.encode(), socket.inet_aton(address)
    return {"4": (b"\4\1" + port + address + b"\0", 8), "4a": (b"\4\1" + port + b"\0\0\0\1me\0" + name + b"\0", 8),
            "5": (b"\5\1\0\5\1\0\1" + address + port, 12), "5 name": (b"\5\2\2\0\5\1\0\3" + bytes([len(name)]) + name + port, 12)}[version]


def asked(host, version="5", name="localhost", address="127.0.0.1"):
    """A connection to the stub, through the gateway."""
    request, length = request_of(version, name, address)
    wire = host.connect(GATE)
    wire.sendall(request)
    reply = b""
    while len(reply) < length:
        more = wire.recv(length - len(reply))
        assert more, reply
        reply += more
    assert reply[-length if version[0] == "4" else 2:][1] in (0, 0x5a), reply
    return wire


def test_nothing_is_added_and_nothing_lost(labs, chance):
    """Whatever is said, what comes out is what went in, byte for byte: chat, nonsense, TLS. What is not understood is an alarm."""
    host = labs(1).hosts[0]
    node = started(gateway(host, f"xmpp://127.0.0.1:{STUB}", f"irc://localhost:{STUB}"))
    stream = b"<?xml version='1.0'?><stream:stream xmlns:stream='http://etherx.jabber.org/streams'>"
    openings = {"4": (stream, stream), "4a": (b"CAP LS 302\r\nNICK a\r\n", b":irc.example NOTICE * :hello\r\n"), "5": (b"\0\xff\1", b"\r\n\r\n"),
                "5 name": (b"GET / HTTP/1.1\r\n", b"HTTP/1.1 400 No\r\n")}
    for version, (client, server) in openings.items():
        out, back = client + chance.randbytes(300_000), server + chance.randbytes(500_000)
        stub = Stub(host, back).serve()
        wire = asked(host, version)
        writing = threading.Thread(target=lambda: (wire.sendall(out), wire.shutdown(socket.SHUT_WR)), daemon=True)
        writing.start()
        heard = b""
        while more := wire.recv(65536):
            heard += more
        stub.thread.join(10)
        stub.close()
        assert heard == back and stub.heard == out, version
    # TLS goes through to the server's own certificate.
    context, certificate = certified(host)
    stub = Stub(host, b":irc.example 001 a :welcome\r\n", context).serve()
    trusting = ssl.create_default_context(cafile=certificate)
    with trusting.wrap_socket(asked(host, "5 name"), server_hostname="irc.example") as wire:
        assert wire.recv(100) == b":irc.example 001 a :welcome\r\n"
    stub.close()
    view = bypass(node)
    assert view["spoken"] == {"xmpp": 1, "irc": 1, "tls": 1} and view["unknown"] == 2, view
    known = [(one["destination"], one["what"].split(",")[0], one["count"]) for one in view["alarms"]]
    begins = "the client begins as no protocol that is known"
    assert known == [(f"127.0.0.1:{STUB}", begins, 1), (f"127.0.0.1:{STUB}", "the server's XMPP cannot be read", 1), (f"localhost:{STUB}", begins, 1)], view
    shown = node.cli("status").stdout
    assert f"ALARM 127.0.0.1:{STUB}: the client begins as no protocol" in shown, shown


STREAM = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' from='stock.example' to='stock.example'>"


def test_a_client_that_claims_to_be_somebody_is_nobody(labs):
    """It says `from`, success and binding itself, and writes to itself what a server would say: the server alone is believed."""
    host = labs(1).hosts[0]
    base, node = Prosody(host), gateway(host, f"xmpp://127.0.0.1:{XMPP}")
    started(node)
    base.start()
    forged = (STREAM + "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>" + STREAM +
              f"<iq type='result' from='{ROMEO}'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>{ROMEO}/x</jid></bind></iq>").encode()
    request, length = request_of("5", "", "127.0.0.1")
    with host.connect(GATE) as wire:
        wire.sendall(request[:-2] + XMPP.to_bytes(2, "big") + forged)
        heard = b""
        while b"</stream:stream>" not in heard:
            heard += wire.recv(4096)
        view = bypass(node)
    assert view["users"] == [] and b"error" in heard[length:], (view, heard)
    romeo = Slix(host, "romeo")
    romeo.login(ROMEO, port=XMPP, proxy=PROXY)
    assert [user["address"] for user in bypass(node)["users"]] == [ROMEO]
    romeo.do("logout")
    until(lambda: bypass(node)["users"] == [], 10, "nobody to be left")


def certified(host):
    """A server's context with a certificate of its own for irc.example, and the file that it is in."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "irc.example")])
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
            .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("irc.example")]), False).sign(key, hashes.SHA256()))
    path = os.path.join(host.home, "irc.pem")
    with open(path, "wb") as file:
        file.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        file.write(made.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context, path


def test_a_name_is_looked_up_by_either(labs):
    """The node looks up names; who did so itself asks for the address, which counts as far as a listed name leads there."""
    host = labs(1).hosts[0]
    names = os.path.join(host.home, "hosts")
    with open(names, "w", encoding="ascii") as file:
        file.write(f"127.0.0.1 localhost\n{host.address} chat.example\n192.168.9.9 trap.example\n")
    assert host.run(["mount", "--bind", names, "/etc/hosts"]).returncode == 0
    listed = [f"any://{name}:{STUB}" for name in ("trap.example", "nobody.example", "chat.example")]
    node = started(gateway(host, *listed, more="[overlay]\npublic_networks = ['10.77.0.0/24']"))
    for version in ("4", "4a", "5", "5 name"):
        stub = Stub(host, b"hello", address=host.address).serve()
        with asked(host, version, "chat.example", host.address) as wire:
            wire.shutdown(socket.SHUT_WR)
            assert wire.recv(100) == b"hello", version
        stub.close()
    for name in ("trap.example", "nobody.example", "other.example"):
        with host.connect(GATE) as wire:
            wire.sendall(request_of("4a", name, "0.0.0.0")[0])
            assert wire.recv(100)[:2] == b"\0\x5b", name
    with host.connect(GATE) as wire:
        wire.sendall(request_of("4", "", "10.77.0.200")[0])
        assert wire.recv(100)[:2] == b"\0\x5b", "no listed name leads there"
    assert bypass(node)["refused"] == {"private address not listed": 1, "no such name": 1, "destination not listed": 2}


def test_it_is_no_open_proxy(labs):
    """Forbidden hosts, nonsense and floods are refused in SOCKS' own words, and keep nobody else out."""
    host = labs(1).hosts[0]
    node = started(gateway(host, f"any://127.0.0.1:{STUB}", f"any://localhost:{IRC}"))

    def answer(request):
        with host.connect(GATE) as wire:
            wire.sendall(request)
            heard = b""
            while more := wire.recv(100):
                heard += more
            return heard

    refused = lambda code: b"\5\0\5" + bytes([code]) + b"\0\1\0\0\0\0\0\0"
    port = lambda number: number.to_bytes(2, "big")
    not_listed = [b"\1\x7f\0\0\1" + port(5222), b"\1\x7f\0\0\1" + port(FIGURES), b"\3\x0bevil.example" + port(80), b"\4" + bytes(15) + b"\1" + port(STUB),
                  b"\1\xa9\xfe\xa9\xfe" + port(80)]
    for place in not_listed:
        assert answer(b"\5\1\0\5\1\0" + place) == refused(2), place
    assert answer(b"\5\1\0\5\1\0\3\x09localhost" + port(IRC)) == refused(2), "a name that leads to this machine"
    assert answer(b"\5\1\0\5\3\0\1\x7f\0\0\1" + port(STUB)) == refused(7), "UDP"
    assert answer(b"\4\2" + port(STUB) + b"\x7f\0\0\1\0")[:2] == b"\0\x5b", "BIND"
    assert answer(b"\5\1\2") == b"\5\xff"
    assert answer(b"\4\1" + port(STUB) + b"\x7f\0\0\2\0")[:2] == b"\0\x5b"
    assert answer(b"\5\1\0\5\1\0\1\x7f\0\0\1" + port(STUB)) == refused(5), "nobody listens there yet"
    view = bypass(node)
    assert view["refused"] == {"destination not listed": 6, "private address not listed": 1, "BIND or UDP": 2, "only with authentication": 1,
                               "connection refused": 1}, view
    assert 'crosstalk_bypass_refused_total{why="BIND or UDP"} 2\n' in figures(host)
    assert view["turned_away"][0] == {"destination": f"127.0.0.1:{STUB}", "what": "connection refused", "count": 1}
    assert f"refused 127.0.0.1:{STUB}: connection refused" in node.cli("status").stdout
    # 200 half-open ones, and the honest one gets through.
    stub = Stub(host, b"")
    flood = []
    for _ in range(200):
        wire = host.connect(GATE)
        wire.sendall(b"\5")
        flood.append(wire)
    for end in talking(host, stub):
        end.close()
    assert bypass(node)["connecting"] <= 64
    for wire in flood:
        wire.close()
    until(lambda: (view := bypass(node))["connecting"] == 0 and view["open"] == 0, 10, lambda: bypass(node))


def test_idle_connections_cost_little(labs, figure):
    """Connections on which both have spoken: their memory, the figures, and their end with the node."""
    host = labs(1).hosts[0]
    node = gateway(host, f"any://127.0.0.1:{STUB}", more="max_connections = 300")
    node.add_account("anna")  # or one is made after the start, which takes memory and gives it back
    started(node)
    stub = Stub(host, b"")
    warm = [talking(host, stub) for _ in range(40)]
    before = node.settled_memory()
    idle = [talking(host, stub) for _ in range(200)]
    each = (node.settled_memory() - before) / len(idle)
    figure(f"{len(idle)} idle connections take {each:.1f} KiB each")
    assert 0 < each <= 32
    text = figures(host)
    for line in ("crosstalk_bypass_connections 240", 'crosstalk_bypass_connections_total{kind="irc"} 240'):
        assert f"\n{line}\n" in text, line
    # The node ends, and they with it.
    node.stop()
    for client, server in warm + idle:
        assert client.recv(1) == b"" and server.recv(1) == b""


def figures(host):
    with host.connect(FIGURES) as wire:
        wire.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: wire.recv(65536), b"")).decode()


def talking(host, stub):
    """Both ends of a connection on which both have said a word."""
    client = asked(host)
    server, _ = stub.listener.accept()
    client.sendall(b"NICK a\r\n")
    server.sendall(b":irc.example 001 a :welcome\r\n")
    assert server.recv(100) and client.recv(100)
    return client, server
