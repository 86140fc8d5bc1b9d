"""How much of the machine a server gets: CPUs by affinity, memory by a control group (v2, v1), else by a limit on its data."""

import os
import resource
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


class Confines:
    """`Confines("0", 1024, "prosody")`: `enter` is called in the child before it becomes the server; `how` says what was used."""

    def __init__(self, cpu, memory_mib, name):
        self.cpu, self.bytes, self.group = cpu, memory_mib * 1024 * 1024, None
        self.how = f"CPU {cpu}" if cpu != "any" else "any CPU"
        if self.bytes:
            self.how += f", {memory_mib} MiB " + self.limit(f"crosstalk-bench-{os.getpid()}-{name}")

    def limit(self, name):
        """Makes the group; returns by what the memory is limited."""
        for folder, file, kind in ((own_group("memory"), "memory.limit_in_bytes", "control group v1"), (own_group(""), "memory.max", "control group v2")):
            group = folder and folder / name
            try:
                if group and (folder / "cgroup.procs").exists():
                    group.mkdir()
                    self.group = group
                    (group / file).write_text(str(self.bytes))
                    return f"by {kind}"
            except OSError:
                self.close()
        return "of data by RLIMIT_DATA"

    def enter(self):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        files = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
        if self.cpu != "any":
            os.sched_setaffinity(0, {int(self.cpu)})
        if self.group:
            (self.group / "cgroup.procs").write_text(str(os.getpid()))
        elif self.bytes:
            resource.setrlimit(resource.RLIMIT_DATA, (self.bytes, self.bytes))

    def close(self):
        """The group goes as soon as nobody is in it any more."""
        end = time.monotonic() + 5
        while self.group:
            try:
                self.group.rmdir()
                self.group = None
            except FileNotFoundError:
                self.group = None
            except OSError:
                if time.monotonic() > end:
                    return
                time.sleep(0.05)


def own_group(controller):
    """The folder of the control group that this process is in; "" is the unified hierarchy. None if there is no such."""
    for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == controller or controller and controller in controllers.split(","):
            for top in ([ROOT / controller] if controller else [ROOT, ROOT / "unified"]):
                folder = top / path.lstrip("/")
                if controller or (folder / "memory.max").exists() or "memory" in subtree(folder):
                    return folder
    return None


def subtree(folder):
    file = folder / "cgroup.subtree_control"
    return file.read_text(encoding="ascii").split() if file.exists() else []
