"""The servers of side-by-side: each a private instance in a folder of its own, made from nothing, alone or with another that it federates with."""

import glob
import hashlib
import hmac
import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from confine import Confines

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
from netns import Forbidden, Space, end  # noqa: E402

PASSWORD = "side-by-side"
START_PATIENCE = 60
MEET_PATIENCE = 60
STOP_PATIENCE = 15
ALONE = "bench.example"
TWO = ("north.example", "south.example")


class Failure(Exception):
    """Something that ends the measurement of one server, with the reason."""


class Place(NamedTuple):
    """Where a server stands: which of how many, its domain, its ports for clients and for other servers."""

    number: int
    count: int
    domain: str
    port: int
    far_port: int


def places(setup, port):
    """The places of a setup, `one` or `two`."""
    if setup == "one":
        return [Place(0, 1, ALONE, port, port + 1)]
    return [Place(number, 2, domain, port + 10 * number, port + 10 * number + 1) for number, domain in enumerate(TWO)]


class Ground:
    """Where servers and load program run: the machine itself."""

    def enter(self, argv):
        return argv

    def close(self):
        pass


class Apart(Ground):
    """A network namespace of its own, with loopback, one more interface for multicast, and a name server for the two domains."""

    def __init__(self, folder, port):
        try:
            self.space = Space("bench", ipv6=False)
            self.space.ip("link", "add", "eth0", "type", "veth", "peer", "name", "far")
            self.space.ip("address", "add", "10.77.0.1/24", "brd", "+", "dev", "eth0")
            for interface in ("eth0", "far"):
                self.space.ip("link", "set", interface, "up")
        except Forbidden as reason:
            raise Failure(f"two servers need a network namespace: {reason}") from reason
        (folder / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1\n")
        subprocess.run(self.space.enter(["mount", "--bind", str(folder / "resolv.conf"), "/etc/resolv.conf"]), check=True)
        known = [f"{place.domain}=127.0.0.1:{place.far_port}" for place in places("two", port)]
        self.names = subprocess.Popen(self.space.enter([sys.executable, str(HERE / "names.py"), *known]), stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, text=True, start_new_session=True)
        if self.names.stdout.readline().strip() != "ready":
            raise Failure("the name server of the two domains did not start")

    def enter(self, argv):
        return self.space.enter(argv)

    def close(self):
        end(self.names)
        self.space.close()


class Server:
    """A private instance; subclasses say how it is set up and started."""

    packages = ()
    registers_in_band = False

    def __init__(self, options, folder, place, ground):
        self.options, self.place, self.ground = options, place, ground
        self.folder = folder / f"{self.name}-{place.domain}"
        self.folder.mkdir()
        self.port = place.port
        self.process = self.confines = None
        self.has_accounts = False

    def users(self):
        """Clients are on the servers in turn."""
        return [f"load{number}" for number in range(self.place.number, self.options.clients, self.place.count)]

    def login_domain(self):
        return self.place.domain

    def environment(self):
        return {}

    @classmethod
    def version_of(cls, _options):
        answer = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", cls.packages[0]], capture_output=True, text=True)
        return answer.stdout or "?"

    def start(self, cpu="any", memory_mib=0):
        if self.place.count == 1 and not port_is_free(self.port):
            raise Failure(f"port {self.port} is in use: choose another with --port")
        self.confines = Confines(cpu, memory_mib, f"{self.name}-{self.place.number}")
        with open(self.folder / "output.log", "ab") as log:
            self.process = subprocess.Popen(
                self.ground.enter(self.command()),
                cwd=self.folder,
                env={**os.environ, **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=self.confines.enter,
            )
        patience = time.monotonic() + START_PATIENCE
        while not self.is_ready():
            if self.process.poll() is not None:
                raise Failure(f"{self.name} ended at once; see below\n{self.last_words()}")
            if time.monotonic() > patience:
                raise Failure(f"{self.name} did not listen within {START_PATIENCE} s; see below\n{self.last_words()}")
            time.sleep(0.1)

    def is_ready(self):
        """Whether somebody listens on its port, in the network that it is in; touches nobody."""
        try:
            lines = Path(f"/proc/{self.process.pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            return False
        return any(words[3] == "0A" and words[1].endswith(f":{self.port:04X}") for words in map(str.split, lines))

    def meet(self, others):
        """Returns when it knows of the others; servers with domains ask for each other when there is something to say."""

    def highest_kib(self):
        """The most memory that it ever had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii", errors="replace")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))

    def last_words(self):
        logs = [path for path in self.folder.rglob("*") if path.is_file() and path.suffix in (".log", ".err")]
        return "\n".join(text for path in logs for text in path.read_text(errors="replace").splitlines()[-8:])

    def stop(self):
        if self.process is not None:
            for end_it in (self.process.terminate, self.process.kill):
                if self.process.poll() is None:
                    end_it()
                    try:
                        self.process.wait(STOP_PATIENCE)
                    except subprocess.TimeoutExpired:
                        continue
            self.process = None
        if self.confines:
            self.confines.close()


class Prosody(Server):
    """As Debian has it; two speak by server dialback (XEP-0220) without TLS."""

    name = "prosody"
    packages = ("prosody",)

    def configure(self, sm):
        alone = self.place.count == 1
        modules = ["roster", "saslauth", "disco", "ping"] + ["smacks"] * sm + ["dialback"] * (not alone)
        listed = " ".join(f'"{module}";' for module in modules)
        data = self.folder / "data"
        far = "s2s_ports = { }" if alone else f"s2s_ports = {{ {self.place.far_port} }}; s2s_require_encryption = false; s2s_secure_auth = false"
        disabled = '"s2s"; "s2s_auth_certs"; "posix";' if alone else '"s2s_auth_certs"; "posix";'
        (self.folder / "prosody.cfg.lua").write_text(
            f"""pidfile = "{self.folder}/prosody.pid"; run_as_root = true; daemonize = false
data_path = "{data}"; storage = "internal"; authentication = "internal_hashed"
network_backend = "epoll"
interfaces = {{ "127.0.0.1" }}; c2s_ports = {{ {self.port} }}; c2s_direct_tls_ports = {{ }}; {far}
c2s_require_encryption = false; allow_unencrypted_plain_auth = true
modules_enabled = {{ {listed} }}
modules_disabled = {{ {disabled} }}
log = {{ error = "{self.folder}/prosody.err" }}
VirtualHost "{self.place.domain}"
"""
        )
        accounts = data / self.place.domain.replace(".", "%2e") / "accounts"
        accounts.mkdir(parents=True, exist_ok=True)
        text = hashed_account()
        for user in self.users():
            (accounts / f"{user}.dat").write_text(text)
        self.has_accounts = True

    def command(self):
        return ["prosody", "-F", "--config", str(self.folder / "prosody.cfg.lua")]


class Ejabberd(Server):
    """As Debian has it; two speak by server dialback (XEP-0220) without TLS."""

    name = "ejabberd"
    packages = ("ejabberd",)
    registers_in_band = True

    def configure(self, sm):
        management = "  mod_stream_mgmt: {}\n" if sm else ""
        far = ""
        if self.place.count > 1:
            far = f'  - {{port: {self.place.far_port}, ip: "127.0.0.1", module: ejabberd_s2s_in, max_stanza_size: 524288}}\n'
            management += "  mod_s2s_dialback: {}\n"
        (self.folder / "ejabberd.yml").write_text(
            f"""loglevel: error
hosts: ["{self.place.domain}"]
auth_method: internal
auth_password_format: scram
s2s_use_starttls: false
listen:
  - {{port: {self.port}, ip: "127.0.0.1", module: ejabberd_c2s, max_stanza_size: 262144, access: c2s, starttls: false, backlog: 1024}}
{far}acl:
  loopback: {{ip: ["127.0.0.0/8"]}}
access_rules:
  c2s: {{allow: all}}
  from_here: {{allow: loopback}}
registration_timeout: infinity
modules:
  mod_disco: {{}}
  mod_offline: {{}}
  mod_ping: {{}}
  mod_register: {{ip_access: from_here}}
  mod_roster: {{}}
{management}"""
        )

    def environment(self):
        code = glob.glob("/usr/lib/*/ejabberd-*/ebin")
        if not code:
            raise Failure("no /usr/lib/*/ejabberd-*/ebin: is the Debian package ejabberd complete?")
        return {
            "EJABBERD_CONFIG_PATH": str(self.folder / "ejabberd.yml"),
            "EJABBERD_LOG_PATH": str(self.folder / "ejabberd.log"),
            "ERL_CRASH_DUMP": str(self.folder / "crash.dump"),
            "ERL_LIBS": str(Path(code[0]).parents[1]),
            "ERL_MAX_PORTS": "32000",
            "HOME": str(self.folder),
        }

    def command(self):
        mnesia = f'"{self.folder}/mnesia"'
        return ["erl", "-noinput", "+K", "true", "+P", "250000", "-mnesia", "dir", mnesia, "-s", "ejabberd"]


class Crosstalk(Server):
    """One node with a domain; or two on a link, which find each other by multicast DNS and speak by Noise."""

    name = "crosstalk"

    def configure(self, sm):
        alone = self.place.count == 1
        text = f'domain = "{self.place.domain}"\n\n' if alone else ""
        text += f'[xmpp]\nlisten = ["127.0.0.1:{self.port}"]\n\n'
        text += f"[overlay]\nport = {self.place.far_port}\n" + ("mdns = false\n" if alone else '[link]\nmode = "off"\n')
        if self.options.crosstalk_toml:
            text = Path(self.options.crosstalk_toml).read_text().replace("{port}", str(self.port))
        self.data().mkdir(exist_ok=True)
        (self.data() / "crosstalk.toml").write_text(text)

    def data(self):
        return self.folder / "data"

    def login_domain(self):
        return self.place.domain if self.place.count == 1 else "id.internal"

    @classmethod
    def version_of(cls, options):
        answer = subprocess.run([options.crosstalk, "--version"], capture_output=True, text=True)
        return answer.stdout.strip().split(" ")[-1] or "?"

    def command(self):
        return [self.options.crosstalk, "run", "--data", str(self.data())]

    def cli(self, *words, **more):
        return subprocess.run([self.options.crosstalk, *words, "--data", str(self.data())], capture_output=True, text=True, **more)

    def add_accounts(self):
        """One by one: some 0.14 s each, for the password is made costly to guess."""
        for user in self.users():
            made = self.cli("account", "add", user, "--password-stdin", input=PASSWORD)
            if made.returncode != 0:
                raise Failure(f"account add {user}: {made.stderr.strip()}")

    def meet(self, others):
        """A link with each of them stands."""
        patience = time.monotonic() + MEET_PATIENCE
        while len(json.loads(self.cli("peers", "--json").stdout or "[]")) < len(others):
            if time.monotonic() > patience:
                raise Failure(f"the two nodes did not meet within {MEET_PATIENCE} s; see below\n{self.last_words()}")
            time.sleep(0.2)


SERVERS = {server.name: server for server in (Prosody, Ejabberd, Crosstalk)}


class Setup:
    """One server, or two that federate: what is measured together."""

    def __init__(self, options, folder, name, setup):
        self.options, self.name, self.setup = options, name, setup
        self.folder = folder / f"{name}-{setup}"
        self.folder.mkdir()
        self.ground = Apart(self.folder, options.port) if setup == "two" else Ground()
        self.servers = [SERVERS[name](options, self.folder, place, self.ground) for place in places(setup, options.port)]

    def configure(self, sm):
        for server in self.servers:
            server.configure(sm)

    def start(self, cpu="any", memory_mib=0):
        for server in self.servers:
            server.start(cpu, memory_mib)
        time.sleep(1)
        for server in self.servers:
            server.meet([other for other in self.servers if other is not server])

    def stop(self):
        for server in self.servers:
            server.stop()

    def close(self):
        self.stop()
        self.ground.close()

    def version(self):
        return SERVERS[self.name].version_of(self.options)

    def confines(self):
        how = self.servers[0].confines.how
        return how if len(self.servers) == 1 else f"{how} each, both on the same CPU" if self.servers[0].confines.cpu != "any" else f"{how} each"

    def highest_mib(self):
        return max(server.highest_kib() for server in self.servers) / 1024

    def has_ended(self):
        return any(server.process.poll() is not None for server in self.servers)

    def last_words(self):
        return "\n".join(server.last_words() for server in self.servers)

    def make_accounts(self, say):
        missing = [server for server in self.servers if not server.has_accounts]
        if not missing:
            return
        say(f"  making {self.options.clients} accounts")
        if missing[0].registers_in_band:
            self.start()
            try:
                self.load("--register", "--idle")
            finally:
                self.stop()
        else:
            with ThreadPoolExecutor(len(missing)) as together:
                list(together.map(lambda server: server.add_accounts(), missing))
        for server in missing:
            server.has_accounts = True

    def load(self, *arguments):
        """One run of crosstalk-load: its report."""
        options = self.options
        command = [options.load, "--json", "--password", PASSWORD, "--clients", str(options.clients)]
        for server in self.servers:
            command += ["--server", f"127.0.0.1:{server.port}", "--domain", server.login_domain(), "--pid", str(server.process.pid)]
        return run_load(options, self.ground.enter([*command, *arguments]))


def run_load(options, command):
    command += ["--message-bytes", str(options.message_bytes), "--warmup", str(options.warmup), "--duration", str(options.seconds)]
    command += ["--settle", str(options.settle)]
    if options.generator_cpu != "any":
        command += ["--pin", options.generator_cpu]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(done.stderr.strip() or f"crosstalk-load ended with {done.returncode}")
    return json.loads(done.stdout)


def port_is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def hashed_account():
    """Prosody's file of an account: SCRAM-SHA-1 keys (RFC 5802), the same for all as the password is."""
    salt, rounds = "0123456789abcdef", 10000
    salted = hashlib.pbkdf2_hmac("sha1", PASSWORD.encode(), salt.encode(), rounds)
    client = hmac.new(salted, b"Client Key", "sha1").digest()
    stored, server = hashlib.sha1(client).hexdigest(), hmac.new(salted, b"Server Key", "sha1").hexdigest()
    return (
        f'return {{ ["iteration_count"] = {rounds}; ["salt"] = "{salt}"; '
        f'["stored_key"] = "{stored}"; ["server_key"] = "{server}"; }};\n'
    )


def install(names):
    wanted = [package for name in names for package in SERVERS[name].packages]
    status = lambda package: subprocess.run(["dpkg-query", "-W", "-f", "${Status}", package], capture_output=True, text=True)
    missing = [package for package in wanted if "install ok installed" not in status(package).stdout]
    if not missing:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() != 0:
        sys.exit(f"not installed: {', '.join(missing)}. As root: {' '.join(command)}")
    print(f"installing {', '.join(missing)}", file=sys.stderr, flush=True)
    policy = Path("/usr/sbin/policy-rc.d")
    own_policy = not policy.exists()
    try:
        if own_policy:  # the packages shall not start their system services
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], env=environment, check=True, stdout=sys.stderr)
        subprocess.run(command, env=environment, check=True, stdout=sys.stderr)
    finally:
        if own_policy:
            policy.unlink(missing_ok=True)
