"""One CrossTalk node in a host: start, stop, SIGKILL, restart, and its command line."""

import json
import os
import signal
import subprocess
import time

from netns import HERE, end
from waiting import until

XMPP, OVERLAY, DOMAIN = 5222, 14774, "id.internal"


def binary():
    return os.path.abspath(os.environ.get("CROSSTALK_BIN") or os.path.join(HERE, "..", "..", "target", "debug", "crosstalk"))


class Node:
    """The node of one host. `start` is also the restart: the data directory stays."""

    def __init__(self, host, data="data", settings=""):
        self.host = host
        self.data = os.path.join(host.home, data)
        self.log_path = os.path.join(host.home, f"{os.path.basename(data)}.log")
        self.process, self.started_at = None, None
        if settings:
            self.configure(settings)

    def configure(self, settings):
        """What its settings file says from the next start on."""
        os.makedirs(self.data, mode=0o700, exist_ok=True)
        with open(os.path.join(self.data, "crosstalk.toml"), "w", encoding="utf-8") as file:
            file.write(settings)

    def start(self, wait=20, level="info"):
        """Start it; with `wait` (seconds) return once clients can connect."""
        assert not self.running(), "already running"
        with open(self.log_path, "ab") as log:
            self.started_at = time.monotonic()
            self.process = self.host.popen([binary(), "run", "--data", self.data], env={"CROSSTALK_LOG": level},
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if wait:
            self.wait_ready(wait)
        return self

    def wait_ready(self, seconds=20):
        """Wait until clients can connect; returns the seconds since the start."""
        until(lambda: self.host.listens(XMPP) or not self.running(), seconds,
              lambda: f"node {self.host.name} listening; its log ends:\n{self.log(15)}", every=0.002)
        assert self.running(), f"node {self.host.name} ended with {self.process.returncode}:\n{self.log(15)}"
        return time.monotonic() - self.started_at

    def running(self):
        return self.process is not None and self.process.poll() is None

    def freeze(self, frozen=True):
        """SIGSTOP, or SIGCONT."""
        self.process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def kill(self):
        """SIGKILL, as a power cut is to a process."""
        end(self.process)

    def stop(self, seconds=15):
        """Ask it to end (SIGTERM, or what Ctrl-C sends) and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def log(self, lines=None):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            text = file.readlines()
        return "".join(text[-lines:] if lines else text)

    def memory(self):
        """Resident memory in KiB: now, and the highest so far."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["VmRSS"].split()[0]), int(fields["VmHWM"].split()[0])

    def settled_memory(self):
        """Resident memory in KiB, once that stays the same for a moment."""
        seen = []

        def same():
            seen.append(self.memory()[0])
            return len(seen) > 5 and len(set(seen[-5:])) == 1
        until(same, 10, lambda: f"memory to settle: {seen}", every=0.05)
        return seen[-1]

    def cli(self, *words, password=None, seconds=30):
        """`crosstalk WORDS --data DIR`, with or without a running node; the CompletedProcess."""
        return self.host.run([binary(), *words, "--data", self.data], seconds=seconds,
                             input="" if password is None else password + "\n")

    def doctor(self, what):
        """What `crosstalk doctor` finds of one thing: (level, text)."""
        found = json.loads(self.cli("doctor", "--json").stdout)
        return next(((one["level"], one["text"]) for one in found if one["what"] == what), None)

    def ask(self, *words):
        """A command that answers with --json, parsed."""
        done = self.cli(*words, "--json")
        assert done.returncode == 0, f"crosstalk {' '.join(words)} gave {done.returncode}: {done.stderr}"
        return json.loads(done.stdout)

    def add_account(self, name, password="secret"):
        done = self.cli("account", "add", name, "--password-stdin", password=password)
        assert done.returncode == 0, f"account add {name} gave {done.returncode}: {done.stderr}"
        return self.address(name)

    def address(self, name):
        """The real address of a local account."""
        return self.ask("account", "show", name)["jid"]
