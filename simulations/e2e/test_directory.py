"""The directory of a domain: who has agreed is found by who searches (XEP-0055), whoever is away; and a name follows to the next laptop."""

import time

from purple import Purple
from slix import Slix
from test_authority import ALICE, DOMAIN, PASSWORD, client, enrolled, found, invite
from test_sync import in_step, server_of
from waiting import until

BOB = "bob@school.example"
SERVICE, COMMAND = f"directory.{DOMAIN}", "urn:crosstalk:directory"
MEMBERS = '[authority]\ndirectory = "members"\n'
CARD = "<vCard xmlns='vcard-temp'><FN>Anna Maria M\u00fcller</FN><NICKNAME>Anni</NICKNAME></vCard>"


def people(answer):
    assert not answer.get("condition"), answer
    return {row["jid"]: (row["nick"], row["fn"]) for row in answer["rows"]}


def search(slix, text):
    return slix.do("search", to=SERVICE, text=text)


def listed(server):
    return {person["address"]: person["full_name"] for person in server.ask("authority", "directory")["people"]}


def test_found_by_consent_alone(labs, nodes_of, figure):
    server, first, second = nodes_of(labs(3))
    server.configure(MEMBERS)
    for node in (server, first, second):
        node.start()
    found(server)
    enrolled(first, invite(server, "alice"))
    enrolled(second, invite(server, "bob"))
    in_step(first), in_step(second)
    alice, bob = client(first), client(second, BOB)
    # What a stock client finds by service discovery.
    assert bob.do("items", to=DOMAIN) == {SERVICE: "Directory"}
    info = bob.disco(SERVICE)["xml"]
    assert 'category="directory" type="user"' in info and "jabber:iq:search" in info, info
    assert bob.do("items", to=DOMAIN, node="http://jabber.org/protocol/commands").keys() == {COMMAND, "urn:crosstalk:identity"}
    alice.do("iq", type="set", xml=CARD)
    # Nobody is found before consent.
    assert people(search(bob, "anni")) == {} and listed(server) == {}
    told = first.cli("account", "directory", ALICE)
    assert "nothing" in told.stdout and "Anna Maria M\u00fcller" in told.stdout, told.stdout
    # Consent, seeing what is agreed to.
    said = alice.do("command", to=DOMAIN, node=COMMAND, answers={"shown": "full-name"})
    assert said["chosen"]["shown"] == "off" and said["status"] == "completed", said
    assert [ALICE, "Anni", "Anna Maria M\u00fcller"] == said["options"]["shown"]["full-name"].split(", "), said
    until(lambda: listed(server), 20, "alice in the directory")
    shown = {ALICE: ("Anni", "Anna Maria M\u00fcller")}
    for text in ("anni", "MULLER ann", "m\u00fcl", "alice", ALICE):
        assert people(search(bob, text)) == shown, text
    assert people(search(bob, "nna")) == {} and people(search(bob, "anni bob")) == {}
    # By the fields of old.
    old = bob.iq("set", "<query xmlns='jabber:iq:search'><first>anna</first></query>", SERVICE)
    assert f'jid="{ALICE}"' in old["xml"] and "Anni" in old["xml"], old
    # Too little, and nobody from outside the domain.
    short = search(bob, "a")
    assert short["condition"] == "not-acceptable" and "two letters" in short["text"], short
    second.add_account("zoe")
    zoe = Slix(second.host, "zoe")
    zoe.login("zoe")
    assert search(zoe, "anni")["condition"] == "forbidden"
    # The laptop of whom is searched is off.
    in_step(first)
    first.stop()
    assert people(search(bob, "anni")) == shown
    # The name on the next laptop of the same user, while the first is off; there the consent is taken back.
    server.ask("account", "list")
    enrolled(second, ALICE)
    in_step(second)
    again = client(second)
    until(lambda: "Anna Maria" in again.iq("get", "<vCard xmlns='vcard-temp'/>")["xml"], 20, "the vCard on the second laptop")
    account = next(a for a in second.ask("account", "list") if a["jid"] == ALICE)
    assert account["nickname"] == "Anni"
    second.ask("account", "directory", ALICE, "off")
    until(lambda: not listed(server), 20, "alice taken out")
    assert people(search(bob, "anni")) == {}
    # The first laptop learns of that, and does not put it back.
    first.start()
    in_step(first)
    assert first.ask("account", "directory", ALICE)["shown"] == "off" and listed(server) == {}
    # Consent while the server is away is held; a search says that the server is away.
    server.stop()
    first.ask("account", "directory", ALICE, "nickname")
    away = search(bob, "anni")
    assert away["condition"] == "remote-server-timeout" and "away" in away["text"], away
    server.start()
    until(lambda: listed(server) == {ALICE: None}, 60, "what was held")
    until(lambda: server_of(second)["state"] == "up", 60, "the server back at the second laptop")
    until(lambda: not search(bob, "anni").get("condition"), 20, "the directory back")
    assert people(search(bob, "muller")) == {} and people(search(bob, "anni")) == {ALICE: ("Anni", "")}
    # Who is disabled is not found any more, at once.
    server.ask("authority", "user", "disable", "alice")
    assert listed(server) == {} and people(search(bob, "anni")) == {}
    assert "taken out of the directory" in [line["what"] for line in server.ask("authority", "audit")]


def test_by_the_menu_of_a_stock_client(labs, nodes_of):
    """libpurple's "Search for Users" (Pidgin, Finch): it knows the directory, shows the form, and lists who was found."""
    server, laptop = nodes_of(labs(2))
    server.configure(MEMBERS)
    for node in (server, laptop):
        node.start()
    found(server)
    for name in ("alice", "bob"):
        enrolled(laptop, invite(server, name))
    in_step(laptop)
    client(laptop).do("iq", type="set", xml=CARD)
    laptop.ask("account", "directory", ALICE, "full-name")
    until(lambda: listed(server), 20, "alice in the directory")
    bob = Purple(laptop.host, "bob")
    with open(f"{laptop.data}/client-tls.pem", encoding="utf-8") as file:
        certificate = file.read().split("-----END PRIVATE KEY-----\n")[1]
    bob.login(BOB, PASSWORD, accepted=certificate)

    def look_for(words):
        begun = time.monotonic()
        bob.do("search")
        bob.wait("asks", default=SERVICE, after=begun)
        bob.do("answer", value=SERVICE)
        (label,) = bob.wait("asks", labels=bool, after=begun)["labels"]
        bob.do("answer", value={label: words})
        return [list(row.values()) for row in bob.wait("finds", after=begun)["rows"]]

    assert look_for("muller") == [[ALICE, "Anni", "Anna Maria M\u00fcller"]]
    assert look_for("nobody") == []
