"""CrossTalk's bytes, read by nothing but overlay/PROTOCOL.md: Protobuf, signed records, frames, envelopes, the hash table.

No code of CrossTalk's is used. What is wrong raises `Wrong`; what is right comes back as plain dictionaries, bytes as hex.
"""

import hashlib
import struct

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

DAY = 86_400_000


class Wrong(Exception):
    """These bytes are not what PROTOCOL.md says."""


def need(fact, what):
    if not fact:
        raise Wrong(what)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


# Protobuf

def varint(data, at):
    value = shift = 0
    while True:
        need(at < len(data) and shift < 70, "varint")
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            need(value < 2**64, "varint")
            return value, at


def fields(data):
    """(number, wire type, value, its first byte, the byte behind it) of each field."""
    at = 0
    while at < len(data):
        start = at
        tag, at = varint(data, at)
        wire = tag & 7
        need(tag >> 3 and wire in (0, 1, 2), "tag")
        if wire == 0:
            value, at = varint(data, at)
        else:
            size, at = (8, at) if wire == 1 else varint(data, at)
            need(at + size <= len(data), "length")
            value, at = data[at:at + size], at + size
        yield tag >> 3, wire, value, start, at


# What a field is: `kind(bytes or number)` gives what is shown.

def integer(value):
    return value


def fixed64(value):
    return struct.unpack("<Q", value)[0]


def sint(value):
    return (value >> 1) ^ -(value & 1)


def boolean(value):
    need(value < 2, "bool")
    return bool(value)


def some(value):
    return value.hex()


def text(most=None):
    def read(value):
        need(most is None or len(value) <= most, "text too long")
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise Wrong("text") from None
    read.absent = ""
    return read


def sized(size):
    def read(value):
        need(len(value) == size, f"{len(value)} bytes in place of {size}")
        return value.hex()
    return read


