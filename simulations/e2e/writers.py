"""What a client writes and what it was promised: changes of contacts and messages, with what each may look like after a crash."""

import time

CONTACTS, WINDOW = 12, 8  # contacts in turn; requests unanswered at a time


class Writer:
    """alice changes the names of contacts and writes to bob, who is away.

    `expect` holds, per contact, every name it may have after a crash: the last acknowledged one and all sent after it.
    """

    def __init__(self, client, to):
        self.client, self.to = client, to
        self.expect, self.open, self.changes, self.acknowledged, self.sent = {}, [], 0, 0, 0

    def write(self, chance, seconds, messages):
        """Change contacts for so long, and send so many messages meanwhile."""
        begin, left = time.monotonic(), messages
        while (passed := time.monotonic() - begin) < seconds:
            if len(self.open) < WINDOW:
                self._change(chance)
            else:
                with self.client.news:
                    self.client.news.wait(0.005)
            if left and passed > seconds * (messages - left) / messages:
                left -= 1
                self.sent += 1
                self.client.do("send", to=self.to, body=f"number {self.sent}", id=f"n{self.sent}")
            self.collect()

    def _change(self, chance):
        self.changes += 1
        jid, name = f"friend{chance.randrange(CONTACTS)}@id.internal", f"v{self.changes}"
        call = self.client.begin("iq", type="set", to=None, seconds=10,
                                 xml=f"<query xmlns='jabber:iq:roster'><item jid='{jid}' name='{name}'/></query>")
        self.open.append((call, jid, name))
        self.expect.setdefault(jid, {None}).add(name)

    def collect(self):
        """Take the answers that have come, in the order of the requests: an acknowledged name forbids all older ones."""
        waiting = []
        for call, jid, name in self.open:
            if call not in self.client.answers:
                waiting.append((call, jid, name))
            elif self.client.finish(call)["type"] == "result":
                self.expect[jid] = {name} | {v for v in self.expect[jid] if v is not None and int(v[1:]) > int(name[1:])}
                self.acknowledged += 1
        self.open = waiting

    def received(self):
        """The ids of messages that the server has acknowledged."""
        return {said["id"] for said in self.client.all("acked")}

    def check_contacts(self, roster):
        for jid, allowed in self.expect.items():
            assert roster.get(jid, {"name": None})["name"] in allowed, f"{jid} is {roster.get(jid)}, allowed {allowed}"

    def check_messages(self, got, acknowledged):
        """Of the ids that reached bob: each once, in order, none missing that was acknowledged."""
        assert len(set(got)) == len(got), "a message came twice"
        assert not acknowledged - set(got), f"acknowledged and lost: {sorted(acknowledged - set(got))[:10]}"
        assert got == sorted(got, key=lambda id: int(id[1:])), "out of order"
