"""The database of a domain's server in PostgreSQL: away and back, several servers on one, back-ups between both kinds, figures."""

import contextlib
import json
import os
import subprocess
import tempfile
import time

from prometheus_client.parser import text_string_to_metric_families

from conftest import unavailable
from postgres import Postgres
from test_authority import ALICE, PASSWORD, client, enrol, enrolled, found, invite, issued, refusal, users
from test_power_cut import mount
from test_sync import add, contacts, in_step, server_of
from waiting import until


def standing(server):
    return server.ask("status")["database"]


def keys_of(server, other):
    """The keys of the domain, copied as an administrator does."""
    folder = os.path.join(server.host.home, "keys of the domain")
    done = server.cli("authority", "key", "export", folder)
    assert done.returncode == 0, done.stderr
    # A further server keeps a node key of its own.
    done = other.cli("authority", "key", "import", folder)
    assert done.returncode == 0, done.stderr
    assert "--node" in done.stdout and not os.path.exists(os.path.join(other.data, "keys", "node.key")), done.stdout
    return folder


def test_a_database_that_is_away_is_waited_for(labs, nodes_of, postgres, figure):
    """Nobody is enrolled meanwhile, everything else goes on; the server may even be started then."""
    server, laptop = nodes_of(labs(2))
    server.configure(postgres.settings())
    for node in (server, laptop):
        node.start()
    found(server)
    link = invite(server, "alice")
    assert standing(server)["up"] and standing(server)["leads"]
    postgres.stop()
    assert "try again later" in refusal(enrol(laptop, link))
    begin = time.monotonic()
    shown = server.cli("status").stdout
    assert time.monotonic() - begin < 5 and "AWAY" in shown and "come again" in shown, shown
    assert not standing(server)["leads"]
    level, text = server.doctor("database")
    assert level == "fail" and "start it" in text, text
    server.add_account("carol")
    assert "away" in refusal(server.cli("authority", "user", "list", "--json"))
    postgres.start()
    begin = time.monotonic()
    until(lambda: standing(server)["up"], 30, "the database to be found again")
    figure(f"found again after {time.monotonic() - begin:.1f} s")
    assert enrolled(laptop, link)["account"]["jid"] == ALICE
    assert len(issued(server)) == 1 and users(server) == {"alice": "enrolled"}
    # The node comes up without it, and serves when it is there.
    server.stop()
    postgres.stop()
    server.start()
    assert not standing(server)["up"]
    assert server.log().count("of the domain is away") == 2, "said once each time"
    postgres.start()
    until(lambda: server.cli("authority", "show").returncode == 0, 30, "the domain to be served")
    server.ask("authority", "user", "add", "bob")
    assert enrolled(laptop, server.ask("authority", "invite", "bob")["link"])["account"]["jid"] == "bob@school.example"
    assert client(laptop).jid == ALICE


def test_a_full_disk_is_waited_for(labs, nodes_of):
    """Nothing acknowledged is lost, it is said once, and goes on when there is room."""
    server, laptop = nodes_of(labs(2))
    host, image = server.host, os.path.join(server.host.home, "disk.img")
    with open(image, "wb") as file:
        file.truncate(48 << 20)
    assert host.run(["mkfs.ext4", "-q", image]).returncode == 0
    mount(host, image)
    disk = os.path.join(host.home, "disk")
    assert host.run(["mkdir", os.path.join(disk, "authority")]).returncode == 0
    os.makedirs(server.data, mode=0o700, exist_ok=True)
    os.symlink(os.path.join(disk, "authority"), os.path.join(server.data, "authority"))
    for node in (server, laptop):
        node.start()
    found(server)
    link = invite(server, "alice")
    fill = os.path.join(disk, "fill")
    assert host.run(["dd", "if=/dev/zero", f"of={fill}", "bs=4096", "status=none"]).returncode != 0, "it is full"
    added = {"alice": "invited"}
    # What is left of the journal's last block takes some more.
    for number in range(200):
        done = server.cli("authority", "user", "add", f"user{number}", "--json")
        if done.returncode != 0:
            break
        added[f"user{number}"] = "new"
    assert "nothing can be saved" in refusal(done)
    assert "try again later" in refusal(enrol(laptop, link))
    shown = server.cli("status").stdout
    assert "AWAY" in shown and "the disk is full" in shown, shown
    assert users(server) == added
    assert host.run(["rm", fill]).returncode == 0
    until(lambda: standing(server)["up"], 30, "room to be found")
    assert standing(server)["leads"], server.log(20)
    # Small changes may still have found room in between.
    assert 1 <= server.log().count("of the domain is away") <= 3, server.log(20)
    assert enrolled(laptop, link)["account"]["jid"] == ALICE
    server.kill()
    server.start()
    assert users(server) == {**added, "alice": "enrolled"}
    server.kill()
    assert host.run(["umount", disk]).returncode == 0


