"""A contact list as long as it may be: it comes from another server, goes to each laptop, and a person sees how far it is."""

import os
import re
import time

from node import binary
from terminal import Terminal
from test_authority import ALICE, PASSWORD, client, enrol, enrolled, found
from test_sync import contacts, in_step, server_of
from waiting import until

CONTACTS = 5_000
# A name is as long as names of people are, and each is in a group.
ITEM = "<item jid='contact{0}@far.example' name='Contact number {0}' subscription='both'><group>Everybody</group></item>"


def export_of(host):
    """What another server wrote of alice (XEP-0227)."""
    path = os.path.join(host.home, "export.xml")
    items = "".join(ITEM.format(number) for number in range(CONTACTS))
    with open(path, "w", encoding="utf-8") as file:
        file.write("<?xml version='1.0'?><server-data xmlns='urn:xmpp:pie:0'><host jid='school.example'>"
                   f"<user name='alice' password='{PASSWORD}'><query xmlns='jabber:iq:roster'>{items}</query></user></host></server-data>")
    return path


def typed(node, *words):
    """`crosstalk enrol` as a person types it."""
    terminal = Terminal(node.host, [binary(), "enrol", ALICE, *words, "--data", node.data])
    terminal.wait("Your password at that server")
    terminal.enter(PASSWORD)
    return terminal


def mib(*nodes):
    return ", ".join(f"{node.settled_memory() / 1024:.1f}" for node in nodes)


def test_five_thousand_contacts(labs, nodes_of, figure):
    lab = labs(4)
    server, first, second, third = nodes = nodes_of(lab)
    for node in nodes:
        node.start()
    found(server)
    figure(f"MiB resident before, server and laptop: {mib(server, first)}")
    report = server.ask("authority", "user", "import", export_of(server.host))
    assert report["added"] == ["alice"] and not report["left_out"], report
    begin = time.monotonic()
    enrolled(first, ALICE)
    in_step(first, 120)
    of_first = contacts(first)
    assert len(of_first) == CONTACTS and of_first["contact4999@far.example"] == ("Contact number 4999", ["Everybody"])
    figure(f"{CONTACTS} contacts come from the former server, and are told to the new one, within {time.monotonic() - begin:.1f} s")
    figure(f"MiB resident then: {mib(server, first)}")
    alice = client(first)
    shown = alice.do("iq", type="get", xml="<query xmlns='jabber:iq:roster'/>")["xml"]
    assert shown.count("<item ") == CONTACTS and alice.ping("school.example")["type"] == "result"
    figure(f"MiB resident with a client that has the list: {mib(first)}")
    first.stop()
    first.start()
    figure(f"MiB resident after a restart: {mib(first)}")
    # By the server alone, as over a slow line: a person waits, and sees how far it is, also in another window.
    first.stop()
    lab.loss(server.host, delay_ms=60)
    begin = time.monotonic()
    person = typed(second)
    person.wait(r"Contact list: [1-9][\d,]* of 5,0\d\d$", 30)
    seen = until(lambda: server_of(second)["progress"], 20, "the progress of the comparison", every=0)
    assert seen[0] <= seen[1] and seen[1] >= CONTACTS, seen
    until(lambda: re.search(r"[\d,]+ of 5,0\d\d compared", second.cli("status").stdout), 20, "the same in `status`")
    person.wait("Contact list: all of it, as the server has it", 90)
    figure(f"a second laptop has them {time.monotonic() - begin:.1f} s after the beginning of `enrol`, on a line of 120 ms")
    assert contacts(second) == of_first
    assert person.transcript.index("You are alice@school.example") < person.transcript.index("Contact list:")
    lab.loss(server.host)
    # Programs see no such line, and need not wait.
    program = typed(third, "--json")
    program.wait(r'"account":', 30)
    until(lambda: program.process.poll() is not None, 30, "the end of `enrol`")
    assert "Contact list" not in program.transcript
    assert enrol(third, ALICE).returncode != 0
    in_step(third, 120)
    assert contacts(third) == of_first
