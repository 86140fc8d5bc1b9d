//! How frames stand on a stream: length prefix and body; an incremental, bounded decoder (*pure*).
//!
//! A frame is an unsigned varint (LEB128, shortest form) of its length, then that many bytes. An empty frame and one
//! longer than the limit are errors: the stream can't be trusted after either, so the caller closes the peer.

use thiserror::Error;

/// The longest prefix: three groups of seven bits reach 2,097,151, far above any limit in use.
const MAX_PREFIX: usize = 3;

/// Why a stream can't be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FramingError {
    /// The length is not a varint in its shortest form, or is zero.
    #[error("the length of a frame is not a valid varint")]
    BadLength,
    /// The announced length is above the limit.
    #[error("a frame of {announced} bytes was announced, at most {limit} are allowed")]
    TooLong {
        /// What the peer announced, bytes.
        announced: usize,
        /// What is allowed, bytes.
        limit: usize,
    },
}

/// Appends `frame` with its length prefix to `out`.
pub fn encode(frame: &[u8], out: &mut Vec<u8>) {
    let mut rest = frame.len();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
    out.extend_from_slice(frame);
}

/// Cuts a byte stream into frames. Holds at most one unfinished frame, and never more memory than twice what arrived.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Prefix { value: usize, read: usize },
    Body { length: usize, body: Vec<u8> },
}

impl State {
    const START: State = State::Prefix { value: 0, read: 0 };
}

impl Decoder {
    /// A decoder that refuses frames above `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, state: State::START }
    }

    /// Takes bytes from the front of `input` until a frame is complete or the input is used up.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, FramingError> {
        while let Some((&first, rest)) = input.split_first() {
            match &mut self.state {
                State::Prefix { value, read } => {
                    *input = rest;
                    *value |= usize::from(first & 0x7f) << (7 * *read);
                    *read += 1;
                    let (value, read) = (*value, *read);
                    if first & 0x80 == 0 {
                        self.begin(value, read)?;
                    } else if read == MAX_PREFIX {
                        return Err(FramingError::BadLength);
                    }
                }
                State::Body { length, body } => {
                    let take = input.len().min(*length - body.len());
                    body.extend_from_slice(&input[..take]);
                    *input = &input[take..];
                    if body.len() == *length {
                        let frame = std::mem::take(body);
                        self.state = State::START;
                        return Ok(Some(frame));
                    }
                }
            }
        }
        Ok(None)
    }

    fn begin(&mut self, length: usize, read: usize) -> Result<(), FramingError> {
        let shortest = read == 1 || length >> (7 * (read - 1)) > 0;
        if length == 0 || !shortest {
            return Err(FramingError::BadLength);
        }
        if length > self.limit {
            return Err(FramingError::TooLong { announced: length, limit: self.limit });
        }
        self.state = State::Body { length, body: Vec::new() };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: usize = 1000;

    fn decode_all(chunks: &[&[u8]]) -> Result<Vec<Vec<u8>>, FramingError> {
        let mut decoder = Decoder::new(LIMIT);
        let mut frames = Vec::new();
        for chunk in chunks {
            let mut input = *chunk;
            while let Some(frame) = decoder.next(&mut input)? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn bytes_are_as_specified() {
        let mut out = Vec::new();
        encode(&[7; 3], &mut out);
        encode(&[9; 300], &mut out);
        assert_eq!(&out[..4], &[3, 7, 7, 7]);
        assert_eq!(&out[4..7], &[0xac, 0x02, 9]);
    }

    #[test]
    fn refuses_empty_overlong_and_oversize() {
        assert_eq!(decode_all(&[&[0]]), Err(FramingError::BadLength));
        assert_eq!(decode_all(&[&[0x83, 0x00, 1, 2, 3]]), Err(FramingError::BadLength));
        assert_eq!(decode_all(&[&[0x80, 0x80, 0x80, 0x01]]), Err(FramingError::BadLength));
        assert_eq!(
            decode_all(&[&[0xe9, 0x07]]),
            Err(FramingError::TooLong { announced: 1001, limit: LIMIT })
        );
    }

    #[test]
    fn announced_length_is_not_allocated() {
        let mut decoder = Decoder::new(usize::MAX >> 1);
        let mut input: &[u8] = &[0xff, 0xff, 0x7f, 1];
        assert_eq!(decoder.next(&mut input), Ok(None));
        let State::Body { length, body } = &decoder.state else { panic!("in the body") };
        assert_eq!(*length, 2_097_151);
        assert!(body.capacity() < 64);
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_same_frames(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..LIMIT), 0..8),
            cut in 1usize..600,
        ) {
            let mut bytes = Vec::new();
            for frame in &frames {
                encode(frame, &mut bytes);
            }
            let chunks: Vec<&[u8]> = bytes.chunks(cut).collect();
            prop_assert_eq!(decode_all(&chunks).unwrap(), frames);
        }

        #[test]
        fn garbage_never_panics_and_stays_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
            if let Ok(frames) = decode_all(&[&bytes]) {
                prop_assert!(frames.iter().all(|frame| !frame.is_empty() && frame.len() <= LIMIT));
            }
        }
    }
}
