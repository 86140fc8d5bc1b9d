"""mcabber (Debian's package), driven through a terminal."""

import os

from terminal import Terminal


class Mcabber:
    def __init__(self, host, name, password, tls=False):
        """It logs in as soon as it starts. Without `tls` it takes STARTTLS all the same where it is offered."""
        folder = os.path.join(host.home, "mcabber")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        settings = os.path.join(folder, "mcabberrc")
        with open(os.open(settings, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(f"set jid = {name}@id.internal\nset password = {password}\nset server = 127.0.0.1\nset port = 5222\n"
                       f"set tls = {int(tls)}\nset ssl_ignore_checks = 1\nset roster_width = 40\nset log_win_height = 15\n"
                       "set beep_on_message = 0\nset hide_offline_buddies = 0\n")
        self.terminal = Terminal(host, ["mcabber", "-f", settings])

    def wait_login(self, seconds=15):
        self.terminal.wait("Your status has been set", seconds)

    def wait_contact(self, name, group, show="o", seconds=15):
        """Until the roster shows `name` under `group`; show is mcabber's letter: o online, a away, _ offline."""
        self.terminal.wait(rf"--- {group}", seconds)
        self.terminal.wait(rf"[\[{{<]{show}[\]}}>] {name}", seconds)

    def open(self, jid):
        self.terminal.enter(f"/roster search {jid}")
        self.terminal.enter("")  # an empty line opens the chat that is selected

    def say(self, jid, text):
        self.terminal.enter(f"/say_to {jid} {text}")

    def wait_text(self, pattern, seconds=15):
        return self.terminal.wait(pattern, seconds)

    def status(self, text, show="away"):
        self.terminal.enter(f"/status {show} {text}")
        self.terminal.wait(f"Your status has been set: .*{text}")

    def close(self):
        self.terminal.close()
