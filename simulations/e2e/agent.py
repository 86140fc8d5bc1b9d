"""A chat program in a host, driven by JSON lines: commands on its stdin, answers and events on its stdout.

An event is a dict with `event` and `at` (seconds, the machine's monotonic clock, comparable between hosts). All are kept,
in order, and written beside the program's log.
"""

import json
import os
import subprocess
import sys
import threading
import time

from netns import HERE, end
from waiting import Late


class Refused(Exception):
    """The program answered a command with an error."""


class Agent:
    """One program: `script` is a file of this folder. It starts at once and obeys the commands in order."""

    def __init__(self, host, name, script, env=None):
        self.host, self.name, self.events, self.answers, self.calls = host, name, [], {}, 0
        self.news, self.lock = threading.Condition(), threading.Lock()
        kind = script.split("_")[0]
        self.log_path = os.path.join(host.home, f"{kind}-{name}.log")
        with open(self.log_path, "ab") as log:
            trace = {"CROSSTALK_TRACE": os.environ.get("CROSSTALK_TRACE", "")}  # set it to keep every stanza in the log
            self.process = host.popen([sys.executable, "-u", os.path.join(HERE, script)], env={**trace, **(env or {})},
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        self.record = open(os.path.join(host.home, f"events-{kind}-{name}.jsonl"), "a", buffering=1, encoding="utf-8")  # kept with the logs
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while line := self._line():
            self._hear(line)
        self.record.close()
        with self.news:
            self.answers[None] = True
            self.news.notify_all()

    def _line(self):
        try:
            return self.process.stdout.readline()
        except ValueError:
            return ""  # whoever ended the program has closed the pipe

    def _hear(self, line):
        self.record.write(line)
        said = json.loads(line) if line.endswith("\n") else {"event": "cut off", "at": time.monotonic()}
        with self.news:
            if "answer" in said:
                self.answers[said["answer"]] = said
            else:
                self.events.append(said)
            self.news.notify_all()

    def begin(self, do, /, **fields):
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

    def do(self, do, /, seconds=30, **fields):
        return self.finish(self.begin(do, **fields), seconds)

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

    def close(self):
        """SIGKILL."""
        end(self.process)


def bare(jid):
    return jid.split("/", 1)[0]


def fits(said, event, match):
    if said["event"] != event:
        return False
    for key, wanted in match.items():
        value = bare(said.get("from") or "") if key == "sender" else said.get(key)
        if not (wanted(value) if callable(wanted) else value == wanted):
            return False
    return True
