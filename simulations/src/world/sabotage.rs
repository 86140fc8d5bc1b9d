//! Ways in which the world itself breaks a promise on purpose, to prove that the invariants see it. *Pure.*

/// What the world does wrong. The core is never touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A commit is reported but not written.
    LoseCommit,
    /// A message is left out of a commit.
    LoseWrite,
    /// A commit is reported when its write begins.
    EarlyCommit,
    /// A host starts with an older store.
    RollBack,
    /// A host starts without its resumable sessions.
    ForgetSessions,
    /// A node is told that its client acknowledged what did not arrive yet.
    ForgedAck,
    /// A client gets a message twice.
    DoubleStanza,
    /// A client does not get a message.
    LoseStanza,
    /// A client gets two messages in the wrong order.
    SwapStanzas,
    /// A message is shown under the name of somebody else.
    ForgedFrom,
    /// Presence of somebody who does not exist is shown.
    Stranger,
    /// Changes of a contact list are not pushed.
    LosePush,
    /// Legal: a peer gets the same envelope twice.
    DoubleFrame,
}
