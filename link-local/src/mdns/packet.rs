//! DNS messages as mDNS uses them (RFC 1035, RFC 6762 §18): a bounded, total parser and a writer (*pure*).
//!
//! Names and their compression are read and written by hickory-proto; the framing is ours, so that a record that
//! can't be read costs only itself, and nothing is allocated by a count that a stranger wrote.

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder, NameEncoding};

/// Largest message (RFC 6762 §17).
pub(super) const MAX_MESSAGE: usize = 9_000;
/// Payload of a packet that fits into an Ethernet frame over IPv6.
pub(super) const MAX_PAYLOAD: usize = 1_440;
/// Most questions, and most records, of a message; one with more is refused.
const MAX_QUESTIONS: u16 = 64;
const MAX_RECORDS: u16 = 512;
/// Largest TXT record that is kept.
const MAX_TXT: usize = 2_048;

/// Types of records.
pub(super) mod kind {
    pub(in crate::mdns) const A: u16 = 1;
    pub(in crate::mdns) const NULL: u16 = 10;
    pub(in crate::mdns) const PTR: u16 = 12;
    pub(in crate::mdns) const TXT: u16 = 16;
    pub(in crate::mdns) const AAAA: u16 = 28;
    pub(in crate::mdns) const SRV: u16 = 33;
    pub(in crate::mdns) const NSEC: u16 = 47;
    pub(in crate::mdns) const ANY: u16 = 255;
}

/// The top bit of a class: unicast answer wanted, or cache to be flushed.
const TOP: u16 = 0x8000;
const IN: u16 = 1;
const RESPONSE: u16 = 0x8400;
const TRUNCATED: u16 = 0x0200;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Packet {
    pub(super) id: u16,
    pub(super) response: bool,
    /// More known answers follow (RFC 6762 §7.2).
    pub(super) truncated: bool,
    pub(super) questions: Vec<Question>,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    pub(super) additionals: Vec<Record>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) name: Name,
    pub(super) kind: u16,
    /// The QU bit.
    pub(super) unicast: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) name: Name,
    /// The cache-flush bit.
    pub(super) flush: bool,
    /// Seconds.
    pub(super) ttl: u32,
    pub(super) data: Data,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Ptr(Name),
    Srv {
        port: u16,
        target: Name,
    },
    Txt(Vec<u8>),
    Null(Vec<u8>),
    /// The types that the name has, below 256 (RFC 6762 §6.1). Only written.
    Nsec(Vec<u16>),
}

impl Data {
    pub(super) fn kind(&self) -> u16 {
        match self {
            Self::A(_) => kind::A,
            Self::Aaaa(_) => kind::AAAA,
            Self::Ptr(_) => kind::PTR,
            Self::Srv { .. } => kind::SRV,
            Self::Txt(_) => kind::TXT,
            Self::Null(_) => kind::NULL,
            Self::Nsec(_) => kind::NSEC,
        }
    }

    /// The record's data without compression, for the comparison of RFC 6762 §8.2.
    pub(super) fn raw(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = BinEncoder::new(&mut out);
        encoder.set_name_encoding(NameEncoding::Uncompressed);
        let written = emit_data(self, &Name::root(), &mut encoder);
        if written.is_none() { Vec::new() } else { out }
    }
}

impl Record {
    /// Same name, type and data.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        self.name == other.name && self.data == other.data
    }
}

impl Packet {
    pub(super) fn query() -> Self {
        Self::default()
    }

    pub(super) fn response() -> Self {
        Self { response: true, ..Self::default() }
    }

