//! Deliberate bugs, each of which the simulations have to catch: the proof that they see. Only code built with the feature
//! `mutants` can have one, on the thread that asked for it; in every other build they are nothing. *Pure.*

/// Makes the catalogue: each bug with what it does to those who use the program.
macro_rules! catalogue {
    ($($(#[doc = $about:literal])+ $name:ident,)+) => {
        /// A deliberate bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutant {
            $($(#[doc = $about])+ $name,)+
        }

        /// All of them, with what they do.
        pub const ALL: &[(Mutant, &str)] = &[$((Mutant::$name, concat!($($about),+)),)+];
    };
}

catalogue! {
    /// A signature is not looked at.
    SkipSignature,
    /// A live stanza is taken from a node that has not proven its sender.
    UnprovenLive,
    /// The outbox on disk forgets a message when it is sent.
    ForgetWhenSent,
    /// The outbox keeps a message after its receipt.
    KeepAfterReceipt,
    /// A repeated message is delivered again.
    TakeRepeats,
    /// A message that comes too early is delivered at once.
    NoHoldBack,
    /// The place in the order is not saved.
    OrderUnsaved,
    /// A receipt leaves before its message is durable.
    ReceiptAtOnce,
    /// What nobody answers is not sent again on the same connection.
    NoResend,
    /// A silent peer is never given up.
    NeverSilent,
    /// Whoever nobody hears any more stays shown.
    NoFade,
    /// Clocks that their own nodes do not believe outvote others.
    UnsureCounts,
    /// What a node said before it was away counts when it is back.
    OldWord,
    /// Nobody holds anything for those who are away.
    NoCourier,
    /// Nothing waits for its commit.
    PromiseAtOnce,
    /// Stanzas of a client are counted twice.
    CountTwice,
    /// A resumed session does not get again what it has not acknowledged.
    ResumeForgets,
    /// A held message is deleted when it is written to a client.
    ReleaseWhenSent,
    /// A held message stays after its acknowledgement.
    KeepHeld,
    /// Messages are held in memory only.
    HoldInMemory,
    /// Sessions are not saved.
    SessionsUnsaved,
    /// What one client sends is not shown to the user's others.
    CarbonsForgotten,
    /// What is sent on one device is not told the others.
    CopiesForgotten,
    /// Changes of the contact list are not pushed.
    PushesForgotten,
    /// Neighbours who have gone stay in the list.
    NeighboursStay,
    /// Of two edits the one that came last counts.
    LastMergeWins,
    /// Messages come from the bare address.
    BareFrom,
    /// Presence is shown to all contacts, with or without permission.
    PermissionForgotten,
    /// Nobody is told that a client has logged out.
    LogoutUntold,
    /// What contacts have agreed is kept in memory only.
    ContactsUnsaved,
    /// The contact list is kept in memory only.
    RosterUnsaved,
    /// A contact is shown as a neighbour too.
    NeighbourTwice,
    /// Whoever was blocked is shown all the same.
    BlocksForgotten,
    /// A lost laptop is believed.
    LostBelieved,
    /// A certificate that the server has renewed is not taken in.
    RenewalForgotten,
    /// A server that was away is never asked again.
    ServerGivenUp,
    /// What was held while the server was away is never told to it.
    HeldUntold,
    /// A server takes a laptop that was revoked for one that was not.
    RevokedServed,
    /// A commit is answered before it is on the disk, where it never comes.
    CommitInMemory,
}

#[cfg(feature = "mutants")]
thread_local! {
    static AT_WORK: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Whether this bug is at work on this thread.
#[cfg(feature = "mutants")]
pub fn is_on(mutant: Mutant) -> bool {
    AT_WORK.get() == Some(mutant)
}

/// Never.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn is_on(_: Mutant) -> bool {
    false
}

/// Does something with a bug at work on this thread, or with none.
#[cfg(feature = "mutants")]
pub fn with<T>(mutant: Option<Mutant>, work: impl FnOnce() -> T) -> T {
    let before = AT_WORK.replace(mutant);
    let done = work();
    AT_WORK.set(before);
    done
}
