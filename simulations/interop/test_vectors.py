"""The vectors of overlay/vectors, read by a decoder that shares no code with CrossTalk; and each of them altered, which it refuses."""

import json
import pathlib

import pytest

import decode
from decode import Wrong, need

VECTORS = pathlib.Path(__file__).parents[2] / "overlay/vectors"
PROTOCOL, STEPS, DHT, AUTHORITY = (json.loads((VECTORS / f"{name}.json").read_text())
                                   for name in ("protocol", "steps", "dht", "authority"))
unhex = bytes.fromhex
KEYS = PROTOCOL["keys"]
BOB = unhex(KEYS["bob sealing secret"])


def same(found, said):
    need(found == said, f"says {found!r} in place of {said!r}")


def kind_of(name):
    kinds = [kind for kind in decode.RECORDS if name == kind or name.startswith(kind + "-")]
    need(kinds, f"no record is called {name}: PROTOCOL.md §2")
    return max(kinds, key=len)


def check_record(name, data):
    says = decode.user_record(data) if name.startswith("user-record") else decode.record(kind_of(name), data)
    if name in STEPS["records"]:
        same(says, STEPS["records"][name])
    if name in STEPS["signing"]:
        payload, signature, signer, _ = decode.four(data)
        by = STEPS["signing"][name]
        same((f"crosstalk/1/{kind_of(name)}\0".encode() + payload).hex(), by["input"])
        same((signature.hex(), signer.hex()), (by["signature"], by["signer"]))


def check_frame(name, data):
    kind, says = decode.frame(data)
    need(name.split("-")[0] == kind.split("-")[0], f"is a {kind}")
    if name in STEPS["frames"]:
        same(says, STEPS["frames"][name])
    if kind == "envelope":
        decode.envelope(says, BOB)
    if kind in ("enrol", "enrol-answer"):
        inside = says.get("ask") or says.get("answer") or {}
        for statement in (inside.get("tell") or inside.get("statements") or {}).get("statements", []):
            decode.stated(unhex(KEYS["alice user"]), statement)
    for inside in says.get("items", []) if kind == "mail" else [says["item"]] if kind == "deposit" else []:
        decode.opened(decode.outer(unhex(inside)), BOB)


def check_content(name, data):
    same(decode.content(data), STEPS["contents"][name]["says"])


def check_sealed(name, data):
    by, outer = STEPS["sealing"][name], decode.outer(data)
    padded, inside = decode.open_outer(outer, BOB, by["info"].encode())
    same((outer["id"] + outer["recipient device"] + outer["sealing key"], padded.hex()), (by["aad"], by["padded"]))
    same(decode.opened(outer, BOB), by["says"])
    if name == "envelope":
        same((inside.hex(), decode.four(inside)[0].hex()), (by["inner"], by["payload"]))


def check_work(_name, data):
    by = STEPS["work"]
    same(decode.item_id(data).hex(), by["item id"])
    preimage = b"crosstalk/1/work\0" + unhex(by["mailbox"] + by["item id"]) + (by["expires"] << 64 | by["nonce"]).to_bytes(16, "big")
    same((preimage.hex(), decode.sha256(preimage).hex()), (by["preimage"], by["hash"]))
    same(decode.work(unhex(by["mailbox"]), data, by["expires"], by["nonce"]), by["bits"])
    need(by["bits"] >= 18, "too little work")


def check_value(name, data):
    by = DHT[name]
    what, says, key = decode.value(data)
    same((what, key.hex(), decode.position(key).hex()), (name, by["key"], by["position"]))
    same(decode.sha256(unhex(by["preimage"])).hex(), by["key"])
    need(unhex(by["preimage"]).startswith(by["tag"].encode() + b"\0") and by["record"] in data.hex(), "preimage, record")
    if name == "presence":
        inside = decode.open_presence(says, unhex(by["audience key"]))
        same((says["presence key"], says["day"], says["nonce"]), (by["presence key"], int(by["day"]), by["nonce"]))
        shown = decode.record("presence", unhex(inside["presence"]))
        same((shown["user"], shown["device"]), (inside["user"], inside["device"]))
        same((inside["user"], inside["device"], inside["node"]), tuple(KEYS[k] for k in ("alice user", "alice device", "node")))
        same(inside["addresses"], ["/ip4/198.51.100.7/tcp/14774", "/ip6/2001:db8::7/tcp/14774"])
    if name == "name":
        same((says["authority"], says["address"]), (by["authority"], by["address"]))
    if name == "user":
        same(says["user"], by["user"])


