//! Owns the targets for what clients send: the stream in any pieces, and single stanzas.

use crosstalk::xmpp::framer::{Frame, Framer, Limits};
use crosstalk::xmpp::parse::{self, Scope};
use crosstalk::xmpp::{Condition, Element, Node, Stanza, StanzaError, StreamError, ns};

use super::bounded;
use crate::world::dice::Dice;

/// Limits that short inputs reach.
const SMALL: Limits = Limits { stanza_bytes: 200, written_bytes: 300, depth: 3, attributes: 3, elements: 5 };

/// What a stream was found to be: its frames, and the error that ended it.
type Verdict = (Vec<Frame>, Option<StreamError>);

/// A client's stream: the same frames and the same end however the bytes are cut into pieces.
pub fn stream(data: &[u8]) {
    let data = bounded(data);
    for limits in [Limits::AFTER_LOGIN, SMALL] {
        let whole = verdict(data, [], &limits);
        check_split(&whole, &verdict(data, 1..data.len(), &limits), data.len(), &limits);
        let mut dice = Dice::new(u64::from(crc32fast::hash(data)));
        for pieces in 1..4 {
            let mut cuts: Vec<usize> = (0..pieces)
                .map(|_| usize::try_from(dice.below(data.len() as u64 + 1)).unwrap_or(0))
                .collect();
            cuts.sort_unstable();
            check_split(&whole, &verdict(data, cuts, &limits), data.len(), &limits);
        }
        for frame in &whole.0 {
            check_frame(frame, data.len(), &limits);
        }
        if let Some(error) = &whole.1 {
            assert!(Element::read(&in_stream(&error.to_bytes())).is_ok(), "{error:?} cannot be told");
        }
    }
}

fn verdict(data: &[u8], cuts: impl IntoIterator<Item = usize>, limits: &Limits) -> Verdict {
    let mut framer = Framer::new(*limits);
    let (mut frames, mut start) = (Vec::new(), 0);
    for end in cuts.into_iter().chain([data.len()]) {
        let mut piece = &data[start..end];
        start = end;
        while !piece.is_empty() {
            match framer.next(&mut piece) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => assert!(piece.is_empty(), "bytes are left over"),
                Err(error) => return (frames, Some(error)),
            }
            assert!(framer.kept() <= limits.stanza_bytes, "{} bytes are kept", framer.kept());
        }
    }
    (frames, None)
}

/// Where the input is longer than a stanza may be, the limit may be met before what else is wrong, so that only one
/// of two errors is seen.
fn check_split(whole: &Verdict, split: &Verdict, size: usize, limits: &Limits) {
    assert_eq!(whole.0, split.0, "pieces make other frames");
    let condition = |verdict: &Verdict| verdict.1.as_ref().map(|error| error.condition);
    match size <= limits.stanza_bytes {
        true => assert_eq!(condition(whole), condition(split), "pieces make another error"),
        false => assert_eq!(whole.1.is_some(), split.1.is_some(), "pieces make an error"),
    }
}

fn check_frame(frame: &Frame, size: usize, limits: &Limits) {
    let element = match frame {
        Frame::Element(element) => element,
        Frame::Open(header) => return assert!(header.nodes().is_empty(), "a header with nodes"),
        Frame::Close => return,
    };
    let (depth, elements) = extent(element);
    assert!(depth <= limits.depth && elements <= limits.elements, "{depth} deep, {elements} elements");
    let written = element.to_bytes(ns::CLIENT);
    assert!(written.len() <= limits.written_bytes.max(size), "{size} bytes became {}", written.len());
    assert_eq!(read_again(&written, limits).as_ref(), Ok(element), "{}", String::from_utf8_lossy(&written));
}

/// Depth and number of elements.
fn extent(element: &Element) -> (usize, usize) {
    let mut inner = (0, 0);
    for node in element.nodes() {
        if let Node::Element(child) = node {
            let (depth, count) = extent(child);
            inner = (inner.0.max(depth), inner.1 + count);
        }
    }
    (inner.0 + 1, inner.1 + 1)
}

fn read_again(bytes: &[u8], limits: &Limits) -> Result<Element, StreamError> {
    parse::element(parse::legal_text(bytes)?, &Scope::new(ns::CLIENT), limits)
}

/// `bytes` where the prefix `stream` is declared, without the end of the stream.
fn in_stream(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes).replace("</stream:stream>", "");
    format!("<a xmlns:stream='{}'>{text}</a>", ns::STREAMS).into_bytes()
}

/// One stanza, from a client, the store or another node.
pub fn stanza(data: &[u8]) {
    let Ok(element) = Element::read(bounded(data)) else { return };
    let written = element.to_bytes(ns::CLIENT);
    assert_eq!(Element::read(&written).as_ref(), Ok(&element), "{}", String::from_utf8_lossy(&written));
    let Some(kind) = Stanza::kind_of(&element) else { return };
    match Stanza::from_element(kind, element) {
        Ok(stanza) => check_stanza(&stanza),
        Err((stanza, error)) => {
            if let Some(answer) = stanza.error(&error) {
                assert!(Element::read(&answer.to_bytes()).is_ok(), "{answer:?} cannot be sent");
            }
        }
    }
}

fn check_stanza(stanza: &Stanza) {
    reads_back(stanza);
    let element = stanza.to_element();
    let again = Stanza::from_element(stanza.kind, element);
    assert_eq!(again.as_ref().ok(), Some(stanza), "as an element it is another stanza");
    let error = StanzaError::new(Condition::BadRequest, "a < reason & 'quotes'");
    if let Some(answer) = stanza.error(&error) {
        reads_back(&answer);
    }
    if stanza.is_request() && stanza.id.is_some() {
        reads_back(&stanza.result(stanza.payload.first().cloned()));
    }
}

fn reads_back(stanza: &Stanza) {
    let bytes = stanza.to_bytes();
    assert_eq!(Stanza::read(&bytes).as_ref(), Ok(stanza), "{}", String::from_utf8_lossy(&bytes));
}
