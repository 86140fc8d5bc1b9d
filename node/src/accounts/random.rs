//! Random bytes of the operating system: for keys, passwords, salts and the core's seed.

/// The system gives no random numbers.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct NoRandomness(#[from] getrandom::Error);

/// `N` random bytes.
///
/// # Errors
/// When the system has none to give; nothing secret can be made then.
pub fn bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}

/// Fills in random bytes.
///
/// # Errors
/// As [`bytes()`].
pub fn fill(bytes: &mut [u8]) -> Result<(), NoRandomness> {
    Ok(getrandom::fill(bytes)?)
}

/// The name of a queue of what comes from outside: small enough for any reader of numbers, and never 0.
///
/// # Errors
/// As [`bytes()`].
pub fn queue_id() -> Result<u64, NoRandomness> {
    Ok(u64::from_be_bytes(bytes()?) >> 1 | 1)
}