    /// Reads a message. `None`: malformed, too large, or of a kind that RFC 6762 §18 says to ignore.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_MESSAGE {
            return None;
        }
        let mut decoder = BinDecoder::new(bytes);
        let [id, flags, questions, answers, authorities, additionals] = header(&mut decoder)?;
        let is_plain = flags & 0x780f == 0;
        let records = answers.saturating_add(authorities).saturating_add(additionals);
        if !is_plain || questions > MAX_QUESTIONS || records > MAX_RECORDS {
            return None;
        }
        Some(Self {
            id,
            response: flags & 0x8000 != 0,
            truncated: flags & TRUNCATED != 0,
            questions: (0..questions).map(|_| read_question(&mut decoder)).collect::<Option<Vec<_>>>()?,
            answers: read_records(&mut decoder, answers, bytes)?,
            authorities: read_records(&mut decoder, authorities, bytes)?,
            additionals: read_records(&mut decoder, additionals, bytes)?,
        })
    }

    /// All records of a response.
    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.answers.iter().chain(&self.authorities).chain(&self.additionals)
    }

    /// Writes the message, over several packets if need be: answers are continued (in a query: known answers, with the
    /// TC bit on all but the last), additional records that do not fit are left out.
    pub(super) fn encode(&self, compress: bool) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        let mut answers = self.answers.as_slice();
        let mut is_first = true;
        loop {
            let (mut bytes, written) = self.encode_one(is_first, answers, compress);
            // An answer that fits into no packet is left out.
            let is_stuck = written == 0 && (!is_first || self.questions.is_empty());
            answers = answers.get(written + usize::from(is_stuck)..).unwrap_or_default();
            is_first = false;
            if !answers.is_empty() && !self.response {
                bytes[2] |= (TRUNCATED >> 8) as u8;
            }
            packets.push(bytes);
            if answers.is_empty() {
                return packets;
            }
        }
    }

    /// One packet, and how many answers it holds.
    fn encode_one(&self, is_first: bool, answers: &[Record], compress: bool) -> (Vec<u8>, usize) {
        let mut bytes = Vec::new();
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(u16::try_from(MAX_MESSAGE).unwrap_or(u16::MAX));
        if !compress {
            encoder.set_name_encoding(NameEncoding::Uncompressed);
        }
        // Twelve bytes always fit.
        let _ = encoder.emit_vec(&[0; 12]);
        let mut counts = [0u16; 4];
        let questions = if is_first { self.questions.as_slice() } else { &[] };
        counts[0] = fill(&mut encoder, questions, emit_question);
        counts[1] = fill(&mut encoder, answers, emit_record);
        let written = usize::from(counts[1]);
        if is_first {
            counts[2] = fill(&mut encoder, &self.authorities, emit_record);
        }
        if written == answers.len() {
            counts[3] = fill(&mut encoder, &self.additionals, emit_record);
        }
        let flags = if self.response { RESPONSE } else { 0 };
        for (at, value) in [self.id, flags].into_iter().chain(counts).enumerate() {
            bytes[2 * at..2 * at + 2].copy_from_slice(&value.to_be_bytes());
        }
        (bytes, written)
    }
}

fn header(decoder: &mut BinDecoder<'_>) -> Option<[u16; 6]> {
    let mut fields = [0; 6];
    for field in &mut fields {
        *field = decoder.read_u16().ok()?.unverified();
    }
    Some(fields)
}

fn read_question(decoder: &mut BinDecoder<'_>) -> Option<Question> {
    let name = Name::read(decoder).ok()?;
    let kind = decoder.read_u16().ok()?.unverified();
    let class = decoder.read_u16().ok()?.unverified();
    Some(Question { name, kind, unicast: class & TOP != 0 })
}

/// Reads so many records; those of other classes and types, or with data that can't be read, are left out.
fn read_records<'a>(decoder: &mut BinDecoder<'a>, count: u16, all: &'a [u8]) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    for _ in 0..count {
        let name = Name::read(decoder).ok()?;
        let kind = decoder.read_u16().ok()?.unverified();
        let class = decoder.read_u16().ok()?.unverified();
        let ttl = decoder.read_u32().ok()?.unverified();
        let length = usize::from(decoder.read_u16().ok()?.unverified());
        let start = decoder.index();
        decoder.read_slice(length).ok()?;
        let end = start + length;
        // The data is read from the whole message, for compressed names, but must end where it says.
        let mut data = BinDecoder::new(&all[..end]).clone(u16::try_from(start).ok()?);
        let data = read_data(&mut data, kind, length).filter(|_| class & !TOP == IN);
        if let Some(data) = data {
            records.push(Record { name, flush: class & TOP != 0, ttl, data });
        }
    }
    Some(records)
}

fn read_data(decoder: &mut BinDecoder<'_>, kind: u16, length: usize) -> Option<Data> {
    let data = match kind {
        kind::A => Data::A(Ipv4Addr::from(read_array::<4>(decoder, length)?)),
        kind::AAAA => Data::Aaaa(Ipv6Addr::from(read_array::<16>(decoder, length)?)),
        kind::PTR => Data::Ptr(Name::read(decoder).ok()?),
        kind::SRV => {
            let [_priority, _weight, port] = [(); 3].map(|()| decoder.read_u16().ok());
            Data::Srv { port: port?.unverified(), target: Name::read(decoder).ok()? }
        }
        kind::TXT if length <= MAX_TXT => Data::Txt(decoder.read_vec(length).ok()?.unverified()),
        kind::NULL => Data::Null(decoder.read_vec(length).ok()?.unverified()),
        _ => return None,
    };
    decoder.is_empty().then_some(data)
}

