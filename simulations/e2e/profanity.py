"""profanity (Debian's package), driven through a terminal."""

import os
import re

from terminal import COLUMNS, Terminal
from waiting import until

# The roster by group and wide enough for names; no splash, no notifications.
SETTINGS = """[ui]
splash=false
roster.by=group
roster.size=40
roster.wrap=false
roster.presence=true
roster.resource=true
roster.status=true
enc.warn=false
[connection]
account=
[notifications]
message=false
"""


PANEL = COLUMNS * 6 // 10  # where the roster begins: roster.size is its share in percent


class Profanity:
    def __init__(self, host):
        folder = os.path.join(host.home, "profanity")
        os.makedirs(os.path.join(folder, "config", "profanity"), exist_ok=True)
        with open(os.path.join(folder, "config", "profanity", "profrc"), "w", encoding="utf-8") as file:
            file.write(SETTINGS)
        self.terminal = Terminal(host, ["profanity"], {"XDG_CONFIG_HOME": folder + "/config", "XDG_DATA_HOME": folder + "/data"})
        self.terminal.wait("Type '/help'")

    def login(self, name, password, tls="trust", seconds=15):
        """`tls`: trust (STARTTLS, any certificate) or disable."""
        self.terminal.enter(f"/connect {name}@id.internal server 127.0.0.1 port 5222 tls {tls}")
        self.terminal.wait("Enter password")
        self.terminal.enter(password)
        self.terminal.wait("logged in successfully", seconds)

    def roster(self):
        """The contact list beside the first window: {group: {contact: [presence and status lines]}}."""
        groups, group, contact = {}, None, None
        for line in (line[PANEL:] for line in self.terminal.lines()):
            if heading := re.match(r" (\S.*) \(\d+\)$", line):
                group, contact = groups.setdefault(heading.group(1), {}), None
            elif group is not None and (entry := re.match(r"   (\S+)", line)):
                contact = group.setdefault(entry.group(1), [])
            elif contact is not None and line.startswith("     "):
                contact.append(line.strip())
        return groups

    def wait_contact(self, name, group, show="online", seconds=15):
        """Until the roster shows `name` under `group` with this presence."""
        self.home()
        until(lambda: any(line.startswith(show) for line in self.roster().get(group, {}).get(name, [])), seconds,
              lambda: f"{name} {show} in {group}; the roster shows {self.roster()}")

    def say(self, name, text):
        self.terminal.enter(f"/msg {name} {text}")
        self.terminal.wait(rf"me: {text}")

    def open(self, name):
        self.terminal.enter(f"/msg {name}")

    def wait_text(self, pattern, seconds=15):
        return self.terminal.wait(pattern, seconds)

    def status(self, text, show="away"):
        self.terminal.enter(f'/status set {show} "{text}"')
        self.terminal.wait(rf"\[{show}\]$")

    def accept(self, jid):
        self.terminal.enter(f"/sub allow {jid}")

    def subscribe(self, jid):
        self.terminal.enter(f"/sub request {jid}")

    def home(self):
        self.terminal.enter("/win 1")

    def close(self):
        self.terminal.close()