def concatenated(size, most, least=0):
    def read(value):
        need(len(value) % size == 0 and least <= len(value) // size <= most, "concatenated")
        return [value[at:at + size].hex() for at in range(0, len(value), size)]
    read.absent = []
    return read


def packed(most):
    """Numbers behind each other, as proto3 writes repeated ones; absent where they were not known yet: not shown then."""
    def read(value):
        numbers, at = [], 0
        while at < len(value):
            number, at = varint(value, at)
            numbers.append(number)
        need(0 < len(numbers) <= most, "packed")
        return numbers
    return later(read)


def each(kind, most, least=0):
    return ("each", kind, least, most)


def optional(kind):
    """A message, or bytes of a fixed length, that may be absent."""
    return ("optional", kind)


def later(kind):
    """Absent where it was not known yet: not shown then."""
    return ("later", kind)


WIRE = {integer: 0, sint: 0, boolean: 0, fixed64: 1}
ABSENT = {integer: 0, sint: 0, boolean: False, fixed64: 0, some: ""}


def show(kind, value):
    return message(kind, value) if isinstance(kind, dict) else kind(value)


def absent(kind):
    """What a field that is not there says: proto3 does not write zero, empty and none."""
    if isinstance(kind, tuple):
        return [] if kind[0] == "each" else None
    if kind in ABSENT:
        return ABSENT[kind]
    need(hasattr(kind, "absent"), "a field is missing")
    return kind.absent


def message(shape, data):
    """Reads `data` by `shape` {number: (name, kind)}; fields that are not in it are ignored."""
    values = {number: [] for number in shape}
    for number, wire, value, _, _ in fields(data):
        if number in shape:
            kind = shape[number][1]
            inner = kind[1] if isinstance(kind, tuple) else kind
            need(wire == (2 if isinstance(inner, dict) else WIRE.get(inner, 2)), f"wire type of {shape[number][0]}")
            values[number].append(show(inner, value))
    result = {}
    for number, (name, kind) in shape.items():
        found = values[number]
        if isinstance(kind, tuple) and kind[0] == "each":
            need(kind[2] <= len(found) <= kind[3], f"number of {name}")
            result[name] = found
        elif found or not isinstance(kind, tuple) or kind[0] != "later":
            need(len(found) <= 1, f"{name} is there twice")
            result[name] = found[0] if found else absent(kind)
    need(shape.get(1, ("",))[0] != "version" or result["version"] == 1, "version")
    return result


# §1, §2: signed records

KEY, ID16, HLC = sized(32), sized(16), {1: ("millis", integer), 2: ("counter", integer)}


def numbered(*members):
    """A payload: version, then these from 2 on."""
    return {number: member for number, member in enumerate((("version", integer), *members), 1)}


SEALING = {1: ("public", KEY), 2: ("created", integer)}
SESSION = {1: ("resource", text(1_023)), 2: ("priority", sint), 3: ("since", integer), 4: ("payload", some)}
MINUTE, HOUR = 60_000, 3_600_000

# kind: payload, who signs, bytes at most, life at most, and the field that names the user of the attached certificate
RECORDS = {
    "device-cert": (numbered(("user", KEY), ("device", KEY), ("issued", integer), ("expires", integer)),
                    "user", 512, 400 * DAY, None),
    "name-cert": (numbered(("address", text()), ("user", KEY), ("authority", KEY), ("serial", integer), ("issued", integer),
                           ("expires", integer)), "authority", 1_024, 400 * DAY, None),
    "revocation": (numbered(("user", KEY), ("device", optional(KEY)), ("address", text()), ("authority", optional(KEY)),
                            ("since", integer), ("compromised", boolean)), "authority or user", 1_024, None, None),
    "rotation": (numbered(("domain", text(255)), ("old", KEY), ("new", KEY), ("since", integer), ("consent", sized(64))),
                 "old", 640, None, None),
    "introduction": (numbered(("by", text(255)), ("authority", KEY), ("domain", text(255)), ("key", optional(KEY)),
                              ("serial", integer), ("issued", integer), ("expires", integer)),
                     "authority", 768, 400 * DAY, None),
    "device-info": (numbered(("user", KEY), ("device", KEY), ("sealing", each(SEALING, 8, 1)), ("epoch", integer), ("at", HLC),
                             ("expires", integer), ("mailboxes", each(KEY, 4))), "device", 1_024, 7 * DAY, None),
    "node-binding": (numbered(("user", KEY), ("device", KEY), ("node", KEY), ("issued", integer), ("expires", integer),
                              ("consent", sized(64))), "device", 512, 7 * DAY, None),
    "node-links": (numbered(("node", KEY), ("at", HLC), ("expires", integer), ("hears", concatenated(16, 64))),
                   "node", 1_280, HOUR, None),
    "link-presence": (numbered(("user", KEY), ("device", KEY), ("instance", text(63)), ("nickname", text(1_024)),
                               ("show", text(16)), ("status", text(1_024)), ("at", HLC), ("expires", integer)),
                      "device", 3_968, 2 * MINUTE, None),
    "presence": (numbered(("user", KEY), ("device", KEY), ("at", HLC), ("expires", integer), ("sessions", each(SESSION, 16))),
                 "device", 16_384, 30 * MINUTE, None),
    "sealed-presence": (numbered(("presence key", KEY), ("day", integer), ("at", HLC), ("expires", integer),
                                 ("nonce", sized(24)), ("ciphertext", some)), "presence key", 4_352, DAY, None),
    "contact": (numbered(("from", KEY), ("to", KEY), ("device", KEY), ("says", integer), ("at", HLC)),
                "device", 1_024, None, "from"),
    "receipt": (numbered(("envelope", ID16), ("message", ID16), ("sender", KEY), ("user", KEY), ("recipient", KEY),
                         ("outcome", integer), ("code", integer)), "recipient", 512, None, None),
    "mailbox-access": (numbered(("user", KEY), ("device", KEY), ("holder", KEY), ("session", fixed64), ("at", integer)),
                       "device", 1_024, None, "user"),
    "token": (numbered(("serial", ID16), ("mailbox", KEY), ("device", KEY), ("issued", integer), ("expires", integer)),
              "device", 1_024, 90 * DAY, "mailbox"),
    "envelope": (numbered(("user", KEY), ("sender device", KEY), ("recipient device", KEY), ("sealing key", KEY),
                          ("message id", ID16), ("epoch", integer), ("seq", integer), ("first", integer), ("sent", integer),
                          ("content", some)), "sender device", 262_144, None, "user"),
}


def verify(key, domain, payload, signature):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, domain.encode() + b"\0" + payload)
    except (InvalidSignature, ValueError):
        raise Wrong(f"signature of {domain}") from None


