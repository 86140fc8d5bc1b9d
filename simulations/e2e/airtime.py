"""What a crowd costs everybody on the link: N hosts of libpurple, or N nodes with one user each, on one switch.

Counted are frames as the hosts send them, each once (wire.py). `simulations/bench/link-airtime` prints the table.
"""

import statistics
import time

from avahi import Avahi
from bonjour import Bonjour
from node import Node
from slix import Slix, is_nearby
from waiting import Late, until
from wire import Wire


class Bonjours:
    """Bonjour clients, one per host; avahi-daemon runs already and has its name."""

    name = "libpurple"

    def __init__(self, lab):
        self.daemons = [Avahi(host) for host in lab.hosts]
        self.people = [Bonjour(avahi, f"user{avahi.host.number}") for avahi in self.daemons]
        for person in self.people:
            person.avahi.ready(120)
            person.wait("ready", 120)

    def start(self):
        begun = [person.begin("login", name=person.name, first=person.name) for person in self.people]
        for person, number in zip(self.people, begun):
            person.finish(number, 120)
            person.instance = f"{person.name}@{person.host.name}"

    def seen(self, person):
        """When it first saw each of the others."""
        others = {other.instance for other in self.people} - {person.instance}
        return first(event for event in person.all("buddy", online=True) if event["name"] in others)

    def memory(self):
        """KiB of resident memory of avahi-daemon, at the median."""
        return statistics.median(resident(avahi.process.pid) for avahi in self.daemons)


class Nodes:
    """Nodes that start cold, each with one slixmpp client, which is started before."""

    name, settings = "CrossTalk", '[overlay]\ntable = "auto"\n'

    def __init__(self, lab):
        self.nodes = [Node(host, settings=self.settings) for host in lab.hosts]
        self.addresses = {}
        self.people = []
        for node in self.nodes:
            name = f"user{node.host.number}"
            self.addresses[name] = node.add_account(name)
            self.people.append(Slix(node.host, name))
        for person in self.people:
            person.wait("ready", 120)

    def start(self):
        for node in self.nodes:
            node.start(wait=0)
        logins = [person.begin_login(person.name, sm=False, retry=0.2) for person in self.people]
        for person, login in zip(self.people, logins):
            person.logged_in(login, 120)

    def seen(self, person):
        """When it first had each of the others in Nearby."""
        others = set(self.addresses.values()) - {person.jid}
        return first({**event, "name": event["jid"]} for event in person.all("roster-item", groups=is_nearby) if event["jid"] in others)

    def memory(self):
        """KiB of resident memory of the node, at the median."""
        return statistics.median(node.memory()[0] for node in self.nodes)


class Tableless(Nodes):
    """The same without the hash table."""

    name, settings = "table-off", '[overlay]\ntable = "off"\n'


CROWDS = {crowd.name: crowd for crowd in (Bonjours, Nodes, Tableless)}


def first(events):
    """{name: time of its first event}."""
    times = {}
    for event in events:
        times.setdefault(event["name"], event["at"])
    return times


def resident(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


class Measurement:
    """One crowd on one lab: `start`, `settled` after some time, and `idle` some more after that."""

    def __init__(self, lab, kind):
        self.crowd, self.wire = CROWDS[kind](lab), Wire(lab)
        self.result = {"client": kind, "hosts": len(lab.hosts)}

    def start(self):
        self.before, self.begin = self.wire.read(), time.monotonic()
        self.crowd.start()
        self.result["online_s"] = round(time.monotonic() - self.begin, 2)

    def settled(self, seconds, patience=0):
        """`seconds` after the start, or up to `patience` later if not all see all by then."""
        wanted = len(self.crowd.people) - 1
        pending = set(self.crowd.people)

        def complete():
            pending.difference_update([person for person in pending if len(self.crowd.seen(person)) == wanted])
            return not pending
        try:
            until(complete, max(1, self.begin + seconds + patience - time.monotonic()), "all seeing all", every=0.25)
            last = max(max(self.crowd.seen(person).values()) for person in self.crowd.people) if wanted else self.begin
            self.result["all_see_all_s"] = round(last - self.begin, 2)
        except Late:
            self.result["all_see_all_s"] = None
        until(lambda: time.monotonic() > self.begin + seconds, seconds + 1, "settling", every=0.05)
        self.result["missing"] = sum(wanted - len(self.crowd.seen(person)) for person in pending)
        self.result["start_s"] = round(time.monotonic() - self.begin, 1)
        self.result["start"] = self.wire.since(self.before)
        self.before, self.begin = self.wire.read(), time.monotonic()

    def idle(self, seconds):
        until(lambda: time.monotonic() > self.begin + seconds, seconds + 1, "the idle time", every=0.05)
        self.result["idle"], self.result["idle_s"] = self.wire.since(self.before), round(time.monotonic() - self.begin, 1)
        self.result["resident_kib"] = self.crowd.memory()
        self.wire.close()


def bytes_of(result, phase, kind="all multicast"):
    return result[phase].get(kind, [0, 0])[1]
