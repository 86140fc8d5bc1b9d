"""wire.py: counts what the hosts send, once per frame, at the ports of the switch; Ethernet headers included.

As a program it runs in the switch and prints one JSON object per line that it reads; `Wire` starts and asks it. Kinds:
mdns4 and mdns6 (multicast to port 5353), mdns-unicast (from or to port 5353), multicast (all other: IGMP, MLD, ARP, ...),
unicast. What the kernel dropped because this program was too slow is under `missed`, and a figure with any is worthless.
"""

import json
import os
import select
import socket
import struct
import subprocess
import sys

from netns import HERE, Forbidden, end

SOL_PACKET, PACKET_STATISTICS, PACKET_IGNORE_OUTGOING, SO_RCVBUFFORCE, ETH_P_ALL, MDNS = 263, 6, 23, 33, 3, 5353
ENOUGH = 128  # bytes of a frame that are looked at


class Wire:
    """The traffic of a lab from now on. `since(before)` is what came after an earlier `read()`."""

    def __init__(self, lab):
        self.process = subprocess.Popen(lab.switch.enter([sys.executable, os.path.join(HERE, "wire.py")]), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, start_new_session=True)
        if self.process.stdout.readline().strip() != "ready":
            raise Forbidden("wire.py did not start")

    def read(self):
        """{host number: {kind: [packets, bytes]}} since the start."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        counted = json.loads(self.process.stdout.readline())
        assert not counted.pop("missed"), "frames were missed by the counter"
        return {int(port): kinds for port, kinds in counted.items()}

    def since(self, before=None):
        """{kind: [packets, bytes]} of all hosts together, and `all multicast`."""
        total = {}
        for sign, counted in ((1, self.read()), (-1, before or {})):
            for kinds in counted.values():
                for kind, values in kinds.items():
                    for name in (kind, *(["all multicast"] if kind in ("mdns4", "mdns6", "multicast") else [])):
                        sums = total.setdefault(name, [0, 0])
                        sums[:] = [sum_ + sign * value for sum_, value in zip(sums, values)]
        return total

    def close(self):
        end(self.process)


def kind(frame):
    """What sort of frame this is, from its first bytes."""
    multicast, (protocol,) = frame[0] & 1, struct.unpack("!H", frame[12:14])
    if protocol == 0x0800 and frame[23] == socket.IPPROTO_UDP:
        ports, name = 14 + 4 * (frame[14] & 15), "mdns4"
    elif protocol == 0x86DD and frame[20] == socket.IPPROTO_UDP:
        ports, name = 14 + 40, "mdns6"
    else:
        return "multicast" if multicast else "unicast"
    if MDNS not in struct.unpack("!HH", frame[ports:ports + 4]):
        return "multicast" if multicast else "unicast"
    return name if multicast else "mdns-unicast"


def main():
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    wire.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
    wire.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    wire.setblocking(False)
    counted, missed, buffer = {}, 0, bytearray(ENOUGH)
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([wire, 0], [], [])
        while True:
            try:
                length, address = wire.recvfrom_into(buffer, ENOUGH, socket.MSG_TRUNC)
            except BlockingIOError:
                break
            if address[0].startswith("p") and length >= 14:  # the hosts' ports; the bridge itself hears all again
                sums = counted.setdefault(address[0][1:], {}).setdefault(kind(buffer), [0, 0])
                sums[0] += 1
                sums[1] += length
        if 0 in ready:
            if not os.read(0, 1 << 10):
                return
            missed += struct.unpack("II", wire.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
            print(json.dumps({**counted, "missed": missed}), flush=True)


if __name__ == "__main__":
    main()