def test_a_full_disk_of_postgresql_is_waited_for(labs, nodes_of):
    """As a full disk of our own database: laptops come again, nothing acknowledged is lost, it is said once."""
    # Before the hosts: each has its own view of what is mounted.
    with disk_of_its_own() as disk:
        server, laptop = nodes_of(labs(2))
        postgres = Postgres(disk)
        try:
            server.configure(postgres.settings())
            for node in (server, laptop):
                node.start()
            found(server)
            link = invite(server, "alice")
            fill = os.path.join(disk, "fill")
            with open(fill, "wb") as file, contextlib.suppress(OSError):
                while True:
                    os.write(file.fileno(), bytes(4096))
            added = {"alice": "invited"}
            # What is left of the pages and of the log that PostgreSQL has takes some more.
            for number in range(2000):
                done = server.cli("authority", "user", "add", f"user{number}", "--json")
                if done.returncode != 0:
                    break
                added[f"user{number}"] = "new"
            assert "is away" in refusal(done), done.stderr
            assert "try again later" in refusal(enrol(laptop, link))
            assert "AWAY" in server.cli("status").stdout
            os.remove(fill)
            until(lambda: standing(server)["up"], 60, lambda: f"room to be found; {server.log(20)}")
            # PostgreSQL may have ended for want of room, and come back by itself.
            assert 1 <= server.log().count("of the domain is away") <= 2, server.log(20)
            known = users(server)
            assert all(known.get(name) == state for name, state in added.items()), (known, added)
            assert enrolled(laptop, link)["account"]["jid"] == ALICE
        finally:
            server.kill()
            postgres.close()


@contextlib.contextmanager
def disk_of_its_own():
    """A small one, in memory, that others can look into."""
    with tempfile.TemporaryDirectory(prefix="crosstalk-disk-") as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m,mode=0755", "tmpfs", folder], capture_output=True, text=True, check=False)
        if done.returncode:
            unavailable(f"a disk in memory: {done.stderr.strip()}")
        try:
            os.chmod(folder, 0o755)
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def test_two_servers_are_one(labs, nodes_of, postgres, figure):
    """Both enrol; what one revokes the other refuses; one leads, and the other when that one is killed."""
    first, second, laptop, other, third = nodes_of(labs(5))
    for server in (first, second):
        server.configure(postgres.settings())
    for node in (first, laptop, other, third):
        node.start()
    found(first)
    keys_of(first, second)
    second.start()
    assert second.ask("authority", "show")["domain"] == "school.example"
    enrolled(laptop, invite(first, "alice"))
    enrolled(laptop, invite(second, "bob"))
    assert users(first) == users(second) == {"alice": "enrolled", "bob": "enrolled"}
    assert len(issued(second)) == 1
    until(lambda: standing(first)["leads"] and not standing(second)["leads"], 20, "one to lead")
    first.kill()
    begin = time.monotonic()
    until(lambda: standing(second)["leads"], 30, "the other to lead")
    figure(f"the other leads {time.monotonic() - begin:.1f} s after SIGKILL")
    enrolled(other, ALICE)
    second.ask("authority", "user", "disable", "alice")
    first.start()
    assert users(first)["alice"] == "disabled"
    assert "ended this account" in refusal(enrol(third, ALICE))


def node_of(server):
    return server.ask("authority", "show")["node"]


def test_a_laptop_follows_to_the_server_that_is_left(labs, nodes_of, postgres, figure):
    """Its server is killed for good: the other one has it within seconds, nothing is lost, and the next laptop is enrolled there."""
    first, second, laptop, other = nodes_of(labs(4))
    for server in (first, second):
        server.configure(postgres.settings())
    for node in (first, laptop):
        node.start()
    found(first)
    enrolled(laptop, invite(first, "alice"))
    in_step(laptop)
    assert server_of(laptop)["others"] == 0
    keys_of(first, second)
    second.start()
    until(lambda: len(first.ask("authority", "show")["servers"]) == 2, 20, "the servers to know each other")
    assert node_of(first) != node_of(second) and node_of(second) in first.cli("authority", "show").stdout
    # Each pass may tell; one goes with each change.
    tries = iter(range(100))
    until(lambda: add(laptop, f"c{next(tries)}@far.example", "C") or server_of(laptop)["others"] == 1, 30, "the laptop to be told", every=2)
    in_step(laptop)
    former = node_of(first)
    assert server_of(laptop)["node"] == former
    first.kill()
    begin = time.monotonic()
    add(laptop, "bob@far.example", "Bob")
    until(lambda: server_of(laptop)["node"] == node_of(second), 40, "the laptop to follow")
    in_step(laptop)
    figure(f"in step with the other server {time.monotonic() - begin:.1f} s after SIGKILL")
    assert "one of 2 servers" in laptop.cli("status").stdout
    other.start()
    enrolled(other, ALICE)
    in_step(other)
    assert contacts(other) == contacts(laptop) and "bob@far.example" in contacts(other)
    # The first one is back, and nobody moves; it is taken out of service, and known to nobody.
    first.start()
    until(lambda: any(peer["node"] == former and peer["connected"] for peer in laptop.ask("peers")), 30, "the first server to be met")
    add(laptop, "carl@far.example", "Carl")
    assert in_step(laptop)["node"] == node_of(second)
    first.stop()
    assert second.cli("authority", "server", "forget", former[:8]).returncode == 0
    assert any(line["what"] == "server forgotten" for line in second.ask("authority", "audit"))
    tries = iter(range(100))
    until(lambda: add(laptop, f"d{next(tries)}@far.example", "D") or server_of(laptop)["others"] == 0, 30, "the laptop to be told", every=2)