def four(data):
    """payload, signature, signer and certificate (or None): nothing else may be there, nothing twice."""
    parts = {}
    for number, wire, value, _, _ in fields(data):
        need(number in (1, 2, 3, 4) and wire == 2 and number not in parts, "signed record")
        parts[number] = value
    need({1, 2, 3} <= parts.keys() and len(parts[2]) == 64 and len(parts[3]) == 32, "signed record")
    return parts[1], parts[2], parts[3], parts.get(4)


def record(kind, data):
    """A signed record of that kind, with its signatures verified: the fields of its payload."""
    shape, who, most, life, subject = RECORDS[kind]
    need(len(data) <= most, f"{kind}: too large")
    payload, signature, signer, certificate = four(data)
    verify(signer, "crosstalk/1/" + kind, payload, signature)
    says = message(shape, payload)
    owner = says["authority"] or says["user"] if who == "authority or user" else says[who]
    need(signer.hex() == owner, f"{kind}: signed by somebody else")
    made = says.get("issued") or says.get("at", {})
    made = made if isinstance(made, int) else made.get("millis", 0)
    need(life is None or made <= says["expires"] <= made + life, f"{kind}: life")
    if certificate is not None:
        by = record("device-cert", certificate)
        need(by["device"] == signer.hex() and by["user"] == says[subject or "user"], f"{kind}: certificate")
    need(certificate is not None or subject is None, f"{kind}: certificate missing")
    if kind == "node-binding":
        bare = b"".join(payload[start:end] for number, _, _, start, end in fields(payload) if number != 7)
        verify(bytes.fromhex(says["node"]), "crosstalk/1/node-consent", bare, bytes.fromhex(says["consent"]))
    if kind == "rotation":
        bare = b"".join(payload[start:end] for number, _, _, start, end in fields(payload) if number != 6)
        verify(bytes.fromhex(says["new"]), "crosstalk/1/rotation-consent", bare, bytes.fromhex(says["consent"]))
        need(says["old"] != says["new"], "rotation to itself")
    if kind == "introduction":
        need(says["by"] != says["domain"], "introduction of itself")
    if kind == "node-links":
        need(says["hears"] == sorted(set(says["hears"])), "hears: order")
    if kind == "revocation":
        need([bool(says[what]) for what in ("device", "address", "compromised")].count(True) == 1, "revocation of what")
        need(says["authority"] if says["address"] else not (says["compromised"] and says["authority"]), "revocation by whom")
    return says


def signed(kind):
    """A field that is a signed record: shown as its bytes, after they were verified."""
    def read(value):
        record(kind, value)
        return value.hex()
    return read


def user_record(data):
    """Every part verified, and about this user."""
    shape = {1: ("version", integer), 2: ("user", KEY), 4: ("names", each(signed("name-cert"), 4)),
             3: ("devices", each({1: ("cert", signed("device-cert")), 2: ("info", signed("device-info"))}, 16)),
             5: ("revoked", each(signed("revocation"), 16))}
    need(len(data) <= 32_768, "user record: too large")
    says = message(shape, data)
    need(says["devices"] or says["revoked"], "user record: without devices")
    for revocation in says["revoked"]:
        need(record("revocation", bytes.fromhex(revocation))["user"] == says["user"], "revocation of somebody else's")
    if not says["revoked"]:
        del says["revoked"]
    for device in says["devices"]:
        cert, info = (record("device-" + name, bytes.fromhex(device[name])) for name in ("cert", "info"))
        need(cert["user"] == info["user"] == says["user"] and cert["device"] == info["device"], "device of somebody else")
    for name in says["names"]:
        need(record("name-cert", bytes.fromhex(name))["user"] == says["user"], "name of somebody else")
    return says


def whole_user(value):
    user_record(value)
    return value.hex()


# §3, §4, §8: frames, envelopes, items

def outer(value):
    says = message({**numbered(("id", ID16), ("recipient device", KEY), ("sealing key", KEY), ("enc", sized(32)),
                               ("ciphertext", some)), 7: ("kind", integer)}, value)
    size = len(says["ciphertext"]) // 2 - 16
    need(256 <= size <= 262_144 and size & (size - 1) == 0, "size class")
    return says


