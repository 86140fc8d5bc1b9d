// A peer of another make: js-libp2p connects to a CrossTalk node, speaks identify, ping and its Kademlia, fetches a user
// record and verifies it. `node other_make.mjs MULTIADDR USER_HEX`; prints what it saw as one line of JSON.
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { keyOf, verified } from './user_record.mjs'

// Node.js 18 and 20, which Debian has, lack two things that js-libp2p uses.
Promise.withResolvers ??= function () {
  const made = {}
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }))
  return made
}
globalThis.CustomEvent ??= class extends Event {
  constructor (type, init) {
    super(type, init)
    this.detail = init?.detail
  }
}

const [address, userHex] = process.argv.slice(2)
const user = Buffer.from(userHex, 'hex')
const PROTOCOL = '/crosstalk/kad/1'

const peer = await createLibp2p({
  addresses: { listen: [] },
  connectionMonitor: { enabled: false },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: {
    identify: identify(),
    ping: ping(),
    dht: kadDHT({ protocol: PROTOCOL, clientMode: true, peerInfoMapper: passthroughMapper })
  }
})

const identified = new Promise(resolve => peer.addEventListener('peer:identify', event => resolve(event.detail), { once: true }))
const connection = await peer.dial(multiaddr(address))
const { protocolVersion, agentVersion, protocols, listenAddrs } = await identified
// kad-dht pings whomever it enters into its table, and there may be one ping of ours at a time.
while (peer.services.dht.routingTable.size === 0) await new Promise(resolve => setTimeout(resolve, 20))
const round = await peer.services.ping.ping(connection.remotePeer)

// kad-dht's own get() takes no value without the time when it was received, and rust-libp2p tells none. So its look-up finds
// the nodes, and its messages ask each of them.
const key = keyOf(user)
const closest = new Map()
for await (const event of peer.services.dht.getClosestPeers(key)) {
  if (event.name === 'FINAL_PEER') closest.set(event.peer.id.toString(), event.peer.id)
}
const answers = []
for (const id of closest.values()) {
  const path = { index: -1, queued: 0, running: 0, total: 0 }
  for await (const event of peer.services.dht.network.sendRequest(id, { type: 'GET_VALUE', key }, { path })) {
    if (event.name === 'PEER_RESPONSE' && event.record != null) answers.push({ from: id.toString(), value: event.record.value })
  }
}
const believes = value => {
  try {
    return verified(value, user).length > 0
  } catch {
    return false
  }
}
// Places in the first answer where a byte may be altered unnoticed: there must be none.
const unnoticed = [...(answers[0]?.value ?? [])].map((_, at) => at).filter(at => {
  const altered = Uint8Array.from(answers[0].value)
  altered[at] ^= 1 << at % 8
  return believes(altered)
})
const held = answers.map(({ from, value }) => ({ from, value: Buffer.from(value).toString('hex'), devices: verified(value, user) }))

console.log(JSON.stringify({
  protocolVersion,
  agentVersion,
  protocols,
  listens: listenAddrs.map(String),
  encryption: connection.encryption,
  muxer: connection.multiplexer,
  ping: round,
  closest: [...closest.keys()],
  unnoticed,
  held
}))
await peer.stop()
process.exit(0)
