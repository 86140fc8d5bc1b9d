"""Stock XMPP servers of Debian, each a private instance in a host: own settings, ports, data and certificates."""

import base64
import glob
import os
import subprocess

from netns import end
from waiting import until

PORT, COMPONENT, SECRET, PASSWORD = 15222, 15347, "between the two of us", "secret"


class Stock:
    """One server: accounts NAME@DOMAIN, and a component for another domain. `start` is also the restart: the data stay."""

    def __init__(self, host, domain="stock.example", component="school.example", users=("romeo", "juliet"), reached="127.0.0.1", tls=None, binds=False):
        self.host, self.domain, self.component, self.users = host, domain, component, users
        self.tls = tls  # the file (PEM) with its key and certificate: STARTTLS is offered then
        self.binds = binds  # of TLS 1.2 alone, whose channel both kinds can bind
        self.reached = reached  # where the component may come from: by this address of the host
        self.dir = os.path.join(host.home, type(self).__name__.lower())
        self.process = None
        os.makedirs(self.dir, exist_ok=True)
        self.configure(SECRET)

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def start(self):
        with open(self.path("stdout.log"), "ab") as log:
            self.process = self.launch(dict(stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        until(lambda: self.host.listens(PORT) and self.host.listens(COMPONENT) or self.process.poll() is not None, 240,
              lambda: f"{type(self).__name__}: {self.log()}")
        assert self.process.poll() is None, self.log()
        self.register()
        return self

    def stop(self):
        end(self.process)
        until(lambda: not self.host.listens(COMPONENT), 20, "the port to be free")

    def log(self):
        with open(self.path("stdout.log"), encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-20:])


class Prosody(Stock):
    """Prosody 0.12."""

    def configure(self, secret):
        os.makedirs(self.path("data"), exist_ok=True)
        self.write("prosody.cfg.lua", f"""
pidfile = "{self.path('prosody.pid')}"; run_as_root = true; daemonize = false
data_path = "{self.path('data')}"; certificates = "{self.dir}"
interfaces = {{ "127.0.0.1" }}; c2s_ports = {{ {PORT} }}; component_ports = {{ {COMPONENT} }}; component_interface = "{self.reached}"
s2s_ports = {{ }}; c2s_direct_tls_ports = {{ }}; http_ports = {{ }}; https_ports = {{ }}
log = {{ debug = "{self.path('prosody.log')}" }}
authentication = "internal_plain"; storage = "internal"
c2s_require_encryption = false; allow_unencrypted_plain_auth = true
modules_disabled = {{ "s2s"; "s2s_auth_certs"; "posix"; "http"; "http_errors"; "http_files" }}
{f'ssl = {{ key = "{self.tls}"; certificate = "{self.tls}"{"; protocol = " + chr(34) + "tlsv1_2" + chr(34) if self.binds else ""} }}' if self.tls else ''}
modules_enabled = {{ "roster"; "saslauth"; "disco"; "version"; "ping"; "offline"; "vcard"; "carbons"; "smacks"; "lastactivity"{'; "tls"' if self.tls else ''} }}
VirtualHost "{self.domain}"
Component "rooms.{self.domain}" "muc"
Component "{self.component}"
  component_secret = "{secret}"
""")

    def launch(self, options):
        return self.host.popen(["prosody", "--config", self.path("prosody.cfg.lua"), "-F"], **options)

    def register(self):
        for user in self.users:
            self.host.run(["prosodyctl", "--config", self.path("prosody.cfg.lua"), "register", user, self.domain, PASSWORD])


class Ejabberd(Stock):
    """ejabberd 23.01."""

    def configure(self, secret):
        os.makedirs(self.path("logs"), exist_ok=True)
        self.write("ejabberd.yml", f"""
loglevel: info
log_rotate_count: 0
hosts: ["{self.domain}"]
auth_method: internal
{f'certfiles: ["{self.tls}"]' if self.tls else ''}
c2s_protocol_options: ["no_sslv3"{', "no_tlsv1_3"' if self.binds else ''}]
listen:
  - {{port: {PORT}, ip: "127.0.0.1", module: ejabberd_c2s, max_stanza_size: 262144, access: c2s{', starttls: true' if self.tls else ''}}}
  - port: {COMPONENT}
    ip: "127.0.0.1"
    module: ejabberd_service
    hosts: {{"{self.component}": {{password: "{secret}"}}}}
access_rules: {{c2s: {{allow: all}}, local: {{allow: all}}}}
shaper: {{fast: 10000000}}
registration_timeout: infinity
modules:
  mod_admin_extra: {{}}
  mod_disco: {{}}
  mod_last: {{}}
  mod_muc: {{host: "rooms.{self.domain}"}}
  mod_offline: {{}}
  mod_ping: {{}}
  mod_roster: {{versioning: true}}
  mod_stream_mgmt: {{resend_on_timeout: if_offline}}
  mod_vcard: {{}}
  mod_version: {{}}
""")

    def launch(self, options):
        beam = min(glob.glob("/usr/lib/*/ejabberd-[0-9]*/ebin"))
        libs = os.path.dirname(os.path.dirname(beam))
        env = {"EJABBERD_CONFIG_PATH": self.path("ejabberd.yml"), "EJABBERD_LOG_PATH": self.path("logs", "ejabberd.log"),
               "EJABBERD_PID_PATH": self.path("ejabberd.pid"), "ERL_CRASH_DUMP": self.path("logs", "crash.dump"),
               "ERL_LIBS": libs, "HOME": self.dir}
        accounts = "".join(f'ejabberd_auth:try_register(<<"{user}">>,<<"{self.domain}">>,<<"{PASSWORD}">>),' for user in self.users)
        return self.host.popen(["erl", "-noinput", "+K", "true", "-mnesia", "dir", f'"{self.path("mnesia")}"', "-s", "ejabberd",
                                "-eval", f"spawn(fun() -> timer:sleep(1500), {accounts} ok end)."], env=env, **options)

    def register(self):
        until(lambda: all(self.known(user) for user in self.users), 240, "accounts of ejabberd", every=0.5)

    def known(self, user):
        with self.host.connect(PORT) as wire:
            proof = f"\0{user}\0{PASSWORD}".encode()
            wire.settimeout(3)
            wire.sendall(f"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='{self.domain}' "
                         f"version='1.0'><auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>"
                         f"{base64.b64encode(proof).decode()}</auth>".encode())
            said = b""
            try:
                while b"success" not in said and b"failure" not in said:
                    more = wire.recv(4096)
                    if not more:
                        break
                    said += more
            except OSError:
                pass
            return b"<success" in said
