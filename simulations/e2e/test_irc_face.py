"""IRC as a face of the node: WeeChat and irssi log in to it, and live with contacts whose programs speak XMPP on another node."""

import re
import socket
import time

from irc import Irssi, Weechat
from node import Node
from slix import Slix, befriend
from waiting import until

FACE = 6667
LONG = " ".join(f"word{n:03}" for n in range(150))


def faced(host):
    """A node with the face, and the account alice."""
    node = Node(host, settings=f"[irc]\nlisten = ['127.0.0.1:{FACE}']\n").start()
    until(lambda: host.listens(FACE), 10, "the face")
    node.add_account("alice")
    return node


class Wire:
    """IRC by hand."""

    def __init__(self, host, *lines):
        self.socket, self.heard = host.connect(FACE), ""
        self.say(*lines)

    def say(self, *lines):
        self.socket.sendall("".join(line + "\r\n" for line in lines).encode())

    def until(self, pattern):
        """Reads until it matches; the match."""
        while not (found := re.search(pattern, self.heard)):
            more = self.socket.recv(65536)
            assert more, f"/{pattern}/ before the end of {self.heard}"
            self.heard += more.decode()
        self.heard = self.heard[found.end():]
        return found

    def rest(self):
        """What is said until the connection ends."""
        try:
            while more := self.socket.recv(65536):
                self.heard += more.decode()
        except ConnectionResetError:
            pass
        return self.heard


def test_weechat_and_irssi_live_with_contacts_of_xmpp(labs):
    """Requests, presence, messages of all kinds both ways, what came late; WeeChat by SASL, then irssi by PASS."""
    near, far = labs(2).hosts
    node, other = faced(near), Node(far).start()
    other.add_account("bob")
    bob = Slix(far, "bob")
    bob.login("bob")
    alice = node.address("alice")
    weechat = Weechat(near, "ally", port=FACE, anti_flood_prio_high=0, sasl_mechanism="plain", sasl_username="alice", sasl_password="secret")
    weechat.sees("Topic for &crosstalk")
    # Bob is seen on the link, and asks; he is accepted in the channel, and is asked in return.
    weechat.sees(r"bob \(00.*@id.internal\) has joined")
    bob.subscribe(alice)
    weechat.sees(r"bob \(00.*@id.internal\) asks to see")
    weechat.enter("accept bob")
    weechat.sees("may see when you are there, and is asked for the same")
    bob.wait("presence", 15, type="subscribed", sender=alice)
    bob.wait("presence", 15, type="subscribe", sender=alice)
    bob.accept(alice)
    weechat.sees(r"bob \(.*lets you see when they are there")
    bob.wait("presence", 15, type="available", sender=alice)
    # Away and back.
    bob.do("presence", show="away", status="at the window")
    weechat.sees("Mode &crosstalk .-v bob")
    weechat.enter("contacts")
    weechat.sees(r"bob \(.*: away: at the window")
    bob.do("presence")
    weechat.sees(r"Mode &crosstalk .\+v bob")
    weechat.enter("/away on the balcony")
    bob.wait("presence", 10, sender=alice, show="away", status="on the balcony")
    # Who it is.
    weechat.enter("verify bob")
    weechat.sees("how sure: ")
    weechat.sees("their key: [0-9a-f]{8} ")
    # Messages: a long one that WeeChat splits, an action, emoji, several lines back.
    weechat.enter(f"/query bob {LONG}")
    bob.wait("message", 15, sender=alice, body=LONG)
    weechat.enter("/me leans \u2603 \U0001f468\u200d\U0001f469\u200d\U0001f467")
    bob.wait("message", 10, sender=alice, body="/me leans \u2603 \U0001f468\u200d\U0001f469\u200d\U0001f467")
    bob.do("send", to=alice, body="what light\n\nthrough yonder window \u2603", id="b1")
    weechat.sees(r"bob.*what light")
    weechat.sees(r"bob.*through yonder window \u2603")
    bob.do("send", to=alice, body="/me sighs", id="b2")
    weechat.sees(r"\* bob sighs|bob sighs")
    assert node.ask("status")["sessions"] == 1
    # She goes; what is written meanwhile waits, and bears its time.
    weechat.close()
    bob.wait("presence", 20, sender=alice, type="unavailable")
    bob.do("send", to=alice, body="are you asleep?", id="b3")
    until(lambda: node.ask("status")["inbox"] == 1, 15, "the message at her node")
    wrong = Wire(near, "PASS alice:wrong", "NICK ally", "USER a 0 * :a")
    assert " 464 ally " in wrong.rest() and "ERROR :" in wrong.heard
    by_hand = Wire(near, "CAP REQ :server-time", "PASS alice:secret", "NICK hand", "USER h 0 * :h", "CAP END")
    by_hand.until(r"@time=20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ :bob!\S+ PRIVMSG hand :are you asleep\?\r\n")
    # Nothing proves that it was read: the next client gets it again.
    by_hand.socket.close()
    irssi = Irssi(near, "alice", port=FACE, words=["-w", "secret"])
    irssi.sees("End of MOTD")
    until(lambda: node.ask("status")["inbox"] == 0, 15, "irssi's PONG")
    irssi.enter("/window goto bob")
    irssi.sees("bob.*are you asleep")
    irssi.enter(LONG)
    until(lambda: [m["body"] for m in bob.all("message", sender=alice)].count(LONG) == 2, 20, "the long message of irssi")
    irssi.enter("/whois bob")
    irssi.sees("tier: ")
    # Bob's node goes: he parts.
    irssi.enter("/window goto &crosstalk")
    irssi.sees(r"\[\+v bob\]")
    other.stop()
    irssi.sees(r"bob .*has left &crosstalk", 30)