def item(value):
    outer(value)
    return value.hex()


def stanza(data):
    need(len(data) <= 49_152, "stanza: too large")
    return data.decode()


# §12 to §14: enrolment, sync and what is outside, in two frames

SEALED = {1: ("user", KEY), 2: ("name", signed("name-cert")), 3: ("sealed", some), 4: ("recovery", some)}
STATEMENT = {1: ("said", some), 2: ("device", KEY), 3: ("signature", sized(64))}
HASH = sized(8)
LETTER = {1: ("number", integer), 2: ("at", integer), 3: ("stanza", stanza), 4: ("copy", boolean)}
OUTSIDE = {1: ("address", text()), 2: ("to", boolean), 3: ("from", boolean), 4: ("ask", boolean), 5: ("pending in", boolean),
           6: ("version", integer)}
BROUGHT = {1: ("contacts", each({1: ("address", text()), 2: ("name", text(1_023)), 3: ("groups", each(text(1_023), 50)), 4: ("to", boolean),
                                 5: ("from", boolean), 6: ("ask", boolean), 7: ("pending in", boolean), 8: ("listed", boolean)}, 2_000)),
           2: ("blocked", each(text(), 1_000)), 3: ("nickname", text(256)), 4: ("vcard", some)}
ASK = {1: ("version", integer), 2: ("find", optional({1: ("domain", text())})),
       3: ("register", optional({1: ("token", ID16), 2: ("request", sized(32))})),
       4: ("enrol", optional({1: ("token", ID16), 2: ("upload", sized(192)), 3: ("user", KEY), 4: ("sealed", sized(98)),
                              5: ("recovery", sized(98)), 6: ("consent", sized(64))})),
       5: ("login", optional({1: ("address", text()), 2: ("request", sized(96)), 3: ("nonce", integer), 4: ("derived", boolean)})),
       6: ("prove", optional({1: ("login", integer), 2: ("proof", sized(64)), 3: ("client key", some)})),
       8: ("begin", optional({1: ("address", text()), 2: ("user", KEY), 3: ("certificate", signed("device-cert")),
                              4: ("binding", signed("node-binding")), 5: ("record", HASH), 6: ("root", HASH),
                              7: ("serial", integer), 8: ("places", HASH), 9: ("authority", KEY), 60: ("introduced", later(integer)), 72: ("looked", later(HASH)),
                              91: ("servers", later(HASH))})),
       9: ("compare", optional({1: ("session", integer), 2: ("buckets", concatenated(1, 256))})),
       10: ("fetch", optional({1: ("session", integer), 2: ("marks", concatenated(8, 1_024))})),
       11: ("tell", optional({1: ("session", integer), 2: ("statements", each(STATEMENT, 4_096)), 3: ("record", later(whole_user))})),
       20: ("exchange", optional({1: ("session", integer), 2: ("letters", each(LETTER, 4_096)), 3: ("queue", integer), 4: ("come", integer),
                                  5: ("version", integer), 6: ("live", each(stanza, 256)), 7: ("fresh", boolean)})),
       61: ("search", optional({1: ("session", integer), 2: ("text", text(255))})),
       80: ("collect", optional({1: ("session", integer), 2: ("taken", integer)})),
       81: ("change", optional({1: ("session", integer), 2: ("request", sized(32))})),
       82: ("changed", optional({1: ("session", integer), 2: ("upload", sized(192)), 3: ("sealed", sized(139)), 4: ("at", integer),
                                 5: ("permit", sized(64)), 71: ("follows", packed(64))})),
       84: ("look", optional({1: ("session", integer), 2: ("presence", later(signed("presence"))), 3: ("marks", concatenated(8, 1_024))}))}
