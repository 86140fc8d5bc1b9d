"""A stock Bonjour client (libpurple, as in Pidgin and Finch) in a host, driven from a test; needs an Avahi in that host.

Events beside `signed-on` (name), `connection-error` (why) and `ready`: buddy (name, online, alias, status, message, icon: SHA-1 of
the picture), whenever one of these changes; message (from, body, html); notice (with, text): what a person would be shown
beside messages; sent (to, body).
"""

import ctypes.util
import re
import time

from agent import Agent
from netns import Forbidden
from waiting import until

PLAIN = "tick < tock & \"tack\" 'tuck' <b>bold?</b>\nsecond line  \u00fc \u2603 \U0001f600"
RESOLVING = 1.2  # s; 0.9 were enough where there was no load


class Bonjour(Agent):
    """One client program. It starts cold, at once; `login` then announces it."""

    def __init__(self, avahi, name):
        if not ctypes.util.find_library("purple"):
            raise Forbidden("libpurple is missing (Debian package libpurple0)")
        super().__init__(avahi.host, name, "bonjour_agent.py", avahi.environment())
        self.avahi, self.instance = avahi, None

    def login(self, user=None, seconds=20, **options):
        """Options: status (available, away), message, port, first, last, email, jid. Returns the event.

        From then on `instance` is the service instance name under which the others know it.
        """
        machine = self.avahi.ready(seconds)
        self.wait("ready", seconds)
        user = user or self.name
        self.instance = user.replace("@", r"\40") + "@" + machine
        self.do("login", name=user, **options)
        return self.wait("signed-on", seconds)

    def sees(self, name, seconds=20, after=0.0, **match):
        """The event of that buddy being shown so (online, unless said otherwise)."""
        return self.wait("buddy", seconds, after=after, name=name, **{"online": True, **match})

    def misses(self, name, seconds=20, after=0.0):
        """The event of that buddy being shown no more."""
        return self.wait("buddy", seconds, after=after, name=name, online=False)

    def settle(self, name):
        """Wait until it may talk to that buddy: libpurple loses, without a word, what is sent before the other has resolved it."""
        seen = max(self.sees(name)["at"], self.wait("signed-on")["at"])
        until(lambda: time.monotonic() > seen + RESOLVING, 2 * RESOLVING, "libpurple's resolver")

    def status(self, status, message=None):
        self.do("status", status=status, message=message)

    def say(self, to, body):
        self.do("send", to=to, body=body)

    def logout(self):
        self.do("enable", on=False)


def address(instance):
    """The address of a person known by that name only: XEP-0106 escaping, at link.internal."""
    escaped = re.sub(r"""[ "&'/:<>@]|\\(?=20|22|26|27|2f|3a|3c|3e|40|5c)""", lambda found: f"\\{ord(found.group()):02x}", instance)
    return f"{escaped}@link.internal"


def exchange(client, person, instance, text=PLAIN, seconds=10):
    """A message each way between an XMPP client and a Bonjour client; `instance` is the XMPP user's name on the link."""
    mark = f"{client.name}-{person.name}-{time.monotonic()}"
    client.do("send", to=address(person.instance), body=f"to {mark}: {text}", id=mark)
    got = person.wait("message", seconds, body=f"to {mark}: {text}")
    assert got["from"] == instance, got
    person.say(instance, f"from {mark}: {text}")
    back = client.wait("message", seconds, body=f"from {mark}: {text}")
    assert back["from"].split("/")[0] == address(person.instance) and back["type"] == "chat" and not back["delayed"]
