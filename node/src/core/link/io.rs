//! What happens on the link by XEP-0174, and what the core asks for there: two closed enums. *Pure.*

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use crosstalk_link_local::instance::Instance;
use crosstalk_link_local::mdns;

use crate::xmpp::{Element, StreamError};

/// A link-local stream; never used twice in one run. Even numbers are given by the core, to streams that it opens; odd
/// ones by the shell, to those that it accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// How a link-local stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkEnding {
    /// The other side closed its stream.
    Closed,
    /// It ended after the connection and before the other side's header: libpurple does that to whom it has not
    /// resolved yet.
    BeforeHeader,
    /// No address could be connected to.
    Refused,
    /// The connection broke, or what came on it could not be read.
    Lost,
}

/// What happens on the link.
pub enum LinkEvent {
    /// Multicast DNS reports.
    Mdns(mdns::Event),
    /// Somebody connected and sent a stream header, which has not been answered.
    Accepted {
        /// The stream: an odd number.
        stream: StreamId,
        /// Where the connection comes from.
        address: SocketAddr,
        /// `from` of the header, at most 1,023 bytes.
        from: Option<String>,
        /// `to` of the header, at most 1,023 bytes.
        to: Option<String>,
    },
    /// Both headers of a stream that the core opened were exchanged.
    Connected {
        /// The stream.
        stream: StreamId,
        /// Where it leads.
        address: SocketAddr,
    },
    /// Elements of a stream, in order.
    Elements {
        /// The stream.
        stream: StreamId,
        /// As they came.
        elements: Vec<Element>,
    },
    /// The other host's TCP has acknowledged so many bytes of what [`LinkCommand::Write`] gave.
    Written {
        /// The stream.
        stream: StreamId,
        /// Bytes since the start of the stream, headers not counted.
        bytes: u64,
    },
    /// A stream is gone. The last that is said of it.
    Ended {
        /// The stream.
        stream: StreamId,
        /// How.
        how: LinkEnding,
    },
}

/// What the core asks for on the link.
pub enum LinkCommand {
    /// Announce a user, or announce it changed.
    Announce {
        /// Whom: one number per user.
        id: mdns::ServiceId,
        /// What is said.
        presence: Box<mdns::Presence>,
    },
    /// Say goodbye for a user.
    Withdraw {
        /// Whom.
        id: mdns::ServiceId,
    },
    /// Look for others, or no longer.
    Browse(bool),
    /// Fetch somebody's picture.
    AskPicture(Instance),
    /// A stream to somebody failed: check at once whether it is there.
    Suspect(Instance),
    /// Whose hosts the overlay watches, all of them until told otherwise: multicast DNS does not ask these whether they
    /// are there.
    Vouched(BTreeSet<Instance>),
    /// Open a stream to one of these addresses; then [`LinkEvent::Connected`] or [`LinkEvent::Ended`].
    Connect {
        /// The stream: an even number.
        stream: StreamId,
        /// Where, best first; at most 16.
        addresses: Vec<SocketAddr>,
        /// `from` of the header: our user's instance.
        from: String,
        /// `to` of the header: the other's instance.
        to: String,
    },
    /// Answer the header of an accepted stream: it is wanted.
    Accept {
        /// The stream.
        stream: StreamId,
        /// `from` of the header: our user's instance.
        from: String,
        /// `to` of the header: the other's instance, if it said who it is.
        to: Option<String>,
    },
    /// Whole stanzas for a stream.
    Write {
        /// The stream.
        stream: StreamId,
        /// Bytes.
        data: Vec<u8>,
    },
    /// End a stream after what was written before; [`LinkEvent::Ended`] may follow.
    Close {
        /// The stream.
        stream: StreamId,
        /// Why, if something is wrong.
        error: Option<StreamError>,
    },
}

// Bodies, and names of people on the link, are no business of a log.
impl fmt::Debug for LinkEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mdns(_) => f.write_str("Mdns"),
            Self::Accepted { stream, address, .. } => write!(f, "Accepted({}, {address})", stream.0),
            Self::Connected { stream, address } => write!(f, "Connected({}, {address})", stream.0),
            Self::Elements { stream, elements } => write!(f, "Elements({}, {})", stream.0, elements.len()),
            Self::Written { stream, bytes } => write!(f, "Written({}, {bytes})", stream.0),
            Self::Ended { stream, how } => write!(f, "Ended({}, {how:?})", stream.0),
        }
    }
}

impl fmt::Debug for LinkCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Announce { id, .. } => write!(f, "Announce({})", id.0),
            Self::Withdraw { id } => write!(f, "Withdraw({})", id.0),
            Self::Browse(on) => write!(f, "Browse({on})"),
            Self::AskPicture(_) => f.write_str("AskPicture"),
            Self::Suspect(_) => f.write_str("Suspect"),
            Self::Vouched(instances) => write!(f, "Vouched({})", instances.len()),
            Self::Connect { stream, addresses, .. } => write!(f, "Connect({}, {addresses:?})", stream.0),
            Self::Accept { stream, .. } => write!(f, "Accept({})", stream.0),
            Self::Write { stream, data } => write!(f, "Write({}, {} bytes)", stream.0, data.len()),
            Self::Close { stream, error } => {
                write!(f, "Close({}, {:?})", stream.0, error.as_ref().map(|error| error.condition))
            }
        }
    }
}