ANSWER = {1: ("version", integer), 2: ("found", optional({1: ("authority", KEY), 2: ("rotations", each(signed("rotation"), 16))})),
          3: ("registering", optional({1: ("response", sized(64))})), 4: ("enrolled", optional(SEALED)),
          5: ("challenged", optional({1: ("login", integer), 2: ("response", sized(320))})),
          7: ("refused", optional({1: ("why", integer), 2: ("wait", integer), 3: ("bits", integer), 4: ("challenge", optional(ID16))})),
          8: ("begun", optional({1: ("session", integer), 2: ("record", later(whole_user)), 3: ("other record", boolean),
                                 4: ("name", later(signed("name-cert"))), 5: ("buckets", concatenated(8, 256)),
                                 6: ("places", each(text(), 64)), 7: ("rotations", each(signed("rotation"), 16)), 8: ("upstream", boolean), 9: ("brought", boolean),
                                 60: ("introductions", each(signed("introduction"), 64)), 61: ("directory", later(integer)),
                                 71: ("password", later(integer)), 72: ("looks", later(boolean)), 73: ("looked", later(concatenated(8, 2_048))),
                                 91: ("servers", later({1: ("servers", each({1: ("node", KEY), 2: ("places", each(text(128), 8))}, 8))}))})),
          9: ("compared", optional({1: ("buckets", integer), 2: ("marks", concatenated(8, 8_192))})),
          10: ("statements", optional({1: ("marks", integer), 2: ("statements", each(STATEMENT, 4_096)),
                                       3: ("certificates", each(signed("device-cert"), 64)), 4: ("full", integer), 5: ("ahead", integer), 6: ("unread", later(integer))})),
          20: ("exchanged", optional({1: ("taken", integer), 2: ("queue", integer), 3: ("letters", each(LETTER, 4_096)),
                                      4: ("contacts", each(OUTSIDE, 4_096)), 5: ("live", each(stanza, 4_096)), 6: ("more", boolean),
                                      7: ("up", boolean), 8: ("anew", boolean)})),
          61: ("people", optional({1: ("people", each({1: ("address", text()), 2: ("nickname", text(256)), 3: ("full name", text(256))}, 50))})),
          80: ("collected", optional({1: ("number", integer), 2: ("page", optional(BROUGHT))})),
          81: ("salted", optional({1: ("scheme", integer), 2: ("salt", some), 3: ("rounds", integer)})),
          82: ("admitted", optional({1: ("token", ID16)})), 83: ("password of", optional({1: ("at", integer)})),
          84: ("looked", optional({1: ("marks", integer), 2: ("seen", each({1: ("presence", signed("presence")), 2: ("certificate", signed("device-cert"))}, 1_024))}))}


def enrolment(shape, most, data):
    """One question, or one answer."""
    need(len(data) <= most, "enrolment: too large")
    says = {name: said for name, said in message(shape, data).items() if said is not None}
    need(len(says) == 2, "enrolment: not one thing")
    return says


def stated(user, statement):
    """Whether the device has said it of the user."""
    device, said, signature = (bytes.fromhex(statement[name]) for name in ("device", "said", "signature"))
    verify(device, "crosstalk/1/statement", user + said, signature)
    return message(CONTENT[6][1], said)


def consents(says, authority, address):
    """Whether the user key agrees to have the address from the authority."""
    verify(bytes.fromhex(says["user"]), "crosstalk/1/enrol-consent", authority + address.encode(), bytes.fromhex(says["consent"]))


def permits(says, user, device, authority, address):
    """Whether the user key says that this device has a new password of that time."""
    said = authority + device + says["at"].to_bytes(8, "big") + address.encode()
    verify(user, "crosstalk/1/password-change", said, bytes.fromhex(says["permit"]))


def worked(challenge, nonce, bits):
    return int.from_bytes(sha256(b"crosstalk/1/enrol-work\0", challenge, nonce.to_bytes(8, "big")), "big") >> 256 - bits == 0


def followed(pinned, steps):
    """The present key and the former ones of a pinned authority with how often it was handed over since, and since when each was
    left, by §12."""
    kept = []

    def walk():
        now, path = pinned, {pinned}
        while True:
            after = {step["new"] for step in kept if step["old"] == now}
            if len(after) != 1 or after <= path:
                break
            now, = after
            path.add(now)
        former, open_keys = set(), [now]
        while open_keys:
            key = open_keys.pop()
            found = {step["old"] for step in kept if step["new"] == key} - former - {now}
            former |= found
            open_keys += found
        return now, former

    for step in steps:
        now, former = walk()
        known = {now} | former
        same = [one for one in kept if (one["old"], one["new"]) == (step["old"], step["new"])]
        after = [one for one in kept if one["old"] == step["old"]]
        if same or (step["old"] in known) == (step["new"] in known) or (step["old"] in known and len(after) >= 2):
            continue
        if len(kept) >= 16 and not (step["old"] in known and after):
            continue
        kept.append(step)
        now, former = walk()
        kept = [one for one in kept if one["old"] in {now} | former]
    now, former = walk()
    ages, key = {now: 0}, now
    while before := [one["old"] for one in kept if one["new"] == key]:
        key, = before
        ages[key] = len(ages)
    left = {one["old"]: one["since"] for one in kept if one["new"] in {now} | former}
    return ages, left


