"""Fixtures of the end-to-end tests: hosts, figures, the seed; and the loud skip where namespaces are forbidden."""

import os
import random
import shutil
import stat
import time

import pytest

import netns
from avahi import Avahi
from bonjour import Bonjour
from netns import Forbidden, Lab
from node import Node, binary
from slix import Slix

LOGS = os.path.join(netns.HERE, "..", "..", "target", "e2e-logs")


def pytest_configure(config):
    netns.stop_on_sigterm()
    given = getattr(config, "workerinput", os.environ).get("CROSSTALK_SEED")
    config.seed = int(given or time.time_ns() % 1_000_000)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """pytest-xdist: its workers have the seed of the run."""
    node.workerinput["CROSSTALK_SEED"] = node.config.seed


def pytest_report_header(config):
    return f"seed {config.seed} (repeat with CROSSTALK_SEED={config.seed}); node: {binary()}"


def pytest_collection_modifyitems(items):
    """What waits longest begins first."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_terminal_summary(terminalreporter):
    lines = [line for reports in terminalreporter.stats.values() for report in reports if getattr(report, "when", None) == "call"
             for name, line in report.user_properties if name == "figure"]
    if lines:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    setattr(item, f"report_{report.when}", report)


def unavailable(why):
    """Skip loudly, or fail where CROSSTALK_REQUIRE_ALL=1 forbids skipping."""
    message = f"NOT TESTED: {why}"
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
        request.node.user_properties.append(("figure", line))
        print(line, flush=True)
    return record


@pytest.fixture
def labs(request):
    """labs(hosts, KIND, BED): a lab, or another bed of netns.py; what its hosts wrote is kept under target/e2e-logs if the test fails."""
    made = []

    def make(hosts=2, kind="dual", bed=Lab):
        try:
            made.append(bed(hosts, kind))
        except Forbidden as reason:
            unavailable(f"network namespaces: {reason}")
        return made[-1]
    yield make
    failed = any(getattr(request.node, f"report_{when}", None) and getattr(request.node, f"report_{when}").failed for when in ("setup", "call"))
    kept = os.path.normpath(os.path.join(LOGS, request.node.name.replace("/", "_")))
    shutil.rmtree(kept, ignore_errors=True)
    for number, lab in enumerate(made):
        if failed:
            keep(lab.root, os.path.join(kept, str(number)) if number else kept)
        lab.close()


@pytest.fixture
def lab(request, labs):
    """Two hosts (or @pytest.mark.hosts(N)) with both kinds of addresses (or @pytest.mark.addresses(KIND))."""
    hosts, addresses = (request.node.get_closest_marker(name) for name in ("hosts", "addresses"))
    return labs(hosts.args[0] if hosts else 2, addresses.args[0] if addresses else "dual")


def keep(root, target):
    """Copy the hosts' files, without sockets."""
    def sockets(folder, names):
        return [name for name in names if stat.S_ISSOCK(os.lstat(os.path.join(folder, name)).st_mode)]
    shutil.copytree(root, target, symlinks=True, ignore=sockets, dirs_exist_ok=True)
    print(f"logs and data are kept in {target}")


@pytest.fixture
def bonjour():
    """bonjour(host, "bob"): a Bonjour client there, not logged in yet; each host gets one avahi-daemon."""
    daemons = {}

    def start(host, name):
        try:
            avahi = daemons.get(host) or daemons.setdefault(host, Avahi(host))
            return Bonjour(avahi, name)
        except Forbidden as reason:
            unavailable(str(reason))
    return start


@pytest.fixture
def nodes_of():
    """nodes_of(lab): one node per host, not started yet."""
    def make(lab):
        if not os.access(binary(), os.X_OK):
            unavailable(f"no node at {binary()} (cargo build)")
        return [Node(host) for host in lab.hosts]
    return make


@pytest.fixture
def postgres():
    """A PostgreSQL of the test's own."""
    from postgres import Postgres
    made = Postgres()
    yield made
    made.close()


@pytest.fixture(params=["own", "postgres"])
def database(request):
    """Twice: settings of a server that keeps its database in the data directory, and in PostgreSQL."""
    return "" if request.param == "own" else request.getfixturevalue("postgres").settings()


@pytest.fixture
def nodes(lab, nodes_of):
    """One node per host, not started yet."""
    return nodes_of(lab)


@pytest.fixture
def node(nodes):
    return nodes[0]


@pytest.fixture
def online():
    """online(node, "alice"): a slixmpp client of that account; account and node are made and started if need be."""
    def login(node, name, **presence):
        if node.cli("account", "show", name).returncode:
            node.add_account(name)
        if not node.running():
            node.start()
        client = Slix(node.host, name)
        client.login(name)
        if presence:
            client.do("presence", **presence)
        return client
    return login
