"""relay.py PORT PORT PERCENT DELAY_MS SEED: carry Ethernet frames between two interfaces, losing and delaying some.

Stands in for tc netem, which many kernels lack. Frames of one direction keep their order. The virtio header keeps what
veth leaves to the hardware (checksums, large segments) valid.
"""

import collections
import random
import select
import socket
import sys
import time

SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING, ETH_P_ALL = 263, 15, 23, 3


def open_port(name):
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    port.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    port.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    port.bind((name, 0))
    port.setblocking(False)
    return port


def take(port):
    """What has arrived, at most 64 frames, and none while the link is down."""
    for _ in range(64):
        try:
            yield port.recv(1 << 17)
        except OSError:
            return


def main(left, right, percent, delay_ms, seed):
    chance, delay = random.Random(int(seed)), float(delay_ms) / 1000
    left, right = open_port(left), open_port(right)
    other, held = {left: right, right: left}, collections.deque()
    print("ready", flush=True)
    while True:
        wait = max(0.0, held[0][0] - time.monotonic()) if held else None
        for port in select.select([left, right], [], [], wait)[0]:
            for frame in take(port):
                if chance.uniform(0, 100) >= float(percent) and len(held) < 10_000:
                    held.append((time.monotonic() + delay, other[port], frame))
        while held and held[0][0] <= time.monotonic():
            _, port, frame = held.popleft()
            try:
                port.send(frame)
            except OSError:  # full or down: a lost frame, as on a real link
                pass


if __name__ == "__main__":
    main(*sys.argv[1:])