CHECKS = {
    "record": (check_record, {name: unhex(data) for name, data in PROTOCOL["records"].items()}),
    "frame": (check_frame, {name: unhex(data) for name, data in PROTOCOL["frames"].items()}),
    "content": (check_content, {name: unhex(by["bytes"]) for name, by in STEPS["contents"].items()}),
    "sealed": (check_sealed, {name: unhex(by["item"]) for name, by in STEPS["sealing"].items()}),
    "work": (check_work, {"deposit": unhex(STEPS["work"]["item"])}),
    "value": (check_value, {name: unhex(by["value"]) for name, by in DHT.items() if "value" in by}),
}
ALL = [pytest.param(check, name, data, id=f"{sort}-{name}")
       for sort, (check, vectors) in CHECKS.items() for name, data in vectors.items()]


@pytest.mark.parametrize("check, name, data", ALL)
def test_is_what_the_protocol_says(check, name, data):
    check(name, data)


# Of the others it is not said what they say, so nobody can tell that it has changed.
SAID = {check_record: STEPS["records"], check_frame: STEPS["frames"]}
TOLD = [param for param in ALL if param.values[1] in SAID.get(param.values[0], [param.values[1]])]


@pytest.mark.parametrize("check, name, data", TOLD)
def test_is_refused_with_any_byte_altered(check, name, data):
    # Of long ones every seventh byte, always the first and the last.
    places = sorted({*range(0, len(data), 1 if len(data) < 100 else 7), len(data) - 1})
    kept = [at for at in places if not refuses(check, name, data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1:])]
    assert not kept, f"bytes {kept} may be anything"
    assert refuses(check, name, data[:-1]), "may be cut short"
    assert refuses(check, name, data + b"\x00"), "may be longer"


def refuses(check, name, data):
    try:
        check(name, data)
    except Wrong:
        return True
    return False


def test_keys_that_no_value_stands_at():
    by = DHT["mailbox"]
    key = decode.dht_key("mailbox", unhex(by["user"]))
    assert (key.hex(), decode.position(key).hex()) == (by["key"], by["position"])
    by = DHT["node"]
    assert decode.position_of_node(unhex(by["node"])).hex() == by["position"]
    assert decode.sha256(unhex(by["peer id"])).hex() == by["position"]


@pytest.mark.parametrize("by", [pytest.param(by, id=by["name"]) for by in AUTHORITY])
def test_a_certificate_is_worth_what_the_protocol_says(by):
    found = decode.standing(unhex(by["cert"]), by["pinned"], [unhex(one) for one in by["rotations"]], by["holder"], [unhex(one) for one in by["revocations"]], by["now"], by["credible"])
    assert found == by["expect"]


def test_the_consent_is_for_this_address_of_this_authority():
    says = decode.frame(unhex(PROTOCOL["frames"]["enrol"]))[1]["ask"]["enrol"]
    authority = unhex(KEYS["authority"])
    decode.consents(says, authority, "alice@school.example")
    for wrong in ((authority, "bob@school.example"), (unhex(KEYS["node"]), "alice@school.example")):
        with pytest.raises(Wrong):
            decode.consents(says, *wrong)


def test_the_permit_is_for_this_device_at_this_time():
    says = decode.frame(unhex(PROTOCOL["frames"]["enrol-changed"]))[1]["ask"]["changed"]
    device = unhex(decode.record("device-cert", unhex(PROTOCOL["records"]["device-cert"]))["device"])
    whole = (unhex(KEYS["alice user"]), device, unhex(KEYS["authority"]), "alice@school.example")
    decode.permits(says, *whole)
    for wrong in (({**says, "at": says["at"] + 1}, *whole), (says, *whole[:3], "bob@school.example"), (says, whole[0], whole[0], *whole[2:])):
        with pytest.raises(Wrong):
            decode.permits(*wrong)


def test_work_is_counted_as_the_protocol_says():
    refused = decode.frame(unhex(PROTOCOL["frames"]["enrol-answer-work"]))[1]["answer"]["refused"]
    done = [nonce for nonce in range(5_000) if decode.worked(unhex(refused["challenge"]), nonce, refused["bits"])]
    assert done[0] == int(KEYS["enrol work nonce"])


def test_an_xid_is_two_zeros_and_the_key():
    address = "00" + KEYS["alice user"] + "@id.internal"
    assert len(address) == 66 + len("@id.internal")
    assert decode.user_record(unhex(PROTOCOL["records"]["user-record"]))["user"] == address[2:66]


@pytest.mark.parametrize("kind", sorted(decode.RECORDS.keys() - {"device-cert"}))
def test_a_signature_counts_for_its_own_kind_only(kind):
    payload, signature, signer, _ = decode.four(unhex(PROTOCOL["records"]["device-cert"]))
    decode.verify(signer, "crosstalk/1/device-cert", payload, signature)
    with pytest.raises(Wrong):
        decode.verify(signer, f"crosstalk/1/{kind}", payload, signature)


def test_every_kind_of_record_has_a_vector():
    named = {kind_of(name) for name in PROTOCOL["records"] if not name.startswith("user-record")}
    assert named >= decode.RECORDS.keys() - {"envelope", "sealed-presence"}, "these two stand in frames and in dht.json"
