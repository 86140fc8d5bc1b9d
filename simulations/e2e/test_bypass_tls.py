"""The bypass gateway where an account is listed: TLS of the program ends here, and a verified one goes on to the real server."""

import base64
import os
import re
import socket
import ssl

import pytest

from authority import DAY, NOW, Authority
from node import Node
from slix import Slix, befriend
from stock import PASSWORD, Ejabberd, Prosody
from stock import PORT as XMPP
from waiting import until

GATE = 1080
ROMEO, JULIET, DOMAIN = "romeo@stock.example", "juliet@stock.example", "stock.example"
PROXY = f"socks5://127.0.0.1:{GATE}"
HEADER = f"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='{DOMAIN}' version='1.0'>"
SASL, BIND = "urn:ietf:params:xml:ns:xmpp-sasl", "urn:ietf:params:xml:ns:xmpp-bind"


def gateway(host, authority, accounts=(ROMEO,), listen=()):
    """A running node with the gateway on."""
    listen = [f"127.0.0.1:{GATE}", *listen]
    node = Node(host, settings=f"[bypass]\nlisten = {listen}\nallow = ['xmpp://127.0.0.1:{XMPP}']\naccounts = {list(accounts)}\n"
                               f"ca_file = '{authority.path}'\n")
    node.start()
    until(lambda: host.listens(GATE), 10, "the gateway")
    return node


def bypass(node):
    return node.ask("status")["bypass"]


def alarms(node):
    return [one["what"] for one in bypass(node)["alarms"]]


def trusted(node):
    return os.path.join(node.data, "bypass-tls.crt")


