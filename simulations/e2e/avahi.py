"""avahi-daemon and a message bus of its own in one host: what a laptop's Bonjour programs talk to.

Both run as children of the test, with sockets and configuration in the host's own folders (its /run is private), and
are ended by pid. The system's own daemons are not touched.
"""

import os
import re
import shutil
import subprocess

from netns import Forbidden, end
from waiting import until

BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={path}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/> <allow own="*"/>
    <allow send_type="method_call"/> <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_type="signal"/> <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/> <allow receive_type="method_return"/>
    <allow receive_type="signal"/> <allow receive_type="error"/>
  </policy>
</busconfig>
"""
# As Debian ships it, but for the interface that only these tests have.
DAEMON = """[server]
use-ipv4=yes
use-ipv6=yes
ratelimit-interval-usec=1000000
ratelimit-burst=1000
[publish]
publish-hinfo=no
publish-workstation=no
"""


class Avahi:
    """The two daemons of one host, starting at once; `ready` waits until the host's name is established on the link."""

    def __init__(self, host):
        for program in ("dbus-daemon", "avahi-daemon"):
            if not shutil.which(program):
                raise Forbidden(f"{program} is missing (Debian packages dbus-daemon, avahi-daemon)")
        self.host, self.log_path = host, os.path.join(host.home, "avahi.log")
        path = os.path.join(host.home, "bus")
        self.bus = f"unix:path={path}"
        configuration = self._write("bus.conf", BUS.format(path=path))
        with open(self.log_path, "ab") as log:
            self.dbus = host.popen(["dbus-daemon", f"--config-file={configuration}", "--nofork", "--nopidfile", "--nosyslog", "--print-address"],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True)
            if not self.dbus.stdout.readline():
                raise Forbidden(f"dbus-daemon did not start: {self.log()}")
            self.process = host.popen(["avahi-daemon", "-f", self._write("avahi.conf", DAEMON), "--no-drop-root", "--no-chroot", "--no-rlimits"],
                                      env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _write(self, name, text):
        path = os.path.join(self.host.home, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def environment(self):
        """What a program of this host needs in its environment to find them."""
        return {"DBUS_SYSTEM_BUS_ADDRESS": self.bus}

    def ready(self, seconds=20):
        """The host's name on the link, which is another than its own if that was taken."""
        found = until(lambda: re.search(r"startup complete\. Host name is (\S+)\.local", self.log()) or self.process.poll() is not None,
                      seconds, lambda: f"avahi-daemon of {self.host.name}:\n{self.log()}")
        assert found is not True, f"avahi-daemon of {self.host.name} ended:\n{self.log()}"
        return found.group(1)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def close(self):
        end(self.process)
        end(self.dbus)