def test_strangers_and_nonsense(labs):
    """Wrong passwords, floods and nonsense are answered and bounded, and keep nobody else out."""
    host = labs(1).hosts[0]
    node = faced(host)
    # Guessing slows down, by PASS as by SASL, and the right password is let in all the same.
    began = time.monotonic()
    for _ in range(4):
        assert " 464 " in Wire(host, "PASS alice:guess", "NICK a", "USER a 0 * :a").rest()
    assert time.monotonic() - began > 0.25 + 0.5 + 1 - 0.1
    sasl = Wire(host, "CAP LS 302", "NICK a", "USER a 0 * :a", "CAP REQ sasl", *["AUTHENTICATE PLAIN", "AUTHENTICATE AGFsaWNlAGd1ZXNz"] * 3)
    assert sasl.rest().count(" 904 ") == 3 and "too many failed logins" in sasl.heard
    assert " 464 a " in Wire(host, "NICK a", "USER a 0 * :a").rest()
    for nonsense in (b"\x16\x03\x01" + bytes(range(256)) * 40, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"x" * 20_000 + b"\r\n"):
        with host.connect(FACE) as wire:
            wire.sendall(nonsense)
            wire.shutdown(socket.SHUT_WR)
            said = b""
            try:
                while more := wire.recv(65536):
                    said += more
            except ConnectionResetError:
                pass
            assert len(said) < 1_000, said
    # 200 half-open ones.
    crowd = [host.connect(FACE) for _ in range(200)]
    wire = Wire(host, "PASS alice:secret", "NICK alice", "USER a 0 * :a")
    wire.until(r" 366 alice &crosstalk ")
    for one in crowd:
        one.close()
    # Inside: lines too long, not UTF-8, of unknown commands; questions without end whose answers nobody reads.
    wire.socket.sendall(b"PRIVMSG bob :" + b"y" * 9_000 + b"\r\nPRIVMSG bob :\xff\r\nFROBNICATE\r\n")
    wire.until(" 417 alice ")
    wire.until("not UTF-8")
    wire.until(" 421 alice FROBNICATE ")
    before = node.memory()[0]
    wire.socket.settimeout(1)
    try:
        for _ in range(200):
            wire.socket.sendall(b"WHO &crosstalk\r\nMOTD\r\nLIST\r\n" * 1_000)
    except TimeoutError:
        pass
    else:
        raise AssertionError("a client that does not read was read on and on")
    assert node.memory()[0] - before < 20_000, "its answers are bounded"
    wire.socket.close()
    again = Wire(host, "PASS alice:secret", "NICK alice", "USER a 0 * :a")
    again.until(r" 366 alice &crosstalk ")
    again.say("QUIT :bye")
    assert "ERROR :Closing link" in again.rest()
    until(lambda: node.ask("status")["sessions"] == 0, 10, "all sessions to end")