fn read_array<const N: usize>(decoder: &mut BinDecoder<'_>, length: usize) -> Option<[u8; N]> {
    let bytes = decoder.read_slice(length).ok()?.unverified();
    bytes.try_into().ok()
}

/// Writes as many as fit into a packet, at least one of the first kind of a packet, whatever its size.
fn fill<T>(
    encoder: &mut BinEncoder<'_>,
    items: &[T],
    emit: impl Fn(&T, &mut BinEncoder<'_>) -> Option<()>,
) -> u16 {
    let mut count = 0;
    for item in items {
        let start = encoder.offset();
        let is_written = emit(item, encoder).is_some();
        let fits = encoder.offset() <= MAX_PAYLOAD || start <= 12;
        if !is_written || !fits {
            encoder.set_offset(start);
            encoder.trim();
            break;
        }
        count += 1;
    }
    count
}

fn emit_question(question: &Question, encoder: &mut BinEncoder<'_>) -> Option<()> {
    question.name.emit(encoder).ok()?;
    encoder.emit_u16(question.kind).ok()?;
    encoder.emit_u16(if question.unicast { IN | TOP } else { IN }).ok()
}

fn emit_record(record: &Record, encoder: &mut BinEncoder<'_>) -> Option<()> {
    record.name.emit(encoder).ok()?;
    encoder.emit_u16(record.data.kind()).ok()?;
    encoder.emit_u16(if record.flush { IN | TOP } else { IN }).ok()?;
    encoder.emit_u32(record.ttl).ok()?;
    let place = encoder.place::<u16>().ok()?;
    emit_data(&record.data, &record.name, encoder)?;
    let length = u16::try_from(encoder.len_since_place(&place)).ok()?;
    place.replace(encoder, length).ok()
}

fn emit_data(data: &Data, owner: &Name, encoder: &mut BinEncoder<'_>) -> Option<()> {
    match data {
        Data::A(address) => encoder.emit_vec(&address.octets()).ok(),
        Data::Aaaa(address) => encoder.emit_vec(&address.octets()).ok(),
        Data::Ptr(target) => target.emit(encoder).ok(),
        Data::Srv { port, target } => {
            for value in [0, 0, *port] {
                encoder.emit_u16(value).ok()?;
            }
            target.emit(encoder).ok()
        }
        Data::Txt(bytes) | Data::Null(bytes) => encoder.emit_vec(bytes).ok(),
        Data::Nsec(kinds) => {
            owner.emit(encoder).ok()?;
            encoder.emit_vec(&bitmap(kinds)).ok()
        }
    }
}

/// Block 0 of the type bitmap (RFC 4034 §4.1.2).
fn bitmap(kinds: &[u16]) -> Vec<u8> {
    let mut bits = Vec::new();
    for kind in kinds.iter().filter(|kind| **kind < 256) {
        let at = usize::from(kind / 8);
        bits.resize(bits.len().max(at + 1), 0);
        bits[at] |= 0x80 >> (kind % 8);
    }
    let length = u8::try_from(bits.len()).unwrap_or_default();
    [vec![0, length], bits].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn a_name() -> impl Strategy<Value = Name> {
        let label = proptest::collection::vec(any::<u8>(), 1..20);
        proptest::collection::vec(label, 1..5)
            .prop_map(|labels| Name::from_labels(labels.iter().map(Vec::as_slice)).unwrap())
    }

    fn some_data() -> impl Strategy<Value = Data> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
        prop_oneof![
            any::<u32>().prop_map(|bits| Data::A(bits.into())),
            any::<u128>().prop_map(|bits| Data::Aaaa(bits.into())),
            a_name().prop_map(Data::Ptr),
            (any::<u16>(), a_name()).prop_map(|(port, target)| Data::Srv { port, target }),
            bytes().prop_map(Data::Txt),
            bytes().prop_map(Data::Null),
        ]
    }

    prop_compose! {
        fn a_record()(name in a_name(), flush: bool, ttl: u32, data in some_data()) -> Record {
            Record { name, flush, ttl, data }
        }
    }

    prop_compose! {
        fn a_packet()(
            id: u16, response: bool,
            questions in proptest::collection::vec((a_name(), any::<u16>(), any::<bool>()), 0..4),
            answers in proptest::collection::vec(a_record(), 0..40),
        ) -> Packet {
            let questions = questions.into_iter().map(|(name, kind, unicast)| Question { name, kind, unicast }).collect();
            Packet { id, response, questions, answers, ..Packet::default() }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(packet in a_packet(), compress: bool) {
            let packets = packet.encode(compress);
            let read: Vec<Packet> = packets.iter().map(|bytes| Packet::parse(bytes).unwrap()).collect();
            let answers: Vec<Record> = read.iter().flat_map(|packet| packet.answers.clone()).collect();
            prop_assert_eq!(answers, packet.answers);
            prop_assert_eq!(&read[0].questions, &packet.questions);
            for (bytes, one) in packets.iter().zip(&read) {
                prop_assert!(bytes.len() <= MAX_PAYLOAD);
                prop_assert_eq!(one.id, packet.id);
            }
            let truncated: Vec<bool> = read.iter().map(|packet| packet.truncated).collect();
            let expected: Vec<bool> = (1..=read.len()).map(|at| at < read.len() && !packet.response).collect();
            prop_assert_eq!(truncated, expected);
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Packet::parse(&bytes);
        }

        #[test]
        fn damaged_packets_are_survived(packet in a_packet(), damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..9)) {
            let mut bytes = packet.encode(true).swap_remove(0);
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(read) = Packet::parse(&bytes) {
                for record in read.records() {
                    prop_assert!(record.data.raw().len() <= MAX_MESSAGE);
                }
            }
        }
    }

    fn raw(counts: [u16; 4], body: &[u8]) -> Vec<u8> {
        let header = [0, 0x8400].into_iter().chain(counts).flat_map(u16::to_be_bytes);
        header.chain(body.iter().copied()).collect()
    }

    #[test]
    fn loops_of_compression_end() {
        for pointer in [[0xc0, 12], [0xc0, 13], [0xff, 0xff]] {
            let mut body = pointer.to_vec();
            body.extend_from_slice(&[0, 12, 0, 1, 0, 0, 0, 1, 0, 0]);
            assert_eq!(Packet::parse(&raw([0, 1, 0, 0], &body)), None);
        }
    }

    #[test]
    fn counts_and_sizes_are_bounded() {
        assert_eq!(Packet::parse(&raw([65, 0, 0, 0], &[0; 500])), None);
        assert_eq!(Packet::parse(&raw([0, 0xffff, 0xffff, 0xffff], &[0; 8_000])), None);
        assert_eq!(Packet::parse(&vec![0; MAX_MESSAGE + 1]), None);
        assert_eq!(Packet::parse(&raw([0, 1, 0, 0], &[])), None, "a record that is not there");
    }

    #[test]
    fn a_record_that_cannot_be_read_costs_only_itself() {
        let short_a = [1, b'x', 0, 0, 1, 0, 1, 0, 0, 0, 9, 0, 2, 1, 2];
        let unknown = [1, b'y', 0, 0, 99, 0, 1, 0, 0, 0, 9, 0, 1, 7];
        let good = [1, b'z', 0, 0, 1, 0x80, 1, 0, 0, 0, 9, 0, 4, 1, 2, 3, 4];
        let body = [short_a.as_slice(), &unknown, &good].concat();
        let packet = Packet::parse(&raw([0, 3, 0, 0], &body)).unwrap();
        assert_eq!(packet.answers.len(), 1);
        assert_eq!(packet.answers[0].data, Data::A(Ipv4Addr::new(1, 2, 3, 4)));
        assert!(packet.answers[0].flush);
    }

    #[test]
    fn negative_answers_name_the_types() {
        let name = Name::from_labels(["h", "local"]).unwrap();
        let raw = Data::Nsec(vec![kind::A]).raw();
        assert_eq!(raw, [0, 0, 1, 0x40], "root, block 0, one byte, bit 1");
        let record = Record { name, flush: true, ttl: 120, data: Data::Nsec(vec![kind::A]) };
        let bytes = Packet { answers: vec![record], ..Packet::response() }.encode(true);
        assert!(bytes[0].ends_with(&[0xc0, 12, 0, 1, 0x40]));
    }
}