def standing(cert, pinned, rotations, holder, revocations, now, credible):
    """What a name is worth to a reader, by §2 and §12."""
    try:
        says = record("name-cert", cert)
    except Wrong:
        return "refused"
    if credible and says["issued"] > now + 2 * DAY:
        return "refused"
    keys, left = {says["authority"]: 0}, {}
    if pinned is not None:
        steps = [record("rotation", rotation) for rotation in rotations]
        domain = says["address"].split("@")[1]
        keys, left = followed(pinned, [step for step in steps if step["domain"] == domain])
    if says["authority"] not in keys or says["issued"] > left.get(says["authority"], says["issued"]) + 2 * DAY:
        return "foreign"
    for revocation in revocations:
        void = record("revocation", revocation)
        if (void["address"], void["user"]) == (says["address"], says["user"]) and void["authority"] in keys:
            return "revoked"
    if pinned is None:
        return "claimed"
    if holder and holder["user"] != says["user"]:
        place = [(-keys.get(by["authority"], 99), by["serial"]) for by in (holder, says)]
        if place[0] > place[1]:
            return "replaced"
    return "ended" if credible and now >= says["expires"] else "certified"


USER = {1: ("record", whole_user), 2: ("binding", signed("node-binding"))}
MARKS, IDS = concatenated(8, 4_096), concatenated(16, 1_024)
FRAMES = {
    1: ("hello", {1: ("version", integer), 2: ("min_version", integer), 3: ("agent", text(128)), 4: ("wall", integer),
                  5: ("session", fixed64), 6: ("probe port", later(integer)), 7: ("probe secret", later(sized(16))),
                  8: ("unsure", later(boolean))}),
    2: ("records", {1: ("users", each(USER, 256))}),
    3: ("link-presences", {1: ("presences", each(signed("link-presence"), 256))}),
    4: ("link-absence", {1: ("user", KEY), 2: ("device", KEY), 3: ("gone", boolean)}),
    5: ("presence", {1: ("watchers", concatenated(32, 512, 1)), 2: ("record", signed("presence"))}),
    6: ("envelope", outer),
    7: ("receipt", signed("receipt")),
    8: ("live", {1: ("from", KEY), 2: ("from_resource", text()), 3: ("to", KEY), 4: ("to_resource", text()),
                 5: ("xml", some)}),
    9: ("heartbeat", {}),
    10: ("goodbye", {1: ("reason", text(256))}),
    11: ("have", MARKS),
    12: ("want", MARKS),
    13: ("relayed", {1: ("users", each(USER, 256)), 2: ("links", each(signed("node-links"), 256)),
                     3: ("presences", each(signed("link-presence"), 256))}),
    14: ("deposit", {1: ("request", integer), 2: ("mailbox", KEY), 3: ("item", item), 4: ("expires", integer),
                     5: ("nonce", integer), 6: ("token", optional(signed("token"))), 7: ("replica", boolean)}),
    15: ("deposit-answer", {1: ("request", integer), 2: ("outcome", integer), 3: ("bits", integer)}),
    16: ("list", signed("mailbox-access")),
    17: ("listing", {1: ("entries", each({1: ("id", ID16), 2: ("size", integer)}, 1_024)), 2: ("more", boolean)}),
    18: ("fetch", IDS),
    19: ("mail", {1: ("items", each(item, 64))}),
    20: ("discard", IDS),
    21: ("join", {1: ("offer", sized(8)), 2: ("proof", KEY)}),
    22: ("join-answer", {1: ("offer", sized(8)), 2: ("sealed", some)}),
    31: ("enrol", {1: ("request", integer), 2: ("ask", lambda data: enrolment(ASK, 65_536, data))}),
    32: ("enrol-answer", {1: ("request", integer), 2: ("answer", optional(lambda data: enrolment(ANSWER, 65_536, data)))}),
    33: ("upstream", {}),
    25: ("want-tokens", {1: ("from", KEY), 2: ("to", KEY)}),
    27: ("revoked", concatenated(16, 4_096)),
    28: ("revocations", {1: ("lists", each({1: ("scope", sized(8)), 2: ("marks", MARKS)}, 4_096)), 2: ("answer", boolean),
                         3: ("revocations", each(signed("revocation"), 256))}),
    37: ("rotations", {1: ("rotations", each(signed("rotation"), 32))}),
}


