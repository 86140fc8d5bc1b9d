"""A private ngircd in a host, and the terminal clients WeeChat and irssi (Debian's packages), read from their screens."""

import os
import subprocess

from netns import end
from terminal import Terminal
from waiting import until

PORT = 16667


class Ngircd:
    """ngircd 26 without accounts. `start` is also the restart."""

    def __init__(self, host):
        self.host, self.process = host, None
        self.log_path, self.settings = (os.path.join(host.home, name) for name in ("ngircd.log", "ngircd.conf"))
        with open(self.settings, "w", encoding="ascii") as file:
            file.write(f"[Global]\nName = irc.base.example\nInfo = a base network\nListen = 127.0.0.1\nPorts = {PORT}\nServerUID = 0\nServerGID = 0\n"
                       "MotdPhrase = welcome to the base network\n[Limits]\nMaxPenaltyTime = 0\n[Options]\nDNS = no\nIdent = no\nPAM = no\n")

    def start(self):
        with open(self.log_path, "ab") as log:
            # A change of its groups would make the kernel forget that it ends with this run.
            alone = ["setpriv", "--bounding-set", "-setuid,-setgid", "--pdeathsig", "KILL"]
            self.process = self.host.popen([*alone, "ngircd", "-n", "-f", self.settings], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(lambda: self.host.listens(PORT) or self.process.poll() is not None, 20, "ngircd")
        assert self.process.poll() is None, open(self.log_path, encoding="utf-8").read()
        return self

    def kill(self):
        end(self.process)


class Irc:
    """What both clients understand."""

    def enter(self, line):
        self.terminal.enter(line)

    def sees(self, pattern, seconds=15):
        return self.terminal.wait(pattern, seconds)

    def close(self):
        self.terminal.close()


class Weechat(Irc):
    """With its own SOCKS 5, or without; `settings` of its server."""

    def __init__(self, host, nick, proxy_port=None, port=PORT, **settings):
        proxy = [f"/proxy add gate socks5 127.0.0.1 {proxy_port}", "/set irc.server.base.proxy gate"] if proxy_port else []
        commands = [f"/server add base 127.0.0.1/{port}", *proxy, *(f"/set irc.server.base.{name} {value}" for name, value in settings.items()),
                    f"/set irc.server.base.nicks {nick}", "/set irc.look.smart_filter off", "/set fifo.file.enabled off", "/set weechat.bar.nicklist.hidden on", "/connect base"]
        runs = [word for command in commands for word in ("-r", command)]
        self.terminal = Terminal(host, ["weechat", "-d", os.path.join(host.home, f"weechat-{nick}"), *runs])


class Irssi(Irc):
    """In a wrapper (proxychains) that sends every connection through SOCKS 4, or without; `words` of its command line."""

    def __init__(self, host, nick, proxy_port=None, port=PORT, words=()):
        home, settings = os.path.join(host.home, f"irssi-{nick}"), os.path.join(host.home, f"proxychains-{nick}.conf")
        with open(settings, "w", encoding="ascii") as file:
            file.write(f"strict_chain\n[ProxyList]\nsocks4 127.0.0.1 {proxy_port}\n")
        os.makedirs(home, exist_ok=True)
        with open(os.path.join(home, "config"), "w", encoding="ascii") as file:
            file.write('settings = { "irc/core" = { cmds_max_at_once = "99"; cmd_queue_speed = "10msec"; }; };\n')  # or it waits seconds between commands, and six behind a long one
        wrapper = ["proxychains4", "-q", "-f", settings] if proxy_port else []
        self.terminal = Terminal(host, [*wrapper, "irssi", f"--home={home}", "-c", "127.0.0.1", "-p", str(port), "-n", nick, *words])
