"""A PostgreSQL of the test's own, on a socket in a directory of its own: it ends with the process that started it."""

import glob
import os
import pwd
import shutil
import subprocess
import tempfile

from conftest import unavailable
from waiting import until

KEEPER = """"$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= >>"$2/log" 2>&1 & pid=$!
read -r word; kill -QUIT $pid; wait $pid"""


class Postgres:
    """Running after the start, and again after `start`. `stop` is as a power cut to it. Below `home`, if one is named."""

    def __init__(self, home=None):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        if not found:
            unavailable("PostgreSQL is not installed (apt-get install postgresql)")
        self.programs, self.dir, self.keeper = found[-1], tempfile.mkdtemp(prefix="crosstalk-pg-", dir=home), None
        if os.getuid() == 0:
            os.chown(self.dir, self.user().pw_uid, self.user().pw_gid)
        self.run("initdb", "--no-sync", "--auth=trust", "--wal-segsize=1", "-U", "crosstalk", "-D", f"{self.dir}/data")
        self.start()
        self.run("createdb", "-h", self.dir, "-U", "crosstalk", "school")

    def user(self):
        try:
            return pwd.getpwnam("postgres")
        except KeyError:
            return pwd.getpwnam("nobody")

    def demote(self):
        """It does not run as root."""
        return {"user": self.user().pw_uid, "group": self.user().pw_gid, "extra_groups": []} if os.getuid() == 0 else {}

    def run(self, program, *words):
        done = subprocess.run([f"{self.programs}/{program}", *words], capture_output=True, text=True, cwd=self.dir, **self.demote())
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self):
        self.keeper = subprocess.Popen(["sh", "-c", KEEPER, "sh", self.programs, self.dir], stdin=subprocess.PIPE, cwd=self.dir, **self.demote())
        ready = [f"{self.programs}/pg_isready", "-q", "-h", self.dir]
        until(lambda: subprocess.run(ready, check=False).returncode == 0, 60, "PostgreSQL to start")

    def stop(self):
        self.keeper.stdin.close()
        self.keeper.wait(30)
        self.keeper = None

    def settings(self, more=""):
        return f'[authority]\ndatabase = "postgresql:///school?host={self.dir}&user=crosstalk"\n{more}'

    def size(self):
        """Bytes of the database."""
        return int(self.run("psql", "-h", self.dir, "-U", "crosstalk", "-Atc", "SELECT pg_database_size('school')", "school"))

    def close(self):
        if self.keeper:
            self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)
