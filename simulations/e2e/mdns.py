"""Multicast DNS by hand (RFC 1035, 6762): packets of any kind, also broken ones, and an ear for what others say.

Only for hosts without a responder of their own under test: a second socket on port 5353 takes unicast answers away.
"""

import select
import socket
import struct
import threading
import time

PORT, GROUPS = 5353, {socket.AF_INET: "224.0.0.251", socket.AF_INET6: "ff02::fb"}
A, PTR, NULL, TXT, AAAA, SRV, ANY = 1, 12, 10, 16, 28, 33, 255
RESPONSE, FLUSH, IN = 0x8400, 0x8000, 1
PRESENCE = ("_presence", "_tcp", "local")


def name(*labels):
    """A domain name, uncompressed; labels are text or bytes, and not checked."""
    encoded = [label.encode() if isinstance(label, str) else label for label in labels]
    return b"".join(bytes([len(label) & 0xFF]) + label for label in encoded) + b"\0"


def record(owner, kind, data, ttl=120, flush=True):
    return owner + struct.pack("!HHIH", kind, IN | (FLUSH if flush else 0), ttl, len(data)) + data


def question(owner, kind, unicast=False):
    return owner + struct.pack("!HH", kind, IN | (FLUSH if unicast else 0))


def packet(*records, questions=(), flags=RESPONSE, counts=None):
    """A packet; `counts` (questions, answers, authorities, additionals) may lie."""
    return struct.pack("!HHHHHH", 0, flags, *(counts or (len(questions), len(records), 0, 0))) + b"".join(questions) + b"".join(records)


def txt(pairs):
    strings = [f"{key}={value}".encode() for key, value in pairs.items()]
    return b"".join(bytes([len(string)]) + string for string in strings)


def presence(instance, machine, address, port=5298, ttl=120, **keys):
    """The records that announce somebody by XEP-0174; ttl 0 is the goodbye."""
    owner, host = name(instance, *PRESENCE), name(machine, "local")
    keys = {"txtvers": 1, "status": "avail", **keys}
    return [record(name(*PRESENCE), PTR, owner, ttl, flush=False), record(owner, SRV, struct.pack("!HHH", 0, 0, port) + host, ttl),
            record(owner, TXT, txt(keys), ttl),
            record(host, A, socket.inet_aton(address), ttl)]


class Link:
    """A host's sockets on port 5353, both families. What is heard is kept as (time, bytes)."""

    def __init__(self, host):
        self.host, self.packets, self.open = host, [], True
        index = int(host.ip("-o", "link", "show", "eth0").split(":")[0])
        self.sockets = {family: opened(host, family, index) for family in GROUPS if family == socket.AF_INET6 or host.address}
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self):
        while self.open:
            for one in select.select(list(self.sockets.values()), [], [], 0.1)[0]:
                data = one.recv(1 << 16)
                self.packets.append((time.monotonic(), data))

    def say(self, data, family=socket.AF_INET):
        self.sockets[family].sendto(data, (GROUPS[family], PORT))

    def send(self, data, address):
        """To one host, over IPv4."""
        self.sockets[socket.AF_INET].sendto(data, (address, PORT))

    def heard(self, label, after=0.0):
        """When a response with this label in it was first heard (after a time), or None."""
        wanted = name(label)[:-1]
        return next((at for at, data in list(self.packets) if at >= after and len(data) > 3 and data[2] & 0x80 and wanted in data), None)

    def close(self):
        self.open = False
        self.thread.join()
        for one in self.sockets.values():
            one.close()


def opened(host, family, index):
    made = host.socket(family, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    if family == socket.AF_INET:
        made.bind(("", PORT))
        made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack("=4s4si", socket.inet_aton(GROUPS[family]), bytes(4), index))
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", bytes(4), bytes(4), index))
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        made.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
    else:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(("", PORT))
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.inet_pton(family, GROUPS[family]) + struct.pack("=i", index))
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    return made
