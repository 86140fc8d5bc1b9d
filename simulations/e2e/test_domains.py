"""Domains of others: introduced by the own domain's server, fetched from the other domain's web server; and what people see of that."""

import os
import shutil
import sys

import pytest

from netns import Routed
from node import OVERLAY, Node
from slix import Slix
from test_authority import PASSWORD, enrolled, found, invite
from test_overlay import SETTINGS
from waiting import until

HERE, THERE = "a.example", "b.example"
ALICE, BOB = f"alice@{HERE}", f"bob@{THERE}"
PAGE = ".well-known/crosstalk-authority.json"

# An HTTPS server with a certificate of its own, for one file.
WEB = """
import functools, http.server, os, ssl, sys
os.chdir(sys.argv[1])
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("web.pem")
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory="www")
server = http.server.HTTPServer(("", 443), handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def login(node, address):
    slix = Slix(node.host, address.split("@")[0])
    slix.login(address, PASSWORD)
    return slix


def known(node, domain):
    return {one["domain"]: one for one in node.ask("domain", "list")}.get(domain)


def tier(node, account, jid):
    return {one["jid"]: one["tier"] for one in node.ask("contact", "list", "--account", account)}.get(jid)


@pytest.fixture
def domains(labs):
    """A server of a.example with Alice's laptop, one of b.example with Bob's, each in a network of its own."""
    lab = labs(4, "ipv4", Routed)
    nodes = [Node(host, settings=SETTINGS.format(port=OVERLAY)) for host in lab.hosts]
    for node in nodes:
        node.start()
    school, office, laptop, other = nodes
    for server, domain, client, name in ((school, HERE, laptop, "alice"), (office, THERE, other, "bob")):
        found(server, domain)
        enrolled(client, invite(server, name))
    return lab, nodes


def test_an_introduced_domain(domains):
    """Each server introduces the other domain: Alice writes to Bob by a name that her laptop never met, and each sees by whose word."""
    _, (school, office, laptop, other) = domains
    keys = {domain: server.ask("authority", "show")["authority"] for server, domain in ((school, HERE), (office, THERE))}
    school.ask("authority", "domain", "introduce", THERE, keys[THERE])
    office.ask("authority", "domain", "introduce", HERE, keys[HERE])
    assert [(one["domain"], one["key"]) for one in school.ask("authority", "domain", "list")] == [(THERE, keys[THERE])]
    # A laptop looks each five minutes; a start is sooner.
    for node, domain in ((laptop, THERE), (other, HERE)):
        node.stop()
        node.start()
        until(lambda: (known(node, domain) or {}).get("how") == "introduced", 30, f"{domain} to be introduced")
    said = known(laptop, THERE)
    assert (said["key"], said["how"], said["counts"]) == (keys[THERE], "introduced", True), said
    assert [by["domain"] for by in said["introduced_by"]] == [HERE]
    alice, bob = login(laptop, ALICE), login(other, BOB)
    alice.do("send", to=BOB, body="hello", id="m1")
    bob.wait("message", 60, id="m1", sender=ALICE, body="hello")
    bob.do("send", to=ALICE, body="you", id="m2")
    alice.wait("message", 30, id="m2", sender=BOB, body="you")
    laptop.ask("contact", "add", BOB, "--account", ALICE)
    assert tier(laptop, ALICE, BOB) == f"certified, introduced by {HERE}"
    # Taken back: a claim from then on, and the message is told to be for nobody who is known.
    school.ask("authority", "domain", "withdraw", THERE)
    laptop.stop()
    laptop.start()
    until(lambda: known(laptop, THERE)["how"] == "first-sight", 30, "the introduction to be taken back")
    assert tier(laptop, ALICE, BOB) == "key"
    assert "is not introduced any more" in laptop.log()


def web_server(host, document):
    """Shows a document by HTTPS as b.example; returns the file with the certificate that signs the server's."""
    os.makedirs(os.path.join(host.home, "www", os.path.dirname(PAGE)))
    with open(os.path.join(host.home, "www", PAGE), "w", encoding="utf-8") as file:
        file.write(document)
    def openssl(*words):
        # Inside, programs begin in /.
        done = host.run(["sh", "-c", 'cd "$1" && shift && exec openssl "$@"', "sh", host.home, *words])
        assert done.returncode == 0, done.stderr
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
            "-days", "2", "-subj", "/CN=a test's authority")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "web.key", "-out", "web.csr", "-subj",
            f"/CN={THERE}")
    with open(os.path.join(host.home, "san"), "w", encoding="utf-8") as file:
        file.write(f"subjectAltName=DNS:{THERE}\nbasicConstraints=CA:FALSE\n")
    openssl("x509", "-req", "-in", "web.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "san",
            "-out", "web.crt")
    with open(os.path.join(host.home, "web.pem"), "w", encoding="utf-8") as file:
        for part in ("web.key", "web.crt"):
            with open(os.path.join(host.home, part), encoding="utf-8") as one:
                shutil.copyfileobj(one, file)
    host.popen([sys.executable, "-c", WEB, host.home])
    until(lambda: host.listens(443), 10, "the web server")
    return os.path.join(host.home, "ca.pem")


def test_the_web_server_of_a_domain_says_its_key(labs):
    """Fetched when a person asks, by a certificate of an authority of one's own; refused where nobody known has signed that."""
    lab = labs(3)
    office, other, laptop = nodes = [Node(host) for host in lab.hosts]
    for node in nodes:
        node.start()
    found(office, THERE)
    enrolled(other, invite(office, "bob"))
    laptop.add_account("alice")
    document = office.cli("authority", "domain", "document", "--json")
    assert document.returncode == 0, document.stderr
    ca_file = web_server(office.host, document.stdout)
    hosts = os.path.join(laptop.host.home, "hosts")
    with open(hosts, "w", encoding="utf-8") as file:
        file.write(f"127.0.0.1 localhost\n{office.host.address} {THERE}\n")
    assert laptop.host.run(["mount", "--bind", hosts, "/etc/hosts"]).returncode == 0
    # Nobody who is known has signed that web server's certificate.
    done = laptop.cli("domain", "fetch", THERE)
    assert done.returncode != 0 and "ca_file" in done.stderr, done.stderr
    laptop.stop()
    laptop.configure(f'[domains]\nca_file = "{ca_file}"\n')
    laptop.start()
    key = office.ask("authority", "show")["authority"]
    said = laptop.ask("domain", "fetch", THERE)
    assert (said["key"], said["how"]) == (key, "well-known"), said
    until(lambda: laptop.ask("peers"), 20, "somebody near")
    account = "alice"
    laptop.ask("contact", "add", BOB, "--account", account)
    until(lambda: tier(laptop, account, BOB) == f"certified, by https://{THERE}", 30, "Bob to be met")
    # A person says otherwise, and takes it back; another key than is known is not taken from the web.
    stranger = "ab" * 32
    assert laptop.ask("domain", "trust", THERE, stranger)["how"] == "by-hand"
    assert tier(laptop, account, BOB) == "key"
    done = laptop.cli("domain", "fetch", THERE)
    assert done.returncode != 0 and f"crosstalk domain trust {THERE}" in done.stderr, done.stderr
    assert known(laptop, THERE)["claimed"] == [key]
    laptop.ask("domain", "forget", THERE)
    assert laptop.ask("domain", "fetch", THERE)["how"] == "well-known"
