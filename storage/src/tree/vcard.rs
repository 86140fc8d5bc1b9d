//! vCards of local users (XEP-0054), keyed by user. *Pure.*

use crate::Tree;
use crate::codec::Stored;

/// A vCard.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StoredVCard {
    /// The `<vCard/>` element.
    #[prost(bytes = "vec", tag = "1")]
    pub xml: Vec<u8>,
}

impl Stored for StoredVCard {
    const TREE: Tree = Tree::VCard;
    const VERSION: u8 = 1;
}
