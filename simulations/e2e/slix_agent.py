"""A real XMPP client (slixmpp) driven by JSON lines: commands on stdin, answers and events on stdout. See slix.py.

It behaves as a careful client does: it reconnects by itself after a short fixed delay, and keeps each chat message until
the server has acknowledged it (XEP-0198), sending it again under the same id when a session could not be resumed.
Without XEP-0198 a message is forgotten as soon as it is written, as stock clients do.
"""

import asyncio
import collections
import json
import logging
import os
import ssl
import sys
import time
from xml.etree import ElementTree

import slixmpp
from python_socks.async_.asyncio import Proxy
from slixmpp.exceptions import IqError, IqTimeout
from slixmpp.xmlstream import tostring
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

CLIENT = "{jabber:client}"
STATES = "{http://jabber.org/protocol/chatstates}"
RECEIPTS = "{urn:xmpp:receipts}"
FORWARDED = "{urn:xmpp:forward:0}forwarded"
REQUEST = "<r xmlns='urn:xmpp:sm:3'/>"  # XEP-0198 section 4
OFFERS = ("{http://jabber.org/protocol/si}si", "{urn:xmpp:jingle:1}jingle")


def tell(**what):
    print(json.dumps({"at": time.monotonic(), **what}), flush=True)


class Client(slixmpp.ClientXMPP):
    retry = 0.05

    def reschedule_connection_attempt(self):
        """Try again soon, instead of slixmpp's back-off to minutes."""
        if self._current_connection_attempt is None:
            return None
        self._connect_loop_wait = self.retry
        self._current_connection_attempt = asyncio.ensure_future(self._connect_loop())
        return self._current_connection_attempt


def go_through(proxy):
    """Have all connections be made by a SOCKS proxy, which is told the names: slixmpp leaves that to the loop."""
    loop = asyncio.get_running_loop()
    plain = loop.create_connection

    async def create(factory, host, port, **options):
        connection = await Proxy.from_url(proxy, rdns=True).connect(dest_host=host, dest_port=port)
        return await plain(factory, sock=connection, **options)

    loop.create_connection = create


