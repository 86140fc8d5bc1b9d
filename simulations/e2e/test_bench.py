"""The benchmarks run: the side-by-side one alone and as two that federate, for a few clients and a second; its figures are worth nothing here."""

import json
import os
import subprocess
import sys

from conftest import unavailable
from netns import HERE
from node import binary

# ejabberd takes long to start.
SERVERS = ("prosody", "crosstalk")
BENCH = os.path.join(HERE, "..", "bench")


def load_program():
    path = os.path.join(os.path.dirname(binary()), "crosstalk-load")
    if not os.access(path, os.X_OK):
        unavailable(f"no load program at {path} (cargo build)")
    return path


def measured(arguments, path):
    """The JSON that a benchmark wrote; it has ended well."""
    command = [sys.executable, *arguments, "--json", str(path)]
    # Left to themselves the benchmarks take the release build, which tests don't make.
    done = subprocess.run(command, env={**os.environ, "CROSSTALK_BIN": binary()}, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(path.read_text())


def test_one_server_and_two_take_what_they_are_sent(tmp_path, figure):
    """Each message to three others comes once; two servers have passed all of theirs on to each other."""
    command = [os.path.join(BENCH, "side-by-side"), "--quick", "--servers", ",".join(SERVERS), "--crosstalk", binary(), "--load", load_program()]
    rows = measured(command, tmp_path / "rows.json")["rows"]
    paced = {(row["server"], row["setup"]): row for row in rows if row["run"] == "one a second to 3"}
    assert set(paced) == {("(load program alone)", "one")} | {(server, setup) for server in SERVERS for setup in ("one", "two")}
    for (server, setup), row in paced.items():
        # Two seconds, eight clients, three messages a second each.
        assert row["messages.sent"] == 48, row
        assert [row[f"messages.{what}"] for what in ("lost", "bounced", "withheld", "repeated")] == [0, 0, 0, 0], row
        figure(f"{server}, {setup}: p99 {row['messages.latency.p99_us'] / 1000:.1f} ms")
    limits = {row["confined"] for row in rows if "confined" in row}
    assert limits and all("1024 MiB" in limit for limit in limits), limits
    both = [row["address"] for row in rows if row.get("setup") == "two"]
    assert both and all(len(address.split(", ")) == 2 for address in both)


def test_nodes_in_namespaces_find_each_other(tmp_path, figure):
    """The crowd in namespaces, with four nodes."""
    command = [os.path.join(BENCH, "crowd"), "--nodes", "4", "--each", "2", "--settle", "0", "--idle", "1", "--churn", "1"]
    figures = measured(command, tmp_path / "crowd.json")
    # One hop, but where a table was still filling.
    assert figures["lookups"] == 8 and figures["success"] == 1 and 1 <= figures["hops"]["median"] < 2
    # Of the four the third is replaced, and its record is held by the others.
    churn = figures["churn"]
    assert churn["replaced"] == 1 and churn["lookups"] == 8 and churn["success"] == 1
    assert 0 < figures["memory_mib"]["median"] < 200 and figures["joining_kb"]["median"] > 1
    figure(f"four nodes in namespaces: look-ups {figures['millis']['median']:.0f} ms")


def test_a_class_enrols_at_once(tmp_path, figure):
    """Eight laptops and their server: all are enrolled, and nothing was refused."""
    figures = measured([os.path.join(BENCH, "class"), "--laptops", "8", "--settle", "3"], tmp_path / "class.json")
    assert (figures["laptops"], figures["enrolled"]) == (8, 8)
    assert figures["refused"] == [] and figures["refused_by_server"] == {}
    server = figures["server"]
    assert server["cpu_seconds"] > 0 and server["database_kb"]["growth"] > 0 and server["memory_mib"]["after"] > 1
    figure(f"eight laptops at once: the last is enrolled after {figures['seconds']['max']:.1f} s, {server['cpu_seconds']:.2f} s of the server's CPU")
