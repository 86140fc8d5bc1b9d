//! Slow work that the core asks for, done in order on another thread: key files and password hashing.
//!
//! At most [`AT_ONCE`] chores run together and their results come back as inputs. The queue is bounded by what the
//! core asks: for each account one new key, one erasure of each outlived key, and one password change a client.
//! What fails (a full disk) is tried again after a minute.

use std::collections::VecDeque;
use std::time::Duration;

use crosstalk_overlay::id::UserId;
use crosstalk_overlay::keys::SealingKey;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::clock;
use crate::accounts::key_dir::{KeyDir, KeyError};
use crate::accounts::{self, random};
use crate::core::Input;

/// Chores taken to the other thread together.
const AT_ONCE: usize = 16;
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// One thing to do. `Debug` shows no password.
pub(super) enum Chore {
    /// Make a sealing key and write it down.
    NewSealingKey(UserId),
    /// Erase a sealing key.
    EraseSealingKey(UserId, [u8; 32]),
    /// Erase all keys of a user.
    EraseKeys(UserId),
    /// Make credentials from a password.
    Credentials {
        /// Number that comes back.
        ticket: u64,
        /// Whose.
        user: UserId,
        /// The password.
        password: Zeroizing<String>,
    },
}

impl std::fmt::Debug for Chore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NewSealingKey(user) => write!(f, "NewSealingKey({user})"),
            Self::EraseSealingKey(user, _) => write!(f, "EraseSealingKey({user})"),
            Self::EraseKeys(user) => write!(f, "EraseKeys({user})"),
            Self::Credentials { ticket, user, .. } => write!(f, "Credentials({ticket}, {user})"),
        }
    }
}

/// Results, and chores that could not be done.
type Done = (Vec<Input>, Vec<Chore>);

/// The queue and what is under way.
#[derive(Debug)]
pub(super) struct Chores {
    keys: KeyDir,
    queue: VecDeque<Chore>,
    running: Option<JoinHandle<Done>>,
    /// When what failed is tried again.
    retry: Option<Instant>,
}

impl Chores {
    pub(super) fn new(keys: KeyDir) -> Self {
        Self { keys, queue: VecDeque::new(), running: None, retry: None }
    }

    pub(super) fn push(&mut self, chore: Chore) {
        self.queue.push_back(chore);
        self.retry = None;
    }

    /// Whether nothing is queued or under way that can be done now.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_none() && (self.queue.is_empty() || self.retry.is_some())
    }

    /// Waits for results; for ever if there is nothing to do. Cancel-safe.
    pub(super) async fn next(&mut self) -> Vec<Input> {
        if self.running.is_none() {
            if let Some(when) = self.retry {
                tokio::time::sleep_until(when).await;
                self.retry = None;
            }
            if self.queue.is_empty() {
                return std::future::pending().await;
            }
            let batch: Vec<Chore> = self.queue.drain(..self.queue.len().min(AT_ONCE)).collect();
            let keys = self.keys.clone();
            self.running = Some(tokio::task::spawn_blocking(move || do_all(batch, &keys)));
        }
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let done = running.await;
        self.running = None;
        let (inputs, failed) = done.unwrap_or_else(|error| {
            tracing::error!("a chore failed: {error}");
            Done::default()
        });
        self.retry = (!failed.is_empty()).then(|| Instant::now() + RETRY);
        self.queue.extend(failed);
        inputs
    }
}

fn do_all(chores: Vec<Chore>, keys: &KeyDir) -> Done {
    let mut done = Done::default();
    for chore in chores {
        match perform(&chore, keys) {
            Ok(input) => done.0.extend(input),
            Err(error) => {
                tracing::warn!("{error}; it is tried again in a minute");
                done.1.push(chore);
            }
        }
    }
    done
}

fn perform(chore: &Chore, keys: &KeyDir) -> Result<Option<Input>, KeyError> {
    match chore {
        Chore::NewSealingKey(user) => {
            let seed = Zeroizing::new(random::bytes()?);
            let key = SealingKey::from_seed(*seed, clock::wall_millis());
            keys.add_sealing(*user, &key)?;
            Ok(Some(Input::SealingKey { user: *user, key }))
        }
        Chore::EraseSealingKey(user, public) => keys.erase_sealing(*user, public).map(|()| None),
        Chore::EraseKeys(user) => keys.erase(*user).map(|()| None),
        Chore::Credentials { ticket, user, password } => {
            let credentials = accounts::credentials(*user, password).ok();
            Ok(Some(Input::Credentials { ticket: *ticket, credentials }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::settings::DeviceKeys;
    use crosstalk_overlay::keys::DeviceKey;

    #[tokio::test]
    async fn a_sealing_key_is_on_disk_before_it_is_used() {
        let data = tempfile::tempdir().expect("dir");
        let keys = KeyDir::open(data.path()).expect("opened");
        let user = UserId::from_bytes([1; 32]);
        let device = DeviceKey::from_seed([2; 32]);
        keys.put(user, &DeviceKeys { device, sealing: Vec::new() }).expect("written");
        let mut chores = Chores::new(keys.clone());
        assert!(chores.is_idle());
        chores.push(Chore::NewSealingKey(user));
        let inputs = chores.next().await;
        let [Input::SealingKey { key, .. }] = inputs.as_slice() else { panic!("{inputs:?}") };
        assert_eq!(keys.users().expect("read")[&user].sealing[0].public(), key.public());
        chores.push(Chore::EraseSealingKey(user, key.public()));
        assert!(chores.next().await.is_empty() && chores.is_idle());
        assert!(keys.users().expect("read")[&user].sealing.is_empty());
    }

    #[tokio::test]
    async fn what_fails_is_kept_for_later() {
        let data = tempfile::tempdir().expect("dir");
        let mut chores = Chores::new(KeyDir::open(data.path()).expect("opened"));
        chores.push(Chore::NewSealingKey(UserId::from_bytes([1; 32])));
        assert!(chores.next().await.is_empty());
        assert_eq!(chores.queue.len(), 1);
        assert!(chores.is_idle());
    }

    #[test]
    fn passwords_are_not_printed() {
        let user = UserId::from_bytes([1; 32]);
        let chore = Chore::Credentials { ticket: 1, user, password: "wherefore".to_owned().into() };
        assert!(!format!("{chore:?}").contains("wherefore"));
    }
}