def test_a_lost_server_is_put_back_from_the_copy_of_its_keys_and_the_back_up(labs, nodes_of):
    """On a new machine with the node's key laptops go on by themselves; without it they enrol there again with the password."""
    first, again, anew, laptop = nodes_of(labs(4))
    for node in (first, laptop):
        node.start()
    found(first)
    enrolled(laptop, invite(first, "alice"))
    add(laptop, "bob@far.example", "Bob")
    in_step(laptop)
    lost = node_of(first)
    file = os.path.join(first.host.home, "school.backup")
    first.ask("authority", "backup", file)
    folder = os.path.join(first.host.home, "keys of the domain")
    assert first.cli("authority", "key", "export", folder).returncode == 0
    first.kill()
    add(laptop, "carl@far.example", "Carl")
    # With its key: laptops see the server that they know.
    done = again.cli("authority", "key", "import", folder, "--node")
    assert done.returncode == 0 and lost in done.stdout, done.stdout + done.stderr
    again.ask("authority", "restore", file)
    again.start()
    assert node_of(again) == lost
    until(lambda: in_step(laptop, 1), 60, "the laptop to go on")
    # That one is lost, too, and no key of its node is left.
    file = os.path.join(again.host.home, "school.backup")
    again.ask("authority", "backup", file)
    again.kill()
    add(laptop, "dora@far.example", "Dora")
    keys = anew.cli("authority", "key", "import", folder)
    assert keys.returncode == 0, keys.stderr
    anew.ask("authority", "restore", file)
    anew.start()
    assert node_of(anew) != lost
    assert "does not know this name with this password" in refusal(enrol(laptop, ALICE, "not the password", "--server", node_of(anew)))
    assert server_of(laptop)["node"] == lost
    done = enrol(laptop, ALICE, PASSWORD, "--server", node_of(anew))
    assert done.returncode == 0 and json.loads(done.stdout)["again"], done.stderr
    assert in_step(laptop)["node"] == node_of(anew)
    assert set(contacts(laptop)) == {"bob@far.example", "carl@far.example", "dora@far.example"}
    assert "already" in refusal(enrol(laptop, ALICE))
    assert client(laptop).jid == ALICE


def test_a_back_up_moves_the_domain_to_postgresql_and_back(labs, nodes_of, postgres):
    """Made while the node runs; whoever was enrolled logs in at the next server with the same password."""

    servers = nodes_of(labs(5))
    servers, laptops = servers[:3], servers[3:]
    servers[1].configure(postgres.settings())
    for node in (servers[0], *laptops):
        node.start()
    found(servers[0])
    enrolled(laptops[0], invite(servers[0], "alice"))
    for before, after in zip(servers, servers[1:]):
        file = os.path.join(before.host.home, "school.backup")
        made = before.ask("authority", "backup", file)
        assert made["entries"] >= 4 and os.stat(file).st_mode & 0o777 == 0o600
        assert before.cli("authority", "backup", file).returncode != 0, "nothing is overwritten"
        assert "already" in refusal(before.cli("authority", "restore", file, "--json"))
        keys_of(before, after)
        before.stop()
        assert after.ask("authority", "restore", file) == made
        after.start()
        assert users(after) == {"alice": "enrolled"} and len(issued(after)) == 1
    enrolled(laptops[1], ALICE)
    assert client(laptops[1], password=PASSWORD).jid == ALICE


def test_figures_for_prometheus(labs, nodes_of):
    """On loopback, only if wanted, and nobody is named."""
    server, laptop = nodes_of(labs(2))
    server.configure('[metrics]\nlisten = ["127.0.0.1:9522"]\n')
    for node in (server, laptop):
        node.start()
    found(server)
    enrolled(laptop, invite(server, "alice"))
    fetch = ("import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9522/metrics', timeout=5).read().decode())")
    text = server.host.run(["python3", "-c", fetch]).stdout
    read = {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}
    assert read["crosstalk_authority_database_commit_seconds_count"] >= 3, read
    assert 0 < read["crosstalk_authority_database_commit_seconds_sum"] < 60, read
    for line in ("crosstalk_authority_database_up 1", 'crosstalk_authority_changes_total{what="name issued"} 1', "crosstalk_peers 1"):
        assert line in text.splitlines(), text
    assert "alice" not in text and "school" not in text
    assert server.host.run(["python3", "-c", fetch.replace("/metrics", "/")]).returncode != 0
