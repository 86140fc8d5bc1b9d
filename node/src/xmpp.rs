//! XML as XMPP uses it: elements, stanzas, errors, and the bounded way from bytes to elements and back. *Pure.*

mod chars;
pub mod element;
pub mod error;
pub mod form;
pub mod framer;
pub mod ns;
pub mod parse;
pub mod pie;
pub mod stanza;
pub mod without;

pub use element::{Element, Node};
pub use error::{Condition, ErrorType, StanzaError, StreamError};
pub use stanza::{Kind, Stanza, Type};
