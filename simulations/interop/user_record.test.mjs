// user_record.mjs against the vectors: what has ended, is of the future or was revoked does not count.
import assert from 'node:assert'
import { readFileSync } from 'node:fs'
import test from 'node:test'
import { Wrong, verified } from './user_record.mjs'

const { keys, records } = JSON.parse(readFileSync(new URL('../../overlay/vectors/protocol.json', import.meta.url)))
const user = Buffer.from(keys['alice user'], 'hex')
const DAY = 24 * 3600 * 1000

const record = name => Buffer.from(records[name], 'hex')
const varint = n => n < 128 ? [n] : [n & 0x7f | 0x80, ...varint(n >> 7)]

// A user record as the hash table has it (PROTOCOL.md §7), with more revocations (§2) in it.
function held (...revocations) {
  const more = revocations.map(revocation => Buffer.from([0x2a, ...varint(revocation.length), ...revocation]))
  const whole = Buffer.concat([record('user-record-revoking'), ...more])
  return Buffer.concat([Buffer.from([8, 1, 0x12, ...varint(whole.length)]), whole])
}

// When the records of the vectors were made.
const NOW = 1800000000000

test('a record counts for its time', () => {
  const [device] = verified(held(), user, NOW)
  assert.strictEqual(device.device, keys['alice device'])
  assert.strictEqual(verified(held(), user, NOW + 8 * DAY).length, 1)
  assert.strictEqual(verified(held(), user, NOW + 10 * DAY).length, 0)
  assert.throws(() => verified(held(), user, NOW - 3 * DAY), Wrong)
})

test('nothing counts of a user whose key is in other hands, and nobody else says so', () => {
  assert.strictEqual(verified(held(record('revocation-key')), user, NOW).length, 0)
  assert.throws(() => verified(held(record('revocation-name')), user, NOW), Wrong)
})

test('what is altered is noticed', () => {
  const bytes = held()
  // The names of the record are not looked at here.
  const names = bytes.indexOf(record('name-cert'))
  const rest = names < 0 ? bytes.length : names
  for (let at = 4; at < rest; at++) {
    const altered = Buffer.from(bytes)
    altered[at] ^= 4
    assert.throws(() => verified(altered, user, NOW), Wrong, `byte ${at}`)
  }
})
