//! What the overlay keeps: its own shapes, given their trees and keys. *Pure.*

use crosstalk_overlay::core::state::{
    CachedUserRecord, InboundSequence, KnownAudience, KnownAuthority, OutboundSequence, OutboxEntry,
    OwnAudience, Seen, StoredMail, StoredToken,
};

use crate::Tree;
use crate::codec::Stored;

macro_rules! stored {
    ($($shape:ty => $tree:ident),* $(,)?) => {
        $(impl Stored for $shape {
            const TREE: Tree = Tree::$tree;
            const VERSION: u8 = 1;
        })*
    };
}

stored! {
    OutboxEntry => Outbox,
    OutboundSequence => Outbound,
    InboundSequence => Inbound,
    Seen => Seen,
    CachedUserRecord => UserRecord,
    KnownAuthority => Authority,
    OwnAudience => OwnAudience,
    KnownAudience => Audience,
    StoredMail => Mail,
    StoredToken => Token,
}
