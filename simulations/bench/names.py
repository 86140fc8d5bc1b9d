#!/usr/bin/env python3
"""A name server for the two domains of a benchmark: who serves each, and on which port (RFC 1035, RFC 2782). Knows nothing else.

  names.py north.example=127.0.0.1:21601 south.example=127.0.0.1:21602
"""

import socket
import struct
import sys

A, SRV, NXDOMAIN, SECONDS = 1, 33, 3, 3600
SERVICE = "_xmpp-server._tcp."


def labels(name):
    return b"".join(bytes([len(part)]) + part.encode() for part in name.rstrip(".").split(".")) + b"\0"


def question(packet):
    """The name asked for, the kind of record, and where the question ends."""
    at, parts = 12, []
    while length := packet[at]:
        parts.append(packet[at + 1:at + 1 + length].decode("ascii"))
        at += 1 + length
    return ".".join(parts).lower(), struct.unpack("!H", packet[at + 1:at + 3])[0], at + 5


def answer(packet, places):
    name, kind, end = question(packet)
    domain = name.removeprefix(SERVICE)
    records, code = [], 0
    if domain not in places:
        code = NXDOMAIN
    elif kind == SRV and name != domain:
        records = [struct.pack("!HHH", 0, 0, places[domain][1]) + labels(domain)]
    elif kind == A and name == domain:
        records = [socket.inet_aton(places[domain][0])]
    # A response, authoritative, with recursion as it was desired; the question again; no additional records.
    flags = 0x8480 | struct.unpack("!H", packet[2:4])[0] & 0x0100 | code
    head = packet[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, 0)
    return head + packet[12:end] + b"".join(
        labels(name) + struct.pack("!HHIH", kind, 1, SECONDS, len(data)) + data for data in records)


def main():
    places = {}
    for word in sys.argv[1:]:
        domain, _, place = word.partition("=")
        address, _, port = place.rpartition(":")
        places[domain] = (address, int(port))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.bind(("127.0.0.1", 53))
        print("ready", flush=True)
        while True:
            packet, asker = door.recvfrom(512)
            try:
                door.sendto(answer(packet, places), asker)
            except (IndexError, struct.error, UnicodeDecodeError):
                pass  # no question that anybody could answer


if __name__ == "__main__":
    main()
