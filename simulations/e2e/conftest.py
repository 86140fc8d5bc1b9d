"""Fixtures of the end-to-end tests: hosts, figures, the seed; and the loud skip where namespaces are forbidden."""

import os
import random
import shutil
import stat
import time

import pytest

import netns
from netns import Forbidden, Lab
from node import Node, binary

FIGURES, LOGS = [], os.path.join(netns.HERE, "..", "..", "target", "e2e-logs")


def pytest_configure(config):
    netns.stop_on_sigterm()
    config.seed = int(os.environ.get("CROSSTALK_SEED") or time.time_ns() % 1_000_000)


def pytest_report_header(config):
    return f"seed {config.seed} (repeat with CROSSTALK_SEED={config.seed}); node: {binary()}"


def pytest_terminal_summary(terminalreporter):
    if FIGURES:
        terminalreporter.section("figures")
        for line in FIGURES:
            terminalreporter.write_line(line)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    setattr(item, f"report_{report.when}", report)


def unavailable(why):
    """Skip loudly, or fail where CROSSTALK_REQUIRE_ALL=1 forbids skipping."""
    message = f"NOT TESTED: {why}"
    FIGURES.append(message)
    if os.environ.get("CROSSTALK_REQUIRE_ALL") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture
def chance(request):
    """The source of all randomness of one test: its own, whatever runs before it."""
    return random.Random(f"{request.config.seed} {request.node.name}")


@pytest.fixture
def figure(request):
    """figure("text"): a measured result; printed at once and again at the end of the run."""
    def record(text):
        line = f"{request.node.name}: {text}"
        FIGURES.append(line)
        print(line, flush=True)
    return record


@pytest.fixture
def lab(request):
    """Two hosts (or @pytest.mark.hosts(N)); what they wrote is kept under target/e2e-logs if the test fails."""
    marker = request.node.get_closest_marker("hosts")
    try:
        made = Lab(marker.args[0] if marker else 2)
    except Forbidden as reason:
        unavailable(f"network namespaces: {reason}")
    yield made
    kept = os.path.normpath(os.path.join(LOGS, request.node.name.replace("/", "_")))
    shutil.rmtree(kept, ignore_errors=True)
    if any(getattr(request.node, f"report_{when}", None) and getattr(request.node, f"report_{when}").failed for when in ("setup", "call")):
        keep(made.root, kept)
    made.close()


def keep(root, target):
    """Copy the hosts' files, without sockets."""
    def sockets(folder, names):
        return [name for name in names if stat.S_ISSOCK(os.lstat(os.path.join(folder, name)).st_mode)]
    shutil.copytree(root, target, symlinks=True, ignore=sockets)
    print(f"logs and data are kept in {target}")


@pytest.fixture
def nodes(lab):
    """One node per host, not started yet."""
    if not os.access(binary(), os.X_OK):
        unavailable(f"no node at {binary()} (cargo build)")
    return [Node(host) for host in lab.hosts]


@pytest.fixture
def node(nodes):
    return nodes[0]
