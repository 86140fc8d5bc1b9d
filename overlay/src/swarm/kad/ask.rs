//! One question to one node, in Kademlia's own words (GET_VALUE of the libp2p specification `kad-dht`): what libp2p-kad does
//! for its queries, but telling who answered what.

use std::io;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::request_response::{self, Codec, Config, ProtocolSupport};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use prost::Message as _;

use super::shape::{ANSWER, MAX_PACKET, protocol};
use super::table::MAX_KEPT;
use crate::dht::{self, Key};

/// Questions of the same kind as libp2p-kad's, of one table.
pub(in crate::swarm) type Asker = request_response::Behaviour<Words>;
/// What comes of them.
pub(in crate::swarm) type Event = request_response::Event<Key, Said>;

/// Nodes that are read of one answer.
const MAX_CLOSER: usize = 20;
const GET_VALUE: i32 = 1;

/// Asks in one table; answers nobody, which libp2p-kad does.
pub(super) fn asker(kind: dht::Table) -> Asker {
    let config = Config::default().with_request_timeout(ANSWER);
    Asker::new([(protocol(kind), ProtocolSupport::Outbound)], config)
}

/// What a node has said to a question; unverified.
#[derive(Debug, Default)]
pub(in crate::swarm) struct Said {
    pub(super) value: Option<Vec<u8>>,
    /// Nodes that are closer to the key, it says, and where.
    pub(super) closer: Vec<(PeerId, Vec<Multiaddr>)>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Packet {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    record: Option<RecordField>,
    #[prost(message, repeated, tag = "8")]
    closer: Vec<NodeField>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RecordField {
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NodeField {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    addresses: Vec<Vec<u8>>,
}

/// Reads and writes packets.
#[derive(Debug, Clone, Default)]
pub(in crate::swarm) struct Words;

fn odd(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A length in front of a packet: seven bits in each byte, the lowest first.
async fn read_length(io: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
    let mut length = 0;
    for shift in [0, 7, 14] {
        let mut byte = [0];
        io.read_exact(&mut byte).await?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        if byte[0] < 0x80 {
            return if length <= MAX_PACKET { Ok(length) } else { Err(odd("too large a packet")) };
        }
    }
    Err(odd("too long a length"))
}

fn read(bytes: &[u8]) -> io::Result<Said> {
    let packet = Packet::decode(bytes).map_err(|_| odd("no packet of Kademlia"))?;
    let node = |node: NodeField| {
        let peer = PeerId::from_bytes(&node.id).ok()?;
        let addresses = node.addresses.into_iter().take(MAX_KEPT);
        Some((peer, addresses.filter_map(|bytes| Multiaddr::try_from(bytes).ok()).collect()))
    };
    let closer = packet.closer.into_iter().take(MAX_CLOSER).filter_map(node).collect();
    Ok(Said { value: packet.record.map(|record| record.value), closer })
}

impl Codec for Words {
    type Protocol = StreamProtocol;
    type Request = Key;
    type Response = Said;

    /// Never: only questions are put here.
    async fn read_request<T>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<Key>
    where
        T: AsyncRead + Unpin + Send,
    {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Said>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut bytes = vec![0; read_length(io).await?];
        io.read_exact(&mut bytes).await?;
        read(&bytes)
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, key: Key) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let key = key.as_bytes().to_vec();
        let packet = Packet { kind: GET_VALUE, key, ..Packet::default() };
        io.write_all(&packet.encode_length_delimited_to_vec()).await
    }

    /// Never.
    async fn write_response<T>(&mut self, _: &StreamProtocol, _: &mut T, _: Said) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_answer_is_an_error_or_little() {
        assert!(read(&[0xff; 9]).is_err());
        let node = NodeField { id: vec![1, 2, 3], addresses: vec![vec![9; 9]] };
        let peer = PeerId::random();
        let many = NodeField { id: peer.to_bytes(), addresses: vec![vec![4, 1, 1, 1, 1, 6, 0, 9]; 50] };
        let packet = Packet { closer: vec![node; 30], ..Packet::default() };
        assert!(read(&packet.encode_to_vec()).unwrap().closer.is_empty(), "no peer ids");
        let packet = Packet { closer: vec![many; 30], ..Packet::default() };
        let said = read(&packet.encode_to_vec()).unwrap();
        assert_eq!((said.closer.len(), said.closer[0].1.len()), (MAX_CLOSER, MAX_KEPT));
    }

    #[tokio::test]
    async fn a_length_is_bounded() {
        for (bytes, length) in [(&[5][..], Some(5)), (&[0x80, 0x01], Some(128)), (&[0xff, 0xff, 0x7f], None)]
        {
            assert_eq!(read_length(&mut &bytes[..]).await.ok(), length);
        }
        assert!(read_length(&mut &[0xff; 9][..]).await.is_err());
        assert!(read_length(&mut &[0x80][..]).await.is_err(), "cut off");
    }
}