def frame(data):
    """(name, content) of a frame."""
    need(len(data) <= 327_680, "frame: too large")
    found = [(number, wire, value) for number, wire, value, _, _ in fields(data)]
    need(len(found) == 1 and found[0][0] in FRAMES and found[0][1] == 2, "frame")
    name, kind = FRAMES[found[0][0]]
    return name, show(kind, found[0][2])


def card(data):
    need(len(data) <= 57_344, "vCard: too large")
    return data.decode()


EDIT = {1: ("millis", integer), 2: ("counter", integer), 3: ("device", later(KEY))}
LISTING = {1: ("shown", integer), 2: ("nickname", text(256)), 3: ("full name", text(256)), 4: ("edit", EDIT)}
PROFILE = {1: ("nickname", text(256)), 2: ("nickname edit", optional(EDIT)), 3: ("vcard", later(card)), 4: ("vcard edit", optional(EDIT))}
STANZA = {1: ("from_resource", text()), 2: ("to_resource", text()), 3: ("xml", some)}
CONTENT = {2: ("stanza", STANZA), 3: ("contact", signed("contact")), 4: ("copy", {**STANZA, 4: ("to", KEY)}),
           5: ("audience", {1: ("presence key", KEY), 2: ("audience key", KEY), 3: ("at", HLC)}),
           6: ("sync", {1: ("version", integer), 61: ("listing", later(LISTING)), 62: ("profile", later(PROFILE))}), 7: ("tokens", {1: ("tokens", each(signed("token"), 64))})}


def content(data):
    shape = {1: ("version", integer), **{number: (name, optional(kind)) for number, (name, kind) in CONTENT.items()}}
    says = {name: value for name, value in message(shape, data).items() if value is not None and name != "version"}
    need(len(says) == 1, "content")
    return says


def labeled(label, suite, data):
    return b"HPKE-v1" + suite + label + data


def extract(salt, suite, label, data):
    mac = hmac.HMAC(salt or bytes(32), hashes.SHA256())
    mac.update(labeled(label, suite, data))
    return mac.finalize()


def expand(secret, suite, label, info, size):
    mac = hmac.HMAC(secret, hashes.SHA256())
    mac.update(struct.pack(">H", size) + labeled(label, suite, info) + b"\1")
    return mac.finalize()[:size]


def hpke_open(secret, enc, info, aad, ciphertext):
    """RFC 9180, base mode, one message: DHKEM(X25519, HKDF-SHA256) 0x0020, HKDF-SHA256 1, ChaCha20Poly1305 3."""
    private, kem = X25519PrivateKey.from_private_bytes(secret), b"KEM\x00\x20"
    suite = b"HPKE\x00\x20\x00\x01\x00\x03"
    dh = private.exchange(X25519PublicKey.from_public_bytes(enc))
    both = enc + private.public_key().public_bytes_raw()
    shared = expand(extract(b"", kem, b"eae_prk", dh), kem, b"shared_secret", both, 32)
    context = b"\0" + extract(b"", suite, b"psk_id_hash", b"") + extract(b"", suite, b"info_hash", info)
    schedule = extract(shared, suite, b"secret", b"")
    key, nonce = expand(schedule, suite, b"key", context, 32), expand(schedule, suite, b"base_nonce", context, 12)
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, ciphertext, aad)
    except InvalidTag:
        raise Wrong("does not open") from None


def unpad(padded, least, most):
    size = int.from_bytes(padded[:4], "big")
    body, rest = padded[4:4 + size], padded[4 + size:]
    classes = [1 << bits for bits in range(8, 19) if least <= 1 << bits <= most]
    need(len(body) == size and not any(rest), "padding")
    need(len(padded) == next((c for c in classes if c >= size + 4), None), "size class")
    return body