class Agent:
    def __init__(self):
        self.client, self.live, self.stopping = None, False, False
        self.roster, self.connection, self.fed = {}, 0, 0
        self.unsent, self.unacked, self.pace = collections.deque(), collections.OrderedDict(), asyncio.Event()

    # Connection -------------------------------------------------------------------------------------------------

    async def do_login(self, jid, password, port=5222, tls="none", sm=True, priority=0, retry=0.05, server="127.0.0.1", proxy=None,
                       trust=None):
        if proxy:
            go_through(proxy)
        client = self.client = Client(jid, password)
        client.retry = retry
        client.enable_direct_tls, client.enable_starttls, client.enable_plaintext = False, tls == "starttls", tls == "none"
        if trust:
            client.ca_certs = trust  # verified as slixmpp does by itself, with the name in the address
        else:
            client.ssl_context.check_hostname = False
            client.ssl_context.verify_mode = ssl.CERT_NONE
        client.plugin["feature_mechanisms"].unencrypted_plain = True
        client.roster.auto_authorize, client.roster.auto_subscribe = None, False
        for plugin in ("xep_0030", "xep_0004", "xep_0050", "xep_0055"):
            client.register_plugin(plugin)
        if sm:
            client.register_plugin("xep_0198", {"window": 1 << 30})  # acknowledgements are asked for in pump
        self.sm, self.priority = sm, priority
        self._listen(client)
        self.first = asyncio.get_running_loop().create_future()
        client.connect(server, port)
        return await self.first

    def _listen(self, client):
        for event, handler in {
            "session_start": self._start, "session_resumed": self._resumed, "disconnected": self._disconnected,
            "failed_all_auth": self._refused, "stanza_acked": self._acked, "sm_failed": lambda _: tell(event="sm-failed"),
            "connected": lambda _: tell(event="connected"), "stream_error": lambda e: tell(event="stream-error", condition=e["condition"], text=e["text"]),
        }.items():
            client.add_event_handler(event, handler)
        watch = [("message", CLIENT + "message", self._message), ("presence", CLIENT + "presence", self._presence),
                 ("roster", CLIENT + "iq/{jabber:iq:roster}query", self._roster)]
        watch += [(f"offer {payload}", f"{CLIENT}iq/{payload}", self._offer) for payload in OFFERS]
        for name, path, handler in watch:
            client.register_handler(Callback(f"agent {name}", MatchXPath(path), handler))

    async def _start(self, _):
        self.connection += 1
        await self.client.get_roster()
        self.client.send_presence(ppriority=self.priority)
        # What the last session left unacknowledged goes first, under the same ids.
        self.unsent.extendleft(reversed(list(self.unacked.values())))
        self.unacked.clear()
        self._up(resumed=False)

    async def _resumed(self, _):
        self.connection += 1
        # The plugin resends what it had seen written; what was lost between our queue and its own follows in order.
        known = {stanza["id"] for _, stanza in self.client.plugin["xep_0198"].unacked_queue}
        lost = [entry for id, entry in self.unacked.items() if id not in known]
        for entry in lost:
            del self.unacked[entry["id"]]
        self.unsent.extendleft(reversed(lost))
        self.client.send(REQUEST)
        self._up(resumed=True)

    def _up(self, resumed):
        self.live = True
        self.pace.set()
        tell(event="session", resumed=resumed, connection=self.connection, bound=self.client.boundjid.full)
        if not self.first.done():
            mechanism = getattr(self.client["feature_mechanisms"].mech, "name", None)
            self.first.set_result({"bound": self.client.boundjid.full, "roster": self.roster, "mechanism": mechanism})

    def _refused(self, _):
        tell(event="refused")
        self.stopping = True
        if not self.first.done():
            self.first.set_exception(PermissionError("not-authorized"))

    def _disconnected(self, _):
        """At once, not in a task: nothing may be sent into slixmpp's own queue from now on, we keep it ourselves."""
        was, self.live = self.live, False
        if was:
            tell(event="disconnected", connection=self.connection)
        asyncio.ensure_future(self._reconnect())

    async def _reconnect(self):
        if not self.stopping and not self.client.is_connecting():
            await asyncio.sleep(self.client.retry)
            if not self.client.is_connecting() and not self.client.is_connected():
                self.client.connect(*self.client.custom_address)

    async def do_drop(self):
        """Lose the TCP connection without a word; the client comes back by itself."""
        self.client.abort()

    async def do_leave(self):
        """Lose the TCP connection without a word and stay away."""
        self.stopping = True
        self.client.abort()

    async def do_return(self):
        self.stopping, self.first = False, asyncio.get_running_loop().create_future()
        self.client.connect(*self.client.custom_address)
        return await self.first

    async def do_logout(self):
        self.stopping = True
        await self.client.disconnect(wait=2)

    # What arrives -----------------------------------------------------------------------------------------------

    def _message(self, stanza):
        carbon, xml = None, stanza.xml
        for kind in ("sent", "received"):
            wrapped = xml.find(f"{{urn:xmpp:carbons:2}}{kind}/{FORWARDED}/{CLIENT}message")
            if wrapped is not None:
                carbon, xml = kind, wrapped
        seen = {key: xml.get(key) for key in ("from", "to", "id", "type")}
        for state in xml:
            if state.tag.startswith(STATES):
                tell(event="chat-state", state=state.tag[len(STATES):], **seen)
        receipt = xml.find(RECEIPTS + "received")
        if receipt is not None:
            tell(event="receipt", of=receipt.get("id"), **seen)
        if xml.findtext(CLIENT + "body") is not None or xml.get("type") == "error":
            error = xml.find(CLIENT + "error")
            tell(event="message", body=xml.findtext(CLIENT + "body"), carbon=carbon, connection=self.connection,
                 delayed=xml.find("{urn:xmpp:delay}delay") is not None, stamps=[delay.get("stamp") for delay in xml.iterfind("{urn:xmpp:delay}delay")],
                 wants_receipt=xml.find(RECEIPTS + "request") is not None, condition=condition(error), **seen)

    def _presence(self, stanza):
        xml = stanza.xml
        tell(event="presence", type=xml.get("type") or "available", show=xml.findtext(CLIENT + "show"),
             status=xml.findtext(CLIENT + "status"), delayed=xml.find("{urn:xmpp:delay}delay") is not None, caps=xml.find("{http://jabber.org/protocol/caps}c") is not None,
             **{"from": xml.get("from"), "to": xml.get("to"), "condition": condition(xml.find(CLIENT + "error"))})

    def _roster(self, stanza):
        if stanza["type"] not in ("result", "set"):
            return
        if stanza["type"] == "result":
            self.roster.clear()
        for item in stanza.xml.iterfind("{jabber:iq:roster}query/{jabber:iq:roster}item"):
            entry = {key: item.get(key) for key in ("jid", "name", "subscription", "ask")}
            entry["groups"] = [group.text for group in item.iterfind("{jabber:iq:roster}group")]
            if entry["subscription"] == "remove":
                self.roster.pop(entry["jid"], None)
            else:
                self.roster[entry["jid"]] = entry
            tell(event="roster-item", push=stanza["type"] == "set", **entry)

    def _offer(self, stanza):
        """A file offer: report it and say yes (XEP-0166: an empty result; XEP-0095: the stream method chosen)."""
        if stanza["type"] != "set":
            return
        tell(event="offer", xml=tostring(stanza.xml), **{"from": stanza["from"].full, "id": stanza["id"]})
        stanza.reply().send()

    # What is sent -----------------------------------------------------------------------------------------------

    async def do_send(self, to, body, id, first=None, count=1, interval=0.0):
        """One message; or `count` of them, numbered from `first` (body and id end in the number), one each `interval` s."""
        numbers = [""] if first is None else range(first, first + count)
        asyncio.ensure_future(self._feed(to, body, id, numbers, interval))

    async def _feed(self, to, body, id, numbers, interval):
        for number in numbers:
            self.fed += 1
            self.unsent.append({"to": to, "body": f"{body}{number}", "id": f"{id}{number}"})
            self.pace.set()
            await asyncio.sleep(interval)

    async def pump(self):
        """Write messages in order while a session is up."""
        while True:
            await self.pace.wait()
            self.pace.clear()
            while self.live and self.unsent:
                entry = self.unsent.popleft()
                if self.sm:
                    self.unacked[entry["id"]] = entry
                message = self.client.make_message(mto=entry["to"], mbody=entry["body"], mtype="chat")
                message["id"] = entry["id"]
                message.send()
                if self.sm:
                    self.client.send(REQUEST)  # behind the message; the plugin's own request would overtake it
                tell(event="sent", id=entry["id"], connection=self.connection)
                await asyncio.sleep(0)

    def _acked(self, stanza):
        if self.unacked.pop(stanza["id"], None):
            tell(event="acked", id=stanza["id"], connection=self.connection)

    async def do_presence(self, **fields):
        self.client.send_presence(**{"p" + key: value for key, value in fields.items()})

    async def do_state(self, to, state):
        await self.do_raw(f"<message xmlns='jabber:client' to='{to}' type='chat'><{state} xmlns='http://jabber.org/protocol/chatstates'/></message>")

    async def do_raw(self, xml):
        self.client.send(xml)

    async def do_iq(self, type, xml, to=None, seconds=10):
        """Send an IQ and wait for its answer: {type, xml, condition}."""
        iq = self.client.make_iq(ito=to, itype=type)
        iq.append(ElementTree.fromstring(xml))
        try:
            answer = await iq.send(timeout=seconds)
            return {"type": "result", "xml": tostring(answer.xml), "condition": None, "from": answer["from"].full}
        except IqError as error:
            return {"type": "error", "xml": tostring(error.iq.xml), "condition": error.condition, "from": error.iq["from"].full}
        except IqTimeout:
            return {"type": "timeout", "xml": "", "condition": None, "from": ""}

    async def do_items(self, to, node=None):
        """XEP-0030: what stands under an address: {address: name}; of a node {node: name}."""
        answer = await self.client["xep_0030"].get_items(jid=to, node=node)
        return {within if node else jid: name for jid, within, name in answer["disco_items"]["items"]}

    async def do_search(self, to, text):
        """XEP-0055, by its form, as a client does that knows nothing else of it: rows, or the error."""
        try:
            iq = self.client.make_iq_get(ito=to)
            iq.enable("search")
            blank = (await iq.send())["search"]["form"]
            asked = [var for var, field in blank.get_fields().items() if field["type"] != "hidden"]
            iq = self.client.make_iq_set(ito=to)
            form = iq["search"]["form"]
            form["type"] = "submit"
            form.add_field(var=asked[0], value=text)
            found = (await iq.send(timeout=45))["search"]["form"]
            return {"rows": [dict(row) for row in found.get_items()], "columns": list(found.get_reported())}
        except IqError as error:
            return {"rows": [], "condition": error.condition, "text": error.text}

    async def do_command(self, to, node, answers):
        """XEP-0050: the options of each field of the first step, then the second with these answers: its note."""
        adhoc = self.client["xep_0050"]
        first = await adhoc.send_command(to, node)
        options = {var: {option["value"]: option["label"] for option in field["options"]}
                   for var, field in first["command"]["form"].get_fields().items()}
        chosen = {var: field["value"] for var, field in first["command"]["form"].get_fields().items()}
        form = self.client["xep_0004"].make_form(ftype="submit")
        for var, value in answers.items():
            form.add_field(var=var, value=value)
        last = await adhoc.send_command(to, node, action="complete", payload=form, sessionid=first["command"]["sessionid"])
        return {"options": options, "chosen": chosen, "status": last["command"]["status"],
                "notes": [text for _, text in last["command"]["notes"]]}

    async def do_roster(self):
        await self.client.get_roster()
        return self.roster

    async def do_cached_roster(self):
        return self.roster

    async def do_counts(self):
        return {"fed": self.fed, "unsent": len(self.unsent), "unacked": len(self.unacked)}


def condition(error):
    """The defined condition of an error element (RFC 6120 section 8.3.3), or None."""
    if error is None:
        return None
    return next((child.tag.split("}")[1] for child in error if "xmpp-stanzas" in child.tag and not child.tag.endswith("}text")), None)


async def answer(agent, line):
    call = json.loads(line)
    number, name = call.pop("call"), call.pop("do")
    try:
        tell(answer=number, ok=True, value=await getattr(agent, "do_" + name)(**call))
    except Exception as error:  # whatever it is, the test must see it
        tell(answer=number, ok=False, value=f"{type(error).__name__}: {error}")


async def main():
    loop, agent = asyncio.get_running_loop(), Agent()
    reader = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tell(event="ready")
    pump = asyncio.ensure_future(agent.pump())
    while line := await reader.readline():
        asyncio.ensure_future(answer(agent, line))
    pump.cancel()


if __name__ == "__main__":
    if os.environ.get("CROSSTALK_TRACE"):
        logging.basicConfig(level=logging.DEBUG, format="%(asctime)s.%(msecs)03d %(message)s", datefmt="%S")
    asyncio.run(main())
