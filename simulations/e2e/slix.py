"""A slixmpp client in a host, driven from a test. Everything that arrives is kept as events, in order.

An event is a dict with `event` and `at` (seconds, the machine's monotonic clock, comparable between hosts):
session (resumed, connection, bound), disconnected, refused, sm-failed, stream-error, roster-item (jid, name, groups, subscription,
ask, push), presence (from, type, show, status), message (from, id, type, body, carbon, connection, delayed, condition),
chat-state (from, state), offer (from, xml), sent (id), acked (id).
"""

import json
import os
import subprocess
import sys
import threading
import time

from netns import HERE, end
from waiting import Late


def bare(jid):
    return jid.split("/", 1)[0]


class Refused(Exception):
    """The agent answered a command with an error."""


class Slix:
    """One client program. It starts cold, at once; `login` then connects and comes back when roster and presence are out."""

    def __init__(self, host, name):
        self.name, self.events, self.answers, self.calls = name, [], {}, 0
        self.news, self.lock = threading.Condition(), threading.Lock()
        self.log_path = os.path.join(host.home, f"slix-{name}.log")
        self.jid = self.full = None
        with open(self.log_path, "ab") as log:
            trace = {"CROSSTALK_TRACE": os.environ.get("CROSSTALK_TRACE", "")}  # set it to keep every stanza in the log
            self.process = host.popen([sys.executable, "-u", os.path.join(HERE, "slix_agent.py")], env=trace, stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=log, text=True)
        self.record = open(os.path.join(host.home, f"events-{name}.jsonl"), "a", buffering=1, encoding="utf-8")  # kept with the logs
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.record.write(line)
            said = json.loads(line)
            with self.news:
                if "answer" in said:
                    self.answers[said["answer"]] = said
                else:
                    self.events.append(said)
                self.news.notify_all()
        self.record.close()
        with self.news:
            self.answers[None] = True
            self.news.notify_all()

    # Commands ---------------------------------------------------------------------------------------------------

    def begin(self, do, **fields):
        """Give a command without waiting; `finish` takes its answer."""
        with self.lock:
            self.calls += 1
            number = self.calls
            self.process.stdin.write(json.dumps({"call": number, "do": do, **fields}) + "\n")
            self.process.stdin.flush()
        return number

    def finish(self, number, seconds=30):
        with self.news:
            done = self.news.wait_for(lambda: number in self.answers or None in self.answers, seconds)
            answer = self.answers.pop(number, None)
        if answer is None:
            raise Late(f"{self.name}: {'the client ended' if done else f'no answer within {seconds} s'}; see {self.log_path}")
        if not answer["ok"]:
            raise Refused(answer["value"])
        return answer["value"]

    def do(self, name, seconds=30, **fields):
        return self.finish(self.begin(name, **fields), seconds)

    def login(self, user, password="secret", seconds=30, **options):
        """As NAME@id.internal (or the JID given) at 127.0.0.1. Options: sm, tls (none, starttls), priority, port, retry."""
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

    # What happened ----------------------------------------------------------------------------------------------

    def all(self, event, **match):
        """All events of this kind so far whose fields have these values; `sender` compares the bare JID in `from`."""
        with self.news:
            return [said for said in self.events if fits(said, event, match)]

    def wait(self, event, seconds=20, after=0.0, **match):
        """The first such event (not older than `after`), waiting for it if need be."""
        deadline = time.monotonic() + seconds
        with self.news:
            seen = 0
            while True:
                for said in self.events[seen:]:
                    if said["at"] >= after and fits(said, event, match):
                        return said
                seen = len(self.events)
                if not self.news.wait(max(0.0, deadline - time.monotonic())) and time.monotonic() >= deadline:
                    raise Late(f"{self.name}: no {event} {match} within {seconds} s; the last events: {self.events[-6:]}")

    def ids(self, prefix):
        """Ids of the chat messages that arrived (no carbons), in order of arrival."""
        return [m["id"] for m in self.all("message", carbon=None) if (m["id"] or "").startswith(prefix) and m["type"] != "error"]

    def close(self):
        end(self.process)


def fits(said, event, match):
    if said["event"] != event:
        return False
    for key, wanted in match.items():
        value = bare(said.get("from") or "") if key == "sender" else said.get(key)
        if not (wanted(value) if callable(wanted) else value == wanted):
            return False
    return True


def is_nearby(groups):
    """Whether a roster item stands in the group of neighbours (whose name may go on with the tier)."""
    return any((group or "").startswith("Nearby") for group in groups)


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
