// A user record as it stands in the hash table, verified by overlay/PROTOCOL.md §2 and §7 with nothing of CrossTalk's.
import { createHash, createPublicKey, verify } from 'node:crypto'

const DER = Buffer.from('302a300506032b6570032100', 'hex') // RFC 8410: the 32 bytes of an Ed25519 key follow

export class Wrong extends Error {}

function need (fact, what) {
  if (!fact) throw new Wrong(what)
}

// The key at which a user's record stands.
export function keyOf (user) {
  return createHash('sha256').update('crosstalk/1/dht/user\0').update(user).digest()
}

// Protobuf: {number: [values]}, numbers as BigInt, the rest as bytes.
function fields (bytes) {
  const found = {}
  let at = 0
  const varint = () => {
    let value = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      need(at < bytes.length, 'varint')
      const byte = bytes[at++]
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
    throw new Wrong('varint')
  }
  while (at < bytes.length) {
    const tag = varint()
    let value
    if ((tag & 7n) === 0n) {
      value = varint()
    } else {
      need((tag & 7n) === 1n || (tag & 7n) === 2n, 'wire type')
      const size = (tag & 7n) === 1n ? 8 : Number(varint())
      need(at + size <= bytes.length, 'length')
      value = bytes.subarray(at, at += size)
    }
    (found[tag >> 3n] ??= []).push(value)
  }
  return found
}

const one = (found, number) => {
  need(found[number]?.length === 1, `field ${number}`)
  return found[number][0]
}
const same = (a, b) => Buffer.compare(a, b) === 0

// The fields of a signed record's payload, once its signature fits; `signer` is the number of the field that names who signs.
function signed (kind, bytes, signer) {
  const record = fields(bytes)
  need(Object.keys(record).every(number => ['1', '2', '3', '4'].includes(number)), 'signed record')
  const [payload, signature, key] = [1, 2, 3].map(number => one(record, number))
  const says = fields(payload)
  need(one(says, 1) === 1n, 'version')
  need(key.length === 32 && same(key, one(says, signer)), `${kind}: signed by somebody else`)
  const data = Buffer.concat([Buffer.from(`crosstalk/1/${kind}\0`), payload])
  const spki = createPublicKey({ key: Buffer.concat([DER, key]), format: 'der', type: 'spki' })
  need(verify(null, data, spki, signature), `${kind}: signature`)
  return says
}

// The user's devices with their sealing keys; throws Wrong if any part of the value does not count for this user at this time.
export function verified (value, user, now = Date.now()) {
  const held = fields(value)
  need(one(held, 1) === 1n, 'version')
  const record = fields(one(held, 2))
  need(one(record, 1) === 1n && same(one(record, 2), user), 'about somebody else')
  need(record[3]?.length >= 1 && record[3].length <= 16, 'devices')
  return record[3].map(bytes => {
    const device = fields(bytes)
    const cert = signed('device-cert', one(device, 1), 2)
    const info = signed('device-info', one(device, 2), 3)
    need(same(one(cert, 2), user) && same(one(info, 2), user) && same(one(cert, 3), one(info, 3)), 'a device of somebody else')
    need(Number(one(info, 7)) > now, 'ended')
    return {
      device: Buffer.from(one(cert, 3)).toString('hex'),
      expires: Number(one(cert, 5)),
      sealing: info[4].map(key => Buffer.from(one(fields(key), 1)).toString('hex'))
    }
  })
}
