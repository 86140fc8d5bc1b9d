"""libpurple's XMPP (as in Pidgin and Finch) in a host, by a SOCKS proxy if need be, driven from a test.

Events beside those of bonjour.py: chat (room, from, body), what somebody said in a room; offer (from, name), of a file;
asks, tells, finds: the windows of the search for users.
"""

import ctypes.util

from agent import Agent
from netns import Forbidden


class Purple(Agent):
    """One client program. It starts cold, at once; `login` then logs it in."""

    def __init__(self, host, name):
        if not ctypes.util.find_library("purple"):
            raise Forbidden("libpurple is missing (Debian package libpurple0)")
        super().__init__(host, name, "purple_agent.py")

    def login(self, jid, password="secret", seconds=30, **options):
        """Options: server, port, proxy (4 or 5, host, port), accepted. Returns the event."""
        self.wait("ready", seconds)
        self.do("login", jid=jid, password=password, **options)
        return self.wait("signed-on", seconds)
