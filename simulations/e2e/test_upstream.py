"""The door to the rest of XMPP: the server of a domain as a component of a stock Prosody or ejabberd, its users on laptops."""

import calendar
import json
import os
import time

import pytest

from node import Node
from slix import Slix, befriend
from stock import COMPONENT, PASSWORD as STOCK_PASSWORD, PORT, SECRET, Ejabberd, Prosody
from test_authority import ALICE, client, enrolled, found, invite
from test_database import keys_of
from waiting import until

ROMEO = "romeo@stock.example"
SETTINGS = f"[authority]\ncomponent = \"127.0.0.1:{COMPONENT}\"\n"
# A laptop that says nothing is shown away outside within this, seconds; and some for a busy machine.
AWAY = 75 + 45


def give_secret(server, secret=SECRET):
    path = os.path.join(server.data, "component.secret")
    with open(path, "w", encoding="ascii", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(secret + "\n")


class Place:
    """A stock server and the domain's server in one host, laptops of alice in others, each with a client."""

    def __init__(self, labs, make, laptops=1, secret=SECRET):
        self.lab = labs(1 + laptops)
        host, *others = self.lab.hosts
        self.stock = make(host).start()
        self.server = Node(host, settings=SETTINGS)
        give_secret(self.server, secret)
        self.laptops = [Node(other) for other in others]
        for node in (self.server, *self.laptops):
            node.start()
        found(self.server)
        link = invite(self.server, "alice")
        for laptop in self.laptops:
            enrolled(laptop, link)
            link = ALICE
        self.alices = [client(laptop) for laptop in self.laptops]

    def link(self):
        done = self.server.cli("authority", "show", "--json")
        return json.loads(done.stdout)["component"] if done.returncode == 0 else {}

    def linked(self, seconds=90):
        until(lambda: self.link().get("state") == "up", seconds, lambda: f"the component's link: {self.link()}")

    def way(self, laptop=0, state="up", seconds=60):
        views = lambda: self.laptops[laptop].ask("status")["servers"]
        until(lambda: (view := views()) and view[0]["outside"] and view[0]["outside"]["state"] == state, seconds,
              lambda: f"the way to the outside {state}: {views()}")

    def romeo(self, name="romeo"):
        slix = Slix(self.lab.hosts[0], name)
        slix.login(f"{name}@stock.example", STOCK_PASSWORD, port=PORT)
        return slix


def bodies(who, sender):
    return [m["body"] for m in who.all("message", sender=sender, carbon=None) if m["type"] != "error"]


def stamp_of(message):
    return min(calendar.timegm(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S")) for stamp in message["stamps"])


@pytest.fixture(params=[Prosody, Ejabberd], ids=["prosody", "ejabberd"])
def kind(request):
    return request.param


def test_both_ways(labs, kind, figure):
    """Subscription, presence, messages, chat states and requests, between a laptop's client and one of the stock server."""
    place = Place(labs, kind)
    place.linked()
    place.way()
    alice, romeo = place.alices[0], place.romeo()
    alice.do("send", to=ROMEO, body="wherefore", id="a1")
    romeo.wait("message", 20, id="a1", sender=ALICE, body="wherefore")
    begin = time.monotonic()
    romeo.do("send", to=ALICE, body="by yonder moon", id="r1")
    figure(f"a message in after {alice.wait('message', 20, id='r1', sender=ROMEO)['at'] - begin:.2f} s")
    begin = time.monotonic()
    alice.do("send", to=ROMEO, body="swear not", id="a2")
    figure(f"a message out after {romeo.wait('message', 20, id='a2')['at'] - begin:.2f} s")
    assert not alice.all("message", delayed=True) and not romeo.all("message", delayed=True)
    befriend(alice, romeo, 30)
    alice.do("presence", show="dnd", status="asleep")
    romeo.wait("presence", 20, sender=ALICE, show="dnd", status="asleep")
    romeo.do("presence", show="away", status="in exile")
    alice.wait("presence", 20, sender=ROMEO, show="away", status="in exile")
    romeo.do("state", to=ALICE, state="composing")
    alice.wait("chat-state", 20, state="composing")
    alice.do("state", to=ROMEO, state="paused")
    romeo.wait("chat-state", 20, state="paused")
    # Receipts (XEP-0184): what one asks for, the other sees, and what that one gives comes back.
    for who, whom in ((alice, romeo), (romeo, alice)):
        who.ask_receipt(whom.jid, "did it come?", f"q-{who.jid}")
        asked = whom.wait("message", 20, id=f"q-{who.jid}", sender=who.jid)
        assert asked["wants_receipt"], asked
        whom.give_receipt(asked["from"], asked["id"])
        who.wait("receipt", 20, of=f"q-{who.jid}", sender=whom.jid)
    # Requests: to the session, to the account, to the server; and the errors of RFC 6121.
    for who, whom in ((alice, romeo), (romeo, alice)):
        answer = who.disco(whom.full)
        assert (answer["type"], answer["from"]) == ("result", whom.full) and "client" in answer["xml"], answer
    assert "identity" in alice.disco("stock.example")["xml"]
    assert "registered" in romeo.disco(ALICE)["xml"]
    assert "identity" in romeo.disco("school.example")["xml"]
    assert romeo.ping("school.example")["type"] == "result"
    vcard = "<vCard xmlns='vcard-temp'><FN>Juliet's friend</FN></vCard>"
    assert alice.iq("set", vcard)["type"] == "result"
    assert romeo.iq("set", vcard)["type"] == "result"
    wanted = "<vCard xmlns='vcard-temp'/>"
    for who, whom in ((alice, ROMEO), (romeo, ALICE)):
        assert "friend" in who.iq("get", wanted, whom)["xml"]
    assert romeo.ping(f"{ALICE}/nowhere")["condition"] == "service-unavailable"
    assert romeo.ping("nobody@school.example")["condition"] == "service-unavailable"
    alice.do("send", to="nobody@stock.example", body="anybody?", id="a3")
    alice.wait("message", 20, id="a3", type="error", sender="nobody@stock.example")
    alice.do("send", to="mercutio@no.such.example", body="anybody?", id="a4")
    alice.wait("message", 20, id="a4", type="error")
    # Blocked (XEP-0191): he sees her go and reaches her no more, until she takes it back.
    block = "<{0} xmlns='urn:xmpp:blocking'><item jid='romeo@stock.example'/></{0}>"
    begin = time.monotonic()
    assert alice.iq("set", block.format("block"))["type"] == "result"
    romeo.wait("presence", 30, after=begin, sender=ALICE, type="unavailable")
    romeo.do("send", to=ALICE, body="let me in", id="r2")
    romeo.wait("message", 20, id="r2", type="error")
    begin = time.monotonic()
    assert alice.iq("set", block.format("unblock"))["type"] == "result"
    romeo.wait("presence", 30, after=begin, sender=ALICE, type="available")
    alice.wait("presence", 30, after=begin, sender=ROMEO, type="available")
    assert "let me in" not in bodies(alice, ROMEO)
    # And it ends: whoever was seen is not seen any more, on both sides.
    alice.do("logout")
    romeo.wait("presence", 20, sender=ALICE, type="unavailable")
    alice = client(place.laptops[0], resource="again")
    alice.wait("presence", 20, sender=ROMEO, type="available")
    begin = time.monotonic()
    alice.remove_contact(ROMEO)
    for type in ("unsubscribe", "unsubscribed"):
        romeo.wait("presence", 20, after=begin, sender=ALICE, type=type)
    assert romeo.do("roster")[ALICE]["subscription"] == "none"


def test_nothing_lost_nothing_twice(labs, kind, figure):
    """The laptop's link cut and mended, the server killed, the component's link broken: all of it arrives once, in its order."""
    place = Place(labs, kind)
    place.linked()
    place.way()
    alice, romeo = place.alices[0], place.romeo()
    befriend(alice, romeo, 30)
    laptop, wanted_a, wanted_r = place.laptops[0], [], []

    def say(count=3):
        for _ in range(count):
            number = len(wanted_a)
            wanted_a.append(f"a{number}")
            wanted_r.append(f"r{number}")
            alice.do("send", to=ROMEO, body=f"a{number}", id=f"a{number}")
            romeo.do("send", to=ALICE, body=f"r{number}", id=f"r{number}")

    def all_there(seconds=120):
        until(lambda: len(bodies(romeo, ALICE)) >= len(wanted_a) and len(bodies(alice, ROMEO)) >= len(wanted_r), seconds,
              lambda: f"{bodies(romeo, ALICE)} and {bodies(alice, ROMEO)}")

    say()
    all_there()
    # The link is cut: what each writes waits, with the time at which it was written; the laptop is shown away.
    place.lab.cut(laptop.host)
    begin = time.monotonic()
    cut_at = time.time()
    say()
    gone = romeo.wait("presence", AWAY, after=begin, sender=ALICE, type="unavailable")["at"]
    figure(f"the laptop is shown away {gone - begin:.0f} s after the cut")
    alice.wait("presence", AWAY, after=begin, sender=ROMEO, type="unavailable")
    say_again = time.time()
    say()
    place.lab.cut(laptop.host, out=False)
    all_there()
    romeo.wait("presence", 60, after=gone, sender=ALICE, type="available")
    alice.wait("presence", 60, after=gone, sender=ROMEO, type="available")
    for who, letter in ((romeo, "a3"), (alice, "r3")):
        message = who.wait("message", 1, id=letter)
        assert message["delayed"] and cut_at - 3 <= stamp_of(message) <= say_again, message
    # The domain's server is killed while they write, and comes back: the stock server tells romeo, who writes again.
    say()
    all_there()
    place.server.kill()
    for number in range(3):
        wanted_a.append(f"k{number}")
        alice.do("send", to=ROMEO, body=f"k{number}", id=f"k{number}")
    place.server.start()
    place.linked()
    wanted_r.extend(wanted_a[len(wanted_r):])
    wanted_r[-3:] = [f"l{number}" for number in range(3)]
    for number in range(3):
        romeo.do("send", to=ALICE, body=f"l{number}", id=f"l{number}")
    all_there(240)
    # So does the laptop's node.
    laptop.kill()
    for number in range(3):
        wanted_r.append(f"m{number}")
        wanted_a.append(f"n{number}")
        romeo.do("send", to=ALICE, body=f"m{number}", id=f"m{number}")
    laptop.start()
    alice.wait("session", 60, after=begin)
    for number in range(3):
        alice.do("send", to=ROMEO, body=f"n{number}", id=f"n{number}")
    all_there(240)
    # The component's link breaks: the stock server is away. Romeo comes back after what was held for him, as ejabberd (23.01)
    # lets a message lie until his next login that comes in the moment of this one.
    romeo.do("logout")
    place.stock.stop()
    until(lambda: place.link().get("state") == "down", 60, "the loss of the stock server to be told")
    for number in range(3):
        wanted_a.append(f"o{number}")
        alice.do("send", to=ROMEO, body=f"o{number}", id=f"o{number}")
    until(lambda: place.link().get("held") == 3, 60, lambda: f"three held: {place.link()}")
    place.server.kill()
    place.server.start()
    place.stock.start()
    place.linked(120)
    until(lambda: place.link().get("held") == 0, 60, lambda: f"none held: {place.link()}")
    romeo.do("return")
    all_there(240)
    assert bodies(romeo, ALICE) == wanted_a, bodies(romeo, ALICE)
    assert bodies(alice, ROMEO) == wanted_r, bodies(alice, ROMEO)
    assert place.link()["held"] == 0


def test_two_laptops_of_one_user(labs):
    """Each has what comes, and what the other sent; who was away has it later. Contacts and requests are the same on both."""
    place = Place(labs, Prosody, laptops=2)
    place.linked()
    for laptop in (0, 1):
        place.way(laptop)
    (first, second), romeo = place.alices, place.romeo()
    second_node = place.laptops[1]
    assert second.iq("set", "<enable xmlns='urn:xmpp:carbons:2'/>")["type"] == "result"
    romeo.do("send", to=ALICE, body="to both", id="r1")
    for one in (first, second):
        one.wait("message", 30, id="r1", sender=ROMEO)
    first.do("send", to=ROMEO, body="from the first", id="a1")
    romeo.wait("message", 30, id="a1")
    second.wait("message", 30, id="a1", carbon="sent")
    romeo.subscribe(ALICE)
    for one in (first, second):
        one.wait("presence", 30, sender=ROMEO, type="subscribe")
    second_node.stop()
    first.accept(ROMEO)
    first.subscribe(ROMEO)
    romeo.wait("presence", 30, sender=ALICE, type="subscribed")
    romeo.wait("presence", 30, sender=ALICE, type="subscribe")
    romeo.accept(ALICE)
    first.wait("roster-item", 30, jid=ROMEO, subscription="both")
    romeo.do("send", to=ALICE, body="while one is off", id="r2")
    first.wait("message", 30, id="r2")
    second_node.start()
    second.wait("message", 60, id="r2")
    until(lambda: second.do("roster").get(ROMEO, {}).get("subscription") == "both", 60, "the contact on the second laptop")
    second.wait("presence", 60, sender=ROMEO, type="available")
    for one in (first, second):
        assert bodies(one, ROMEO).count("to both") == bodies(one, ROMEO).count("while one is off") == 1


def test_nobody_speaks_for_another(labs, kind):
    """A wrong secret is told plainly; a disabled user is refused; nobody without a server gets out."""
    place = Place(labs, kind, secret="not the secret")
    until(lambda: "secret" in (place.link().get("why") or ""), 60, lambda: f"the secret refused: {place.link()}")
    level, text = place.server.doctor("other XMPP")
    assert level == "fail" and "component_secret" in text, text
    assert "does not accept the secret" in place.server.cli("status").stdout
    assert "not the secret" not in place.server.log()
    place.server.stop()
    with open(os.path.join(place.server.data, "component.secret"), "w", encoding="ascii") as file:
        file.write(SECRET)
    place.server.start()
    place.linked()
    place.way(seconds=120)
    assert SECRET not in place.server.log()
    alice, romeo = place.alices[0], place.romeo()
    befriend(alice, romeo, 30)
    # Somebody who is not enrolled has no way.
    place.laptops[0].add_account("carol")
    carol = Slix(place.laptops[0].host, "carol")
    carol.login("carol")
    carol.do("send", to=ROMEO, body="let me out", id="c1")
    carol.wait("message", 10, id="c1", type="error", condition="remote-server-not-found")
    # A client may not speak for another, through the door either.
    alice.do("raw", xml=f"<message xmlns='jabber:client' from='bob@school.example/x' to='{ROMEO}' type='chat'><body>forged</body></message>")
    time.sleep(2)
    # Disabled: refused from outside, and away at once.
    begin = time.monotonic()
    place.server.ask("authority", "user", "disable", "alice")
    romeo.wait("presence", 30, after=begin, sender=ALICE, type="unavailable")
    romeo.do("send", to=ALICE, body="still there?", id="r9")
    romeo.wait("message", 30, id="r9", type="error")
    assert "forged" not in bodies(romeo, "bob@school.example")


def test_another_server_takes_the_link(labs, postgres, figure):
    """Two servers on one PostgreSQL: a laptop at the one that has no link reaches the outside, also after the other was killed."""
    lab = labs(3)
    host, other, home = lab.hosts
    Prosody(host, reached=host.address).start()
    settings = postgres.settings(f'component = "{host.address}:{COMPONENT}"\n')
    first, second, laptop = Node(host, settings=settings), Node(other, settings=settings), Node(home)
    link = lambda server: server.ask("authority", "show")["component"]
    for server in (first, second):
        give_secret(server)
    first.start()
    found(first)
    until(lambda: link(first)["state"] == "up", 60, lambda: f"the first to have the link: {link(first)}")
    keys_of(first, second)
    for node in (second, laptop):
        node.start()
    enrolled(laptop, invite(second, "alice"))
    assert link(second)["state"] == "elsewhere"
    alice, romeo = client(laptop), Slix(host, "romeo")
    romeo.login(ROMEO, STOCK_PASSWORD, port=PORT)
    wanted = {"a": [], "r": []}

    def say(who, count=5):
        for _ in range(count):
            body = f"{who}{len(wanted[who])}"
            wanted[who].append(body)
            sender, to = (alice, ROMEO) if who == "a" else (romeo, ALICE)
            sender.do("send", to=to, body=body, id=body)

    came = lambda who: bodies(romeo, ALICE) if who == "a" else bodies(alice, ROMEO)
    all_there = lambda who: until(lambda: len(set(came(who))) >= len(wanted[who]), 90, lambda: f"{came(who)} of {wanted[who]}")
    say("a")
    all_there("a")
    begin = time.monotonic()
    say("r", 1)
    all_there("r")
    figure(f"a message in by the other server after {time.monotonic() - begin:.2f} s")
    befriend(alice, romeo, 30)
    say("r", 4)
    all_there("r")
    # The one that has the link is killed while she writes.
    say("a", 3)
    first.kill()
    begin = time.monotonic()
    say("a", 3)
    until(lambda: link(second)["state"] == "up", 60, lambda: f"the second to take the link: {link(second)}")
    figure(f"the other server has the link {time.monotonic() - begin:.1f} s after SIGKILL")
    all_there("a")
    say("r")
    all_there("r")
    # What the stock server had taken when it was killed, and had not proved to have, came again with the same id.
    assert list(dict.fromkeys(came("a"))) == wanted["a"] and came("a")[:5] == wanted["a"][:5], came("a")
    assert came("r") == wanted["r"], came("r")
    # It comes back, and leaves the link where it is.
    first.start()
    until(lambda: link(first)["state"] == "elsewhere", 30, lambda: f"the first to follow: {link(first)}")
    say("a", 1)
    all_there("a")
    assert link(second)["state"] == "up" and link(second)["held"] == 0