def open_outer(says, secret, info):
    """What an outer part holds: the padded plaintext, and the bytes in it."""
    head = "".join(says[name] for name in ("id", "recipient device", "sealing key"))
    public = X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw().hex()
    need(public == says["sealing key"], "another sealing key")
    padded = hpke_open(secret, bytes.fromhex(says["enc"]), info, bytes.fromhex(head), bytes.fromhex(says["ciphertext"]))
    return padded, unpad(padded, 256, 262_144)


def envelope(says, secret):
    """The inner part of an envelope, verified, with its content."""
    _, inside = open_outer(says, secret, b"crosstalk/1/envelope")
    inner = record("envelope", inside)
    need(all(inner[name] == says[name] for name in ("recipient device", "sealing key")), "not meant for this device")
    need(1 <= inner["first"] <= inner["seq"], "order")
    return {**inner, "content": content(bytes.fromhex(inner["content"]))}


def receipts(says, secret):
    """The receipts in an item of kind 1."""
    _, inside = open_outer(says, secret, b"crosstalk/1/sealed-receipts")
    return message({1: ("receipts", each(signed("receipt"), 128))}, inside)["receipts"]


def opened(says, secret):
    need(says["kind"] in (0, 1), "kind of item")
    return (envelope, receipts)[says["kind"]](says, secret)


def item_id(data):
    return sha256(data)[:16]


def work(mailbox, item_bytes, expires, nonce):
    """How many bits of work it is."""
    data = b"crosstalk/1/work\0" + mailbox + item_id(item_bytes) + struct.pack(">QQ", expires, nonce)
    return 256 - int.from_bytes(sha256(data), "big").bit_length()


# §7: the hash table

def dht_key(what, *parts):
    return sha256(f"crosstalk/1/dht/{what}".encode() + b"\0", *parts)


def position(key):
    return sha256(key)


def position_of_node(node):
    return sha256(bytes.fromhex("002408011220"), node)


def value(data):
    """(what, the fields, the key where it belongs) of a value."""
    need(len(data) <= 36_864, "value: too large")
    shape = {1: ("version", integer), 2: ("user", optional(whole_user)), 3: ("name", optional(signed("name-cert"))),
             4: ("presence", optional(signed("sealed-presence")))}
    here = [(name, bytes.fromhex(found)) for name, found in message(shape, data).items() if found and name != "version"]
    need(len(here) == 1, "value")
    what, inside = here[0]
    if what == "user":
        says = user_record(inside)
        return what, says, dht_key(what, bytes.fromhex(says["user"]))
    says = record({"name": "name-cert", "presence": "sealed-presence"}[what], inside)
    if what == "name":
        return what, says, dht_key(what, bytes.fromhex(says["authority"]), says["address"].encode())
    need(says["day"] == says["at"]["millis"] // DAY, "day")
    return what, says, dht_key(what, bytes.fromhex(says["presence key"]), struct.pack(">Q", says["day"]))


def hchacha20(key, nonce):
    """draft-irtf-cfrg-xchacha §2.2."""
    state = list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce))
    columns = [(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)]
    diagonals = [(0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]
    for a, b, c, d in (columns + diagonals) * 10:
        for to, by, mixed, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[to] = (state[to] + state[by]) & 0xFFFFFFFF
            turned = state[mixed] ^ state[to]
            state[mixed] = (turned << bits | turned >> 32 - bits) & 0xFFFFFFFF
    return struct.pack("<8I", *state[:4], *state[12:])


def open_presence(says, audience):
    """The plaintext of a sealed presence."""
    nonce = bytes.fromhex(says["nonce"])
    aad = bytes.fromhex(says["presence key"]) + struct.pack(">Q", says["day"])
    try:
        padded = ChaCha20Poly1305(hchacha20(audience, nonce[:16])).decrypt(
            bytes(4) + nonce[16:], bytes.fromhex(says["ciphertext"]), aad)
    except InvalidTag:
        raise Wrong("does not open") from None
    shape = numbered(("user", KEY), ("device", KEY), ("node", KEY), ("addresses", each(text(256), 8)),
                     ("presence", signed("presence")))
    return message(shape, unpad(padded, 512, 4_096))
