"""What the benchmarks of many nodes share: the way to the end-to-end tests' hosts, figures, and where they go."""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from statistics import mean, median

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "simulations" / "e2e"))
sys.dont_write_bytecode = True
os.environ.setdefault("CROSSTALK_BIN", str(ROOT / "target" / "release" / "crosstalk"))

from netns import Forbidden, stop_on_sigterm  # noqa: E402
from node import binary  # noqa: E402


def say(text):
    print(text, file=sys.stderr, flush=True)


def at(values, percent):
    values = sorted(values)
    return values[min(len(values) * percent // 100, len(values) - 1)]


def spread(values):
    return {"mean": mean(values), "median": median(values), "p99": at(values, 99), "max": max(values)} if values else None


def machine():
    names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return f"{len(names)} x {names[0] if names else '?'}, Linux {os.uname().release}, {time.strftime('%Y-%m-%d %H:%M')}"


def usage(about, name):
    """The command line of a benchmark whose figures go to target/measured/NAME.json."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", default=str(ROOT / "target" / "measured" / f"{name}.json"), help="where the figures go; -: only to the screen")
    return parser


def run(measure, options):
    """Measures, writes and prints the figures, which it returns."""
    if not os.access(binary(), os.X_OK):
        sys.exit(f"no node at {binary()}: build it, or name one in CROSSTALK_BIN")
    stop_on_sigterm()
    begin = time.monotonic()
    try:
        figures = {"machine": machine(), "binary": os.path.relpath(binary(), ROOT), **measure(options)}
    except Forbidden as reason:
        sys.exit(f"not possible here: {reason}")
    except KeyboardInterrupt:
        sys.exit("interrupted: nothing was written")
    text = json.dumps(figures, indent=1) + "\n"
    if options.json != "-":
        Path(options.json).parent.mkdir(parents=True, exist_ok=True)
        Path(options.json).write_text(text, encoding="ascii")
    print(text, end="")
    say(f"{time.monotonic() - begin:.0f} s in all")
    return figures
