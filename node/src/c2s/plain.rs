//! A login that brought the password itself (SASL PLAIN): told to whoever can use it, for as long as that takes.

use crosstalk_overlay::id::UserId;

use crate::secret::Secret;

/// Somebody has logged in with this password.
#[derive(Debug)]
pub struct PlainLogin {
    /// Who.
    pub user: UserId,
    /// The password, which was right.
    pub password: Secret,
}
