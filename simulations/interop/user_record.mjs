// A user record as it stands in the hash table, verified by overlay/PROTOCOL.md §2 and §7 with nothing of CrossTalk's.
import { createHash, createPublicKey, verify } from 'node:crypto'

const SKEW = 48 * 3600 * 1000 // §2, Time
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

// What was made too far in the future is refused; what ended too long ago counts no more.
function counts (made, ends, now) {
  need(made <= now + SKEW, 'made in the future')
  return ends > now - SKEW
}

// What the user has revoked: devices by their ids, in hex; 'all' once the user key itself is in other hands.
function revocations (list, user) {
  need(list.length <= 16, 'revocations')
  return new Set(list.map(bytes => {
    const says = signed('revocation', bytes, 2)
    need(same(one(says, 2), user) && !says[4] && !says[5], 'a revocation of something else')
    return says[3] ? Buffer.from(one(says, 3)).toString('hex') : 'all'
  }))
}

// The user's devices that count now, with their sealing keys; throws Wrong if any part of the value is not what it has to be.
export function verified (value, user, now = Date.now()) {
  const held = fields(value)
  need(one(held, 1) === 1n, 'version')
  const record = fields(one(held, 2))
  need(one(record, 1) === 1n && same(one(record, 2), user), 'about somebody else')
  const devices = record[3] ?? []
  const revoked = revocations(record[5] ?? [], user)
  need(devices.length <= 16 && devices.length + revoked.size >= 1, 'devices')
  return devices.flatMap(bytes => {
    const part = fields(bytes)
    const cert = signed('device-cert', one(part, 1), 2)
    const info = signed('device-info', one(part, 2), 3)
    need(same(one(cert, 2), user) && same(one(info, 2), user) && same(one(cert, 3), one(info, 3)), 'a device of somebody else')
    const certified = counts(Number(one(cert, 4)), Number(one(cert, 5)), now)
    const current = counts(Number(one(fields(one(info, 6)), 1)), Number(one(info, 7)), now)
    const device = Buffer.from(one(cert, 3)).toString('hex')
    if (!certified || !current || revoked.has(device) || revoked.has('all')) return []
    const sealing = info[4].map(key => Buffer.from(one(fields(key), 1)).toString('hex'))
    return [{ device, expires: Number(one(cert, 5)), sealing }]
  })
}
