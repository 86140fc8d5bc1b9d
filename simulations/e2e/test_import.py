"""Users of a real Prosody and a real ejabberd, from their exports (XEP-0227): the same passwords, the same contact lists."""

import glob
import json
import os
import shutil
import subprocess

import pytest

from slix import Slix, befriend
from stock import PASSWORD, PORT, Ejabberd, Prosody
from test_authority import client, enrol, found, refusal, users
from waiting import until

ROMEO, JULIET = "romeo@school.example", "juliet@school.example"
NURSE = "nurse@far.example"


def of_prosody(host):
    """Two friends, made by their clients; then Prosody's own migrator. It writes to its own place only, as its own user."""
    stock = Prosody(host, domain="school.example", component="other.example")
    with open(stock.path("prosody.cfg.lua"), encoding="utf-8") as file:
        settings = file.read().replace('authentication = "internal_plain"', 'authentication = "internal_hashed"')
    stock.write("prosody.cfg.lua", settings)
    stock.start()
    romeo, juliet = Slix(host, "romeo"), Slix(host, "juliet")
    for slix, jid in ((romeo, ROMEO), (juliet, JULIET)):
        slix.login(jid, PASSWORD, port=PORT)
    befriend(romeo, juliet)
    item = f"<item jid='{JULIET}' name='My love'><group>Capulets &amp; co</group></item><item jid='{NURSE}' name='The nurse'/>"
    for one in item.replace("</item><", "</item>\n<").split("\n"):
        romeo.do("iq", type="set", xml=f"<query xmlns='jabber:iq:roster'>{one}</query>")
    romeo.do("iq", type="set", xml="<vCard xmlns='vcard-temp'><NICKNAME>Rom</NICKNAME></vCard>")
    for slix in (romeo, juliet):
        slix.do("logout")
    stock.stop()
    stores = '{ "accounts", "roster", "vcard" }'
    stock.write("migrator.cfg.lua", f"""
input {{ hosts = {{ ["school.example"] = {stores} }}; type = "internal"; path = "/var/lib/prosody/data" }}
output {{ hosts = {{ ["school.example"] = {stores} }}; type = "xep0227" }}
""")
    done = host.run(["sh", "-ec", f"chmod -R a+rwX {stock.dir}; mount --bind {stock.dir} /var/lib/prosody; cd /; "
                                  "prosody-migrator --config=/var/lib/prosody/migrator.cfg.lua input output"])
    assert len(glob.glob(stock.path("*@school.example.xml"))) == 2, done.stdout + done.stderr
    exports = os.path.join(host.home, "exports")
    os.mkdir(exports)
    for file in glob.glob(stock.path("*.xml")):
        shutil.move(file, exports)
    return exports, []


def of_ejabberd(host):
    """By the functions behind its commands, and `export_piefxis`: a file that includes another."""
    stock = Ejabberd(host)
    with open(stock.path("ejabberd.yml"), "a", encoding="utf-8") as file:
        file.write("auth_password_format: scram\n")
    exports = os.path.join(host.home, "exports")
    os.mkdir(exports)
    add = 'mod_admin_extra:add_rosteritem(<<"{}">>,<<"stock.example">>,<<"{}">>,<<"{}">>,<<"{}">>,<<"{}">>,<<"{}">>),'
    work = "".join((add.format("romeo", "juliet", "stock.example", "My love", "Capulets & co", "both"),
                    add.format("juliet", "romeo", "stock.example", "", "", "both"),
                    add.format("romeo", "nurse", "far.example", "The nurse", "", "to"),
                    'mod_admin_extra:set_vcard(<<"romeo">>,<<"stock.example">>,<<"NICKNAME">>,<<"Rom">>),',
                    f'ejabberd_piefxis:export_server("{exports}"),'))
    popen = host.popen
    # Its accounts are made by the command that starts it; here the rest is done by the same command, which then ends it.
    host.popen = lambda argv, **more: popen([*argv[:-1], argv[-1].replace(" ok end)", f" {work} init:stop() end)")], **more)
    try:
        stock.process = stock.launch({"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL})
    finally:
        host.popen = popen
    until(lambda: stock.process.poll() is not None, 90, "the export of ejabberd")
    assert len(glob.glob(os.path.join(exports, "*.xml"))) == 2
    return exports, ["--host", "stock.example"]


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


@pytest.mark.parametrize("export", [of_prosody, of_ejabberd], ids=["prosody", "ejabberd"])
def test_users_move_with_passwords_and_lists(labs, nodes_of, export, figure):
    lab = labs(3)
    nodes = nodes_of(lab)
    server, first, second = nodes
    exports, more = export(lab.hosts[0])
    for node in nodes:
        node.start()
    found(server)
    take = lambda *words: server.ask("authority", "user", "import", exports, *more, *words)
    # A file that is cut off changes nothing, and says where.
    whole = max(glob.glob(os.path.join(exports, "*.xml")), key=os.path.getsize)
    text = read(whole)
    with open(whole, "w", encoding="utf-8") as file:
        file.write(text[:-20])
    done = server.cli("authority", "user", "import", exports, *more, "--json")
    assert "line 1, byte" in refusal(done) and not users(server)
    with open(whole, "w", encoding="utf-8") as file:
        file.write(text)
    assert sorted(take("--dry-run")["added"]) == ["juliet", "romeo"] and not users(server)
    assert sorted(take()["added"]) == ["juliet", "romeo"]
    assert users(server) == {"romeo": "imported", "juliet": "imported"}
    again = take()
    assert not again["added"] and sorted(again["existed"]) == ["juliet", "romeo"]
    # The password that they had, and no other.
    assert "password" in refusal(enrol(first, ROMEO, "not the password"))
    for node, jid in ((first, ROMEO), (second, JULIET)):
        done = enrol(node, jid, PASSWORD)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["recovery"]
    assert users(server) == {"romeo": "enrolled", "juliet": "enrolled"}
    # Who saw each other do so again, without a question.
    listed = lambda node, jid: {c["jid"]: c for c in node.ask("contact", "list", "--account", jid)}
    until(lambda: listed(first, ROMEO).get(JULIET, {}).get("subscription") == "both", 60,
          lambda: f"romeo's list: {listed(first, ROMEO)}")
    until(lambda: listed(second, JULIET).get(ROMEO, {}).get("subscription") == "both", 60,
          lambda: f"juliet's list: {listed(second, JULIET)}")
    of_romeo = listed(first, ROMEO)
    assert (of_romeo[JULIET]["name"], of_romeo[JULIET]["groups"]) == ("My love", ["Capulets & co"])
    assert of_romeo[NURSE]["name"] == "The nurse" and set(of_romeo) == {JULIET, NURSE}
    assert first.ask("account", "show", ROMEO)["nickname"] == "Rom"
    romeo, juliet = client(first, ROMEO, PASSWORD), client(second, JULIET, PASSWORD)
    romeo.do("send", to=JULIET, body="wherefore", id="m1")
    juliet.wait("message", 20, id="m1", sender=ROMEO)
