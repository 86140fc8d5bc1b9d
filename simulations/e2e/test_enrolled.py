"""How a name under a domain comes to a laptop beside by an invitation on an empty one: a joined laptop, an account that was there before."""

import json
import os

from slix import Slix, befriend
from test_authority import ALICE, PASSWORD, client, enrol, enrolled, found, invite, refusal
from test_sync import add, contacts, in_step
from waiting import until


def joined(older, newer, password=PASSWORD):
    done = older.cli("device", "add", "--account", ALICE, "--password-stdin", "--json", password=password)
    assert done.returncode == 0, done.stderr
    code = json.loads(done.stdout)["code"]
    done = newer.cli("device", "join", code, "--password-stdin", "--json", password=password, seconds=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_joined_laptop_is_enrolled(labs, nodes_of):
    """By the code of the first: name, authority and server come with it; it syncs while the first is away."""
    server, first, second = nodes_of(labs(3))
    for node in (server, first, second):
        node.start()
    found(server)
    enrolled(first, invite(server, "alice"))
    made = joined(first, second)
    assert (made["jid"], made["login"]) == (ALICE, ALICE)
    in_step(second)
    assert second.ask("status")["names"][0]["valid"]
    in_step(first)
    first.stop()
    add(second, "dave@far.example", "Dave")
    in_step(second)
    second.stop()
    first.start()
    until(lambda: "dave@far.example" in contacts(first), 60, "what was added on the joined laptop, by the server")
    second.start()
    assert client(second).jid == ALICE
    assert "already" in refusal(enrol(second, ALICE))


def test_an_account_gets_a_name(labs, nodes_of):
    """It keeps user key, contacts and friends; a name of somebody else is refused to it."""
    server, first, second, other = nodes_of(labs(4))
    first.add_account("ally", PASSWORD)
    other.add_account("bob")
    for node in (server, first, second, other):
        node.start()
    found(server)
    enrolled(second, invite(server, "carol"))
    ally, bob = client(first, "ally@id.internal"), Slix(other.host, "bob4")
    bob.login("bob")
    befriend(ally, bob)
    xid = first.ask("account", "show", "ally")["xid"]
    said = refusal(enrol(first, "carol@school.example", PASSWORD, "--account", "ally"))
    assert "another user key" in said, said
    link = invite(server, "alice")
    assert "does not open" in refusal(enrol(first, link, "not its password", "--account", "ally"))
    done = enrol(first, link, PASSWORD, "--account", "ally")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert (made["account"]["jid"], made["account"]["xid"]) == (ALICE, xid) and not made["recovery"]
    alice = client(first, resource="named")
    assert [contact["jid"] for contact in first.ask("contact", "list", "--account", ALICE)] == [bob.jid]
    bob.do("send", to=f"{xid}@id.internal", body="still you", id="m1")
    alice.wait("message", 20, id="m1")
    in_step(first)
    # A further laptop comes by name and password, like any other.
    enrolled(other, ALICE)
    assert other.ask("account", "show", ALICE)["xid"] == xid


def test_the_key_of_the_domain_is_handed_over(labs, nodes_of, tmp_path):
    """Who is enrolled follows, names and passwords and invitations go on to count, a copy of the keys is put back."""
    server, first, second, other = nodes_of(labs(4))
    for node in (server, first, second, other):
        node.start()
    found(server)
    enrolled(first, invite(server, "alice"))
    enrolled(other, invite(server, "bob"))
    alice, bob = client(first), client(other, "bob@school.example")
    befriend(alice, bob)
    carol = invite(server, "carol")
    old = server.ask("authority", "show")["authority"]
    new = server.ask("authority", "key", "rotate")["authority"]
    assert new != old and server.ask("authority", "show")["authority"] == new
    tier = lambda: {c["jid"]: c["tier"] for c in other.ask("contact", "list", "--account", "bob@school.example")}[ALICE]
    for node in (first, other):
        node.stop()
        node.start()
        in_step_of(node)
    assert [line["name"] for line in server.ask("authority", "audit") if line["what"] == "name renewed"].count("alice") == 1
    until(lambda: tier() == "certified", 30, "the name by the new key at a contact")
    enrolled(second, ALICE)
    enrolled(other, carol)
    copy = tmp_path / "keys"
    assert server.cli("authority", "key", "export", str(copy)).returncode == 0
    server.stop()
    os.unlink(os.path.join(server.data, "keys", "authority.key"))
    done = server.cli("authority", "key", "import", str(copy), "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["authority"] == new, done.stderr
    server.start()
    assert server.ask("authority", "show")["authority"] == new


def in_step_of(node):
    """Whoever is enrolled there and the server are in step."""
    until(lambda: all(view["state"] == "up" and not view["held"] for view in node.ask("status")["servers"]), 60, "a sync")
