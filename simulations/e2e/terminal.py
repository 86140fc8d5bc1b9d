"""A program in a host that thinks it talks to a terminal: what it shows is read from a screen, keys are typed."""

import re
import threading

import pexpect
import pyte

from waiting import until

COLUMNS, ROWS = 260, 50  # wide: addresses are long, and profanity breaks lines


class Terminal:
    """The program keeps running until `close`; a thread feeds the screen and keeps the whole transcript."""

    def __init__(self, host, argv, env=None):
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self.stream, self.lock, self.transcript = pyte.Stream(self.screen), threading.Lock(), ""
        command = host.enter(argv)
        self.child = pexpect.spawn(command[0], command[1:], env=host.environment(**(env or {})), cwd=host.home,
                                   dimensions=(ROWS, COLUMNS), encoding="utf-8", codec_errors="replace", timeout=None)
        self.child.delaybeforesend = None
        self.process = Child(self.child)
        host.processes.append(self.process)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while True:
            try:
                text = self.child.read_nonblocking(65536, None)
            except (pexpect.EOF, OSError, ValueError):
                return
            with self.lock:
                self.transcript += text
                self.stream.feed(text)

    def type(self, keys):
        self.child.send(keys)

    def enter(self, line):
        self.child.send(line + "\r")

    def lines(self):
        """The screen, without the blanks at the right."""
        with self.lock:
            return [line.rstrip() for line in self.screen.display]

    def shows(self, pattern):
        """Whether some line of the screen matches; the match."""
        return next((found for line in self.lines() if (found := re.search(pattern, line))), None)

    def wait(self, pattern, seconds=15):
        return until(lambda: self.shows(pattern), seconds, lambda: f"/{pattern}/ on the screen:\n" + "\n".join(filter(None, self.lines())))

    def close(self):
        self.process.kill()
        self.process.wait()


class Child:
    """A pexpect child with the part of Popen's face that netns.end uses."""

    stdin = stdout = stderr = None

    def __init__(self, child):
        self.child, self.pid = child, child.pid

    def poll(self):
        return None if self.child.isalive() else self.child.exitstatus

    def kill(self):
        self.child.kill(9)

    def wait(self):
        self.child.close(force=True)


