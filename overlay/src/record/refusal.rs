//! Why a record does not count, and whether that is an offence. *Pure.*

/// Why a record does not count. The kind is the last part of its domain string.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Larger than its kind may be.
    #[error("{kind}: {size} bytes, {max} allowed: the sender must shorten it")]
    TooLarge {
        /// Kind of record.
        kind: &'static str,
        /// Bytes it has.
        size: usize,
        /// Bytes it may have.
        max: usize,
    },
    /// Not the shape of its kind.
    #[error("{kind}: {what} is missing or malformed: the sender's program is broken or hostile")]
    Malformed {
        /// Kind of record.
        kind: &'static str,
        /// The field.
        what: &'static str,
    },
    /// A version that this program does not know.
    #[error("{kind}: version {version} is not known here: update this program")]
    Version {
        /// Kind of record.
        kind: &'static str,
        /// The version it has.
        version: u32,
    },
    /// The signature does not fit.
    #[error("{kind}: the signature is not the signer's: drop it and distrust whoever sent it")]
    Signature {
        /// Kind of record.
        kind: &'static str,
    },
    /// Signed by somebody who may not say this.
    #[error("{kind}: signed by somebody who may not say this: drop it and distrust whoever sent it")]
    WrongSigner {
        /// Kind of record.
        kind: &'static str,
    },
    /// The certificate of the signing device is not known yet.
    #[error("{kind}: the signing device is not known: fetch its user's record first")]
    NoCertificate {
        /// Kind of record.
        kind: &'static str,
    },
    /// Past its end by more than two clocks may differ.
    #[error("{kind}: it has expired: ask its owner for a new one")]
    Expired {
        /// Kind of record.
        kind: &'static str,
    },
    /// Made by a clock that is more than 48 hours ahead.
    #[error("{kind}: made more than 48 h in the future: compare the clocks")]
    TooFarAhead {
        /// Kind of record.
        kind: &'static str,
    },
    /// It claims a longer life than its kind may have.
    #[error("{kind}: it claims a longer life than allowed: the sender's program is broken or hostile")]
    LivesTooLong {
        /// Kind of record.
        kind: &'static str,
    },
    /// The device that signed it was revoked.
    #[error("{kind}: the device that signed it was revoked: drop it")]
    Revoked {
        /// Kind of record.
        kind: &'static str,
    },
}

impl Refusal {
    /// Whether an honest peer never causes it: counts against whoever sent the record.
    pub fn is_offence(&self) -> bool {
        match self {
            Self::TooLarge { .. }
            | Self::Malformed { .. }
            | Self::Signature { .. }
            | Self::WrongSigner { .. }
            | Self::LivesTooLong { .. } => true,
            Self::Version { .. }
            | Self::NoCertificate { .. }
            | Self::Expired { .. }
            | Self::TooFarAhead { .. }
            | Self::Revoked { .. } => false,
        }
    }
}
