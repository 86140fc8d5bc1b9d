"""A router that lets in whom it is asked to: miniupnpd in the router's namespace."""

import os
import shutil
import subprocess

from conftest import unavailable

SETTINGS = """ext_ifname=out
listening_ip=in
http_port=5000
enable_upnp=yes
enable_natpmp=no
secure_mode=yes
upnp_table_name=filter
upnp_nat_table_name=nat
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
lease_file={home}/leases
uuid=6f4b2b5e-3a53-4d7d-9f39-0a9e4b1f2c11
allow 1024-65535 192.168.0.0/16 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""


def start(router, host):
    """In the router of a host; it ends with the host, and logs there."""
    program = shutil.which("miniupnpd") or unavailable("miniupnpd is not installed: simulations/test does that")
    settings, pid = (os.path.join(host.home, name) for name in ("miniupnpd.conf", "miniupnpd.pid"))
    with open(settings, "w", encoding="ascii") as file:
        file.write(SETTINGS.format(home=host.home))
    with open(os.path.join(host.home, "miniupnpd.log"), "wb") as log:
        daemon = subprocess.Popen(router.enter([program, "-d", "-f", settings, "-P", pid]), stdin=subprocess.DEVNULL, stdout=log,
                                  stderr=log, start_new_session=True)
    host.processes.append(daemon)