class Wire:
    """A chat program of ours: what it says and hears is seen, TLS is begun by STARTTLS and verified by the file `trust`."""

    def __init__(self, wire, trust=None):
        self.wire = wire
        self.wire.settimeout(10)
        self.said(HEADER, "</stream:features>")
        if trust:
            self.said("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
            self.wire = ssl.create_default_context(cafile=trust).wrap_socket(self.wire, server_hostname=DOMAIN)
            self.features = self.said(HEADER, "</stream:features>")

    def said(self, text, until):
        """What comes until that, once this was said."""
        self.wire.sendall(text.encode())
        heard = ""
        while until not in heard:
            more = self.wire.recv(65536)
            assert more, heard
            heard += more.decode()
        return heard

    def login(self, user):
        proof = base64.b64encode(f"\0{user}\0{PASSWORD}".encode()).decode()
        self.said(f"<auth xmlns='{SASL}' mechanism='PLAIN'>{proof}</auth>", "<success")
        self.said(HEADER, "</stream:features>")
        self.said(f"<iq type='set' id='b'><bind xmlns='{BIND}'/></iq>", "</iq>")
        return self

    def close(self):
        self.wire.close()


def through(host, at="127.0.0.1"):
    """A connection to the server, through the gateway."""
    wire = host.socket()
    wire.settimeout(10)
    wire.connect((at, GATE))
    wire.sendall(b"\4\1" + XMPP.to_bytes(2, "big") + socket.inet_aton("127.0.0.1") + b"\0")
    assert wire.recv(8, socket.MSG_WAITALL)[1] == 0x5a
    return wire


def mechanisms(features):
    return re.findall(r"<mechanism>([^<]*)</mechanism>", features)


@pytest.mark.parametrize("kind", [Prosody, Ejabberd], ids=["prosody", "ejabberd"])
def test_tls_of_a_listed_account_ends_here(labs, kind, figure):
    """Login, contacts, messages and a resumed stream of a listed account; what is not offered; who is shown; what it costs."""
    host = labs(1).hosts[0]
    authority = Authority(host.home)
    base = kind(host, tls=authority.issue(DOMAIN), binds=True)
    node = gateway(host, authority)
    romeo, juliet = Slix(host, "romeo"), Slix(host, "juliet")
    base.start()
    # What the server offers, and what is left of it.
    wire = Wire(host.connect(XMPP), authority.path)
    offered = mechanisms(wire.features)
    wire.close()
    wire = Wire(through(host), trusted(node))
    left = mechanisms(wire.features)
    wire.close()
    assert any(name.endswith("-PLUS") for name in offered), offered
    assert sorted(left) == sorted(name for name in offered if not name.endswith("-PLUS")), (offered, left)
    assert "sasl-channel-binding" not in wire.features and bypass(node)["users"] == []
    # Two programs: romeo's account is listed, juliet's is not.
    told = romeo.login(ROMEO, port=XMPP, tls="starttls", proxy=PROXY, trust=trusted(node))
    juliet.login(JULIET, port=XMPP, tls="starttls", proxy=PROXY, trust=trusted(node))
    befriend(romeo, juliet)
    romeo.do("send", to=JULIET, body="who is there? <&> \u2603", id="r1")
    juliet.wait("message", 10, sender=ROMEO, body="who is there? <&> \u2603")
    juliet.do("send", to=ROMEO, body="it is I", id="j1")
    romeo.wait("message", 10, sender=JULIET, body="it is I")
    view = bypass(node)
    assert [user["address"] for user in view["users"]] == [ROMEO] and view["unlisted"] == 1, view
    figure(f"slixmpp logged in by {told['mechanism']}, offered {left}, alarms {alarms(node)}")
    # The connection breaks and the stream is resumed: it is still romeo's.
    romeo.do("drop")
    romeo.wait("session", 10, resumed=True)
    assert [user["address"] for user in bypass(node)["users"]] == [ROMEO]
    shown = node.cli("status").stdout
    assert "TLS of " in shown and f"{DOMAIN}: SHA-256 " in shown, shown
    # A client that says itself what a server would say is nobody.
    wire = Wire(through(host), trusted(node))
    forged = f"<success xmlns='{SASL}'/><iq type='result' from='{ROMEO}'><bind xmlns='{BIND}'><jid>{ROMEO}/x</jid></bind></iq>"
    wire.wire.sendall((forged + f"<auth xmlns='{SASL}' mechanism='PLAIN'>AHgAeA==</auth>").encode())
    heard = b""
    while not re.search(b"<failure|error", heard):
        heard += wire.wire.recv(65536)
    wire.close()
    assert [user["address"] for user in bypass(node)["users"]] == [ROMEO]
    warm = [Wire(through(host), trusted(node)).login("romeo") for _ in range(10)]
    before = node.settled_memory()
    idle = [Wire(through(host), trusted(node)).login("romeo") for _ in range(40)]
    each = (node.settled_memory() - before) / len(idle)
    figure(f"{len(idle)} idle connections whose TLS ends here take {each:.1f} KiB each")
    assert 0 < each <= 32
    for wire in warm + idle:
        wire.close()
    until(lambda: bypass(node)["open"] == 2, 10, lambda: bypass(node))


def test_only_a_server_that_proves_its_domain_gets_the_login(labs):
    """Certificates that are wrong are refused in words; whatever is not listed, or comes from another machine, sees the server's own."""
    host, other = labs(2).hosts
    authority, stranger = Authority(host.home), Authority(host.home, "stranger")
    file = authority.issue("other.example", file="server.pem")
    base = Prosody(host, tls=file)
    node = gateway(host, authority, listen=[f"{host.address}:{GATE}"])
    for issue, why in [(lambda: file, "another name"), (lambda: authority.issue(DOMAIN, NOW - DAY, "server.pem"), "expired"),
                       (lambda: stranger.issue(DOMAIN, file="server.pem"), "signed by nobody")]:
        issue()
        base.start()
        client = Slix(host, f"romeo-{why.replace(' ', '-')}")
        client.begin_login(ROMEO, port=XMPP, tls="starttls", proxy=PROXY, trust=trusted(node))
        told = client.wait("stream-error", 10)
        assert told["condition"] == "remote-connection-failed" and why in told["text"], told
        client.do("leave")
        client.close()
        assert any(why in one for one in alarms(node)), alarms(node)
        base.stop()
    assert "logged in" not in open(base.path("prosody.log"), encoding="utf-8", errors="replace").read().lower().replace("not logged in", "")
    view = bypass(node)
    assert (view["secured"], view["users"]) == (0, []), view
    assert "ALARM" in node.cli("status").stdout
    # The right one.
    authority.issue(DOMAIN, file="server.pem")
    base.start()
    own = lambda wire: Wire(wire, authority.path).wire.getpeercert()["issuer"]
    client = Slix(host, "romeo")
    told = client.login(ROMEO, port=XMPP, tls="starttls", proxy=PROXY, trust=trusted(node))
    assert told["mechanism"].startswith("SCRAM-SHA-"), told
    assert [user["address"] for user in bypass(node)["users"]] == [ROMEO]
    client.do("logout")
    # From another machine, and for another domain, the server's own certificate is seen.
    assert own(through(other, host.address)) == ((("commonName", "authority"),),)
    assert bypass(node)["secured"] == 1
    node.stop()
    node = gateway(host, authority, accounts=["romeo@elsewhere.example"])
    assert own(through(host)) == ((("commonName", "authority"),),)
    view = bypass(node)
    assert (view["secured"], view["alarms"], view["spoken"]) == (0, [], {"xmpp": 1}), view
