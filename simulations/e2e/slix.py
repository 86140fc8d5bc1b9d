"""A slixmpp client in a host, driven from a test. Everything that arrives is kept as events, in order.

An event is a dict with `event` and `at` (seconds, the machine's monotonic clock, comparable between hosts):
session (resumed, connection, bound), disconnected, refused, sm-failed, stream-error (condition, text), roster-item (jid, name, groups, subscription,
ask, push), presence (from, type, show, status, delayed), message (from, id, type, body, carbon, connection, delayed, stamps, condition,
wants_receipt), receipt (from, of), chat-state (from, state), offer (from, xml), sent (id), acked (id).
"""

import time

from agent import Agent, bare
from waiting import until


class Slix(Agent):
    """One client program. It starts cold, at once; `login` then connects and comes back when roster and presence are out."""

    def __init__(self, host, name):
        super().__init__(host, name, "slix_agent.py")
        self.jid = self.full = None

    def login(self, user, password="secret", seconds=30, **options):
        """As NAME@id.internal (or the JID given) at 127.0.0.1. Options: sm, tls (none, starttls), priority, port, retry, server, proxy (a URL),
        trust (a file: what is shown is verified by it, else not at all). The answer has bound, roster, mechanism."""
        return self.logged_in(self.begin_login(user, password, **options), seconds)

    def begin_login(self, user, password="secret", **options):
        return self.begin("login", jid=user if "@" in user else f"{user}@id.internal", password=password, **options)

    def logged_in(self, number, seconds=30):
        answer = self.finish(number, seconds)
        self.full, self.jid = answer["bound"], bare(answer["bound"])
        return answer

    def iq(self, type, xml, to=None, seconds=10):
        """Send a request and wait for its answer: {type: result, error or timeout; xml, condition, from}."""
        return self.finish(self.begin("iq", type=type, xml=xml, to=to, seconds=seconds), seconds + 10)

    def ask_receipt(self, to, body, id):
        """A message that asks for a receipt (XEP-0184)."""
        self.do("raw", xml=f"<message xmlns='jabber:client' to='{to}' type='chat' id='{id}'><body>{body}</body>"
                f"<request xmlns='urn:xmpp:receipts'/></message>")

    def give_receipt(self, to, of):
        self.do("raw", xml=f"<message xmlns='jabber:client' to='{to}' id='receipt-{of}'><received xmlns='urn:xmpp:receipts' id='{of}'/></message>")

    def ping(self, to=None, seconds=10):
        return self.iq("get", "<ping xmlns='urn:xmpp:ping'/>", to, seconds)

    def disco(self, to=None):
        return self.iq("get", "<query xmlns='http://jabber.org/protocol/disco#info'/>", to)

    def set_contact(self, jid, name, groups=()):
        """Add or change a contact; the answer of the server."""
        inner = "".join(f"<group>{group}</group>" for group in groups)
        return self.iq("set", f"<query xmlns='jabber:iq:roster'><item jid='{jid}' name='{name}'>{inner}</item></query>")

    def remove_contact(self, jid):
        return self.iq("set", f"<query xmlns='jabber:iq:roster'><item jid='{jid}' subscription='remove'/></query>")

    def subscribe(self, jid):
        self.do("presence", to=jid, type="subscribe")

    def accept(self, jid):
        self.do("presence", to=jid, type="subscribed")

    def offer_file(self, to):
        """A Jingle session-initiate (XEP-0234); the answer of the other client."""
        return self.iq("set", f"<jingle xmlns='urn:xmpp:jingle:1' action='session-initiate' sid='s1' initiator='{self.full}'>"
                       "<content creator='initiator' name='file'><description xmlns='urn:xmpp:jingle:apps:file-transfer:5'>"
                       "<file><name>letter.txt</name><size>1022</size></file></description>"
                       "<transport xmlns='urn:xmpp:jingle:transports:ibb:1' block-size='4096' sid='i1'/></content></jingle>", to)

    def ids(self, prefix):
        """Ids of the chat messages that arrived (no carbons), in order of arrival."""
        return [m["id"] for m in self.all("message", carbon=None) if (m["id"] or "").startswith(prefix) and m["type"] != "error"]


def is_nearby(groups):
    """Whether a roster item stands in the group of neighbours (whose name may go on with the tier)."""
    return any((group or "").startswith("Nearby") for group in groups)


def see_nearby(viewer, address, seconds=20, after=0.0):
    """When the other stood in the roster's group Nearby and was shown present, whichever came last."""
    item = viewer.wait("roster-item", seconds, after=after, jid=address, groups=is_nearby)
    assert item["subscription"] == "both"
    presence = viewer.wait("presence", seconds, after=after, sender=address, type="available")
    return max(item["at"], presence["at"])


def leave_nearby(viewer, address, seconds=30, after=0.0):
    """When the other was shown absent; it has also left the roster."""
    gone = viewer.wait("presence", seconds, after=after, sender=address, type="unavailable")["at"]
    until(lambda: address not in viewer.do("roster"), 5, f"{address} leaving {viewer.name}'s Nearby")
    return gone


def befriend(one, two, seconds=20):
    """Subscribe both ways, each asking and each accepting, until each sees the other's presence and both rosters say `both`."""
    begin = time.monotonic()
    for asker, asked in ((one, two), (two, one)):
        asker.subscribe(asked.jid)
        asked.wait("presence", seconds, after=begin, type="subscribe", sender=asker.jid)
        asked.accept(asker.jid)
        asker.wait("presence", seconds, after=begin, type="subscribed", sender=asked.jid)
    for viewer, seen in ((one, two), (two, one)):
        viewer.wait("roster-item", seconds, after=begin, jid=seen.jid, subscription="both", groups=lambda g: not is_nearby(g))
        viewer.wait("presence", seconds, type="available", sender=seen.jid)
