"""Waiting for conditions with a deadline; nothing in these tests sleeps a fixed time to synchronise."""

import time


class Late(AssertionError):
    """A condition did not come true before its deadline."""


def until(condition, seconds, what, every=0.02):
    """Return the first true value of condition(); raise Late after `seconds`, saying `what` was awaited."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Late(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(every)
