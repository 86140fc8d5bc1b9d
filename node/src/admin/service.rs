//! Carries out requests: makes keys and credentials where a request needs them, then asks the core.
//!
//! The running node, registration by clients (XEP-0077) and a command line without a node all come through here, so
//! there is one way to do each thing.

use std::path::PathBuf;
use std::sync::Arc;

use crosstalk_overlay::id::{AuthorityId, UserId, XID_DOMAIN};
use crosstalk_overlay::keys::UserKey;
use crosstalk_overlay::swarm::Views;
use tokio::sync::{Semaphore, mpsc, oneshot};
use zeroize::Zeroizing;

use super::reach::ReachView;
use super::{Opener, Request, Response, Secret};
use crate::accounts::{AccountError, Accounts, Prepared, RENEW_BEFORE};
use crate::authority::{self, Authority};
use crate::backup::{BackupError, Backups};
use crate::bypass::{self, BypassView};
use crate::core::admin::{AccountView, Command, Refused, Reply, Sealed};
use crate::core::domains::DomainCommand;
use crate::event_loop::clock::wall_millis;
use crate::link::View;

/// Questions to the core that wait at once; who asks more waits.
pub const ASKS: usize = 64;
/// Requests that wait for key making at once; more are refused.
const WAITING: usize = 16;

/// A question to the core.
#[derive(Debug)]
pub struct Ask {
    /// What to do.
    pub command: Box<Command>,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Box<Reply>>,
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The core refused it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Keys or names are in the way.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// Too many are waiting.
    #[error("too many accounts are being made at once: try again in a moment")]
    Busy,
    /// The node is stopping.
    #[error("the node is stopping: try again when it runs")]
    Stopping,
    /// There is no back-up.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// An answer to another question: a fault of this program.
    #[error("the node gave an answer to another question: please report this as a fault")]
    Confused,
}

/// An account that was made.
#[derive(Debug)]
pub struct Added {
    /// The account.
    pub account: AccountView,
    /// Its password, if it was made here.
    pub password: Option<Zeroizing<String>>,
    /// Its recovery code, known to nobody else.
    pub recovery: Zeroizing<String>,
}

impl From<Added> for Response {
    fn from(added: Added) -> Self {
        let (password, recovery) = (added.password.map(Secret::from), Secret::from(added.recovery));
        Self::Added { account: added.account, password, recovery }
    }
}

/// Carries out requests.
#[derive(Clone, Debug)]
pub struct Service {
    core: mpsc::Sender<Ask>,
    accounts: Arc<Accounts>,
    /// Keys are made one at a time: each takes 46 MiB while it lasts.
    making: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// One enrolment at a time, so that two of the same user do not write each other's key file.
    pub(super) enrolling: Arc<Semaphore>,
    authority: Option<Authority>,
    link: Option<View>,
    network: Option<Views>,
    bypass: Option<bypass::View>,
    pub(super) ca_file: Option<PathBuf>,
    backups: Option<Backups>,
}

impl Service {
    /// A service that asks the core through `core`.
    pub fn new(core: mpsc::Sender<Ask>, accounts: Arc<Accounts>) -> Self {
        let (making, waiting) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(WAITING)));
        let enrolling = Arc::new(Semaphore::new(1));
        let (authority, link, network, bypass, ca_file, backups) = (None, None, None, None, None, None);
        Self {
            core,
            accounts,
            making,
            waiting,
            enrolling,
            authority,
            link,
            network,
            bypass,
            ca_file,
            backups,
        }
    }

    /// With the server of a domain that this node may be.
    #[must_use]
    pub fn with_authority(mut self, authority: Authority) -> Self {
        self.authority = Some(authority);
        self
    }

    /// With a way to ask what the link costs.
    #[must_use]
    pub fn with_link(mut self, link: Option<View>) -> Self {
        self.link = link;
        self
    }

    /// With a way to see how others reach this node, and what goes to them.
    #[must_use]
    pub fn with_network(mut self, network: Views) -> Self {
        self.network = Some(network);
        self
    }

    /// With the bypass gateway, if it is on.
    #[must_use]
    pub fn with_bypass(mut self, bypass: Option<bypass::View>) -> Self {
        self.bypass = bypass;
        self
    }

    /// What the bypass gateway does, if it is on.
    pub fn bypass(&self) -> Option<BypassView> {
        self.bypass.as_ref().map(bypass::View::report)
    }

    /// With a way to copy the store.
    #[must_use]
    pub fn with_backups(mut self, backups: Backups) -> Self {
        self.backups = Some(backups);
        self
    }

    /// The maker of accounts.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Carries out a request of the command line.
    pub async fn execute(&self, request: Request) -> Response {
        match self.try_execute(request).await {
            Ok(response) => response,
            Err(ServiceError::Refused(refused)) => Response::Reply(Reply::Refused(refused)),
            Err(error) => Response::Failed(error.to_string()),
        }
    }

    async fn try_execute(&self, request: Request) -> Result<Response, ServiceError> {
        let command = match request {
            Request::AddAccount { name, password, nickname } => {
                let added = self.add(name, password.map(Secret::into_inner), nickname).await?;
                return Ok(added.into());
            }
            Request::Link => {
                let report = match &self.link {
                    Some(link) => link.report().await,
                    None => None,
                };
                return Ok(Response::Link(report.map(Box::new)));
            }
            Request::Reach => {
                let report = self.network.as_ref().and_then(Views::reach);
                return Ok(Response::Reach(
                    report.map(|report| Box::new(ReachView::from(&*report.borrow()))),
                ));
            }
            Request::Carried => {
                let carried = self.network.as_ref().map(|network| network.carried().into());
                return Ok(Response::Carried(carried));
            }
            Request::Bypass => {
                return Ok(Response::Bypass(self.bypass().map(Box::new)));
            }
            Request::BackUp { path } => {
                let backups = self.backups.as_ref().ok_or(ServiceError::Stopping)?;
                let contents = backups.make(path).await?;
                return Ok(Response::BackedUp { entries: contents.entries, bytes: contents.bytes });
            }
            Request::Authority(question) => return self.authority(question).await,
            Request::Enrol { to, server, password, account } => {
                return self.enrol(to, server.as_deref(), password, account).await;
            }
            Request::SetPassword { account, password, opener } => {
                return self.set_password(account, password.map(Secret::into_inner), opener).await;
            }
            Request::Compromised { account, opener } => return self.compromised(account, opener).await,
            Request::SetProfile { account, nickname, visible } => {
                let nickname = nickname.as_deref().map(Accounts::nickname).transpose()?;
                Command::SetProfile { account, nickname, visible }
            }
            Request::SetLink { account, mode } => Command::SetLink { account, mode },
            Request::Listing { account, show } => Command::Listing { account, show },
            Request::ListAccounts => Command::ListAccounts,
            Request::ShowAccount { account } => Command::ShowAccount(account),
            Request::RemoveAccount { account } => Command::RemoveAccount(account),
            Request::Status => Command::Status,
            Request::Peers => Command::Peers,
            Request::Outbox => Command::Outbox,
            Request::Lookup { address } => Command::Lookup(address),
            Request::Requests => Command::Requests,
            Request::AnswerRequest { account, jid, accept } => {
                Command::AnswerRequest { account, jid, accept }
            }
            Request::Contacts { account } => Command::Contacts(account),
            Request::AddContact { account, jid, name } => Command::AddContact { account, jid, name },
            Request::RemoveContact { account, jid } => Command::RemoveContact { account, jid },
            Request::KeepContact { account, jid } => Command::KeepContact { account, jid },
            request @ (Request::Domains
            | Request::TrustDomain { .. }
            | Request::FetchDomain { .. }
            | Request::ForgetDomain { .. }) => return self.domain(request).await,
            Request::Devices { account } => Command::Devices(account),
            Request::AddDevice { account, password } => return self.add_device(account, password).await,
            Request::JoinDevice { code, password, name } => return self.join(code, password, name).await,
            Request::RevokeDevice { account, device, password } => {
                return self.revoke_device(account, &device, password).await;
            }
        };
        self.ask(command).await.map(Response::Reply)
    }

    /// Makes an account; without a password, makes that too. Takes some 50 ms of one core.
    ///
    /// # Errors
    /// When the name is taken or impossible, or nothing can be saved; nothing is left behind then.
    pub async fn add(
        &self,
        name: String,
        password: Option<Zeroizing<String>>,
        nickname: Option<String>,
    ) -> Result<Added, ServiceError> {
        let name = Accounts::name(&name)?;
        let login = format!("{name}@{}", self.accounts.domain());
        // Making keys is work: whoever asks for a name that is taken does not get it done.
        if let Reply::Account(_) = self.ask(Command::ShowAccount(login.clone())).await? {
            return Err(Refused::NameTaken(name).into());
        }
        let chosen = password.is_some();
        let Prepared { account, password, recovery } =
            self.laborious(move |accounts| accounts.prepare(&name, password, nickname.as_deref())).await?;
        let user = account.user;
        if let Err(error) = done(self.ask(Command::AddAccount(Box::new(account))).await) {
            self.laborious(move |accounts| accounts.forget(user)).await?;
            return Err(error);
        }
        let account = self.account(login).await?;
        Ok(Added { account, password: (!chosen).then_some(password), recovery })
    }

    async fn set_password(
        &self,
        account: String,
        password: Option<Zeroizing<String>>,
        opener: Option<Opener>,
    ) -> Result<Response, ServiceError> {
        let (user, key) = self.open(&account, opener).await?;
        let made = password.is_none();
        let home = self.password_home(&account).await?;
        let server = home.is_some();
        let work = move |accounts: &Accounts| {
            let fresh = accounts.new_password(user, key.as_ref(), password)?;
            let held = match key.zip(home) {
                Some((key, home)) => super::password::held(&key, &fresh.password, &home)?,
                None => None,
            };
            Ok((fresh, held))
        };
        let (fresh, held) = self.laborious(work).await?;
        let (resealed, renewed) = (fresh.sealed.is_some(), fresh.device_cert);
        let sealed = fresh.sealed.map(Sealed);
        let command = Command::SetPassword { account, credentials: fresh.credentials, sealed, held };
        done(self.ask(command).await)?;
        if renewed.is_some() {
            done(self.ask(Command::Renew { user, device_cert: renewed, name_cert: None }).await)?;
        }
        Ok(Response::PasswordSet { password: made.then_some(Secret::from(fresh.password)), resealed, server })
    }

    /// Renews the device certificate of a user whose password is known to be right, if it ends soon. Returns whether it
    /// did.
    ///
    /// # Errors
    /// When the password does not open the user key, or nothing can be saved.
    pub async fn renew(&self, user: UserId, password: Secret) -> Result<bool, ServiceError> {
        let account = format!("{}@{XID_DOMAIN}", user.xid());
        let until = self.account(account.clone()).await?.device_until;
        if until > wall_millis().saturating_add(RENEW_BEFORE) {
            return Ok(false);
        }
        let (user, Some(key)) = self.open(&account, Some(Opener::Password(password))).await? else {
            return Ok(false);
        };
        let cert = self.laborious(move |accounts| accounts.renewed(user, &key)).await?;
        done(self.ask(Command::Renew { user, device_cert: Some(cert), name_cert: None }).await)?;
        Ok(true)
    }

    /// Asks the server of a domain that this node is, and tells the core what that changes.
    async fn authority(&self, question: authority::Question) -> Result<Response, ServiceError> {
        use authority::{Answer, Question};
        let Some(office) = &self.authority else { return Err(ServiceError::Confused) };
        let made = matches!(question, Question::Init { .. } | Question::Restore { .. });
        let question = match question {
            Question::Init { .. } if self.accounts.own().is_some() => {
                let text = "this node gives names to its own accounts already (`domain`): use another data directory for \
                            a server that enrols laptops";
                return Ok(Response::Authority(Answer::Refused(text.to_owned())));
            }
            Question::Invite { name, life, .. } => {
                Question::Invite { name, life, places: self.places().await? }
            }
            Question::Introduce { domain, key: None } => {
                let key = Some(self.fetch_domain(&domain).await?.key.to_hex());
                Question::Introduce { domain, key }
            }
            Question::Introduce { domain, key } => {
                super::domains::check(&domain)?;
                Question::Introduce { domain, key }
            }
            other => other,
        };
        let mut answer = office.ask(question).await;
        match &mut answer {
            Answer::Done { revocations } if !revocations.is_empty() => {
                done(self.ask(Command::AddRevocations(std::mem::take(revocations))).await)?;
            }
            Answer::Rotated { rotation, .. } => {
                done(self.ask(Command::AddRotation(std::mem::take(rotation))).await)?;
            }
            Answer::Domain(view) => view.places = self.places().await?,
            _ => {}
        }
        if made && let Some((domain, authority)) = office.domain() {
            self.serve(domain.to_owned(), authority).await?;
        }
        Ok(Response::Authority(answer))
    }

    /// Tells the core of the domain that this node is the server of, how its key came to be that, and what is void.
    pub(super) async fn serve(&self, domain: String, authority: AuthorityId) -> Result<(), ServiceError> {
        done(self.ask(Command::Serve { domain, authority }).await)?;
        let Some(office) = &self.authority else { return Ok(()) };
        for rotation in office.rotations() {
            done(self.ask(Command::AddRotation(rotation.clone())).await)?;
        }
        let introductions = DomainCommand::Introductions(office.introductions().to_vec());
        done(self.ask(Command::Domain(introductions)).await)?;
        if !office.revocations().is_empty() {
            done(self.ask(Command::AddRevocations(office.revocations().to_vec())).await)?;
        }
        Ok(())
    }

    async fn places(&self) -> Result<Vec<String>, ServiceError> {
        match self.ask(Command::Places).await? {
            Reply::Places(places) => Ok(places),
            reply => Err(unexpected(reply)),
        }
    }

    /// The user behind an account and, with an opener, the opened user key.
    pub(super) async fn open(
        &self,
        account: &str,
        opener: Option<Opener>,
    ) -> Result<(UserId, Option<UserKey>), ServiceError> {
        let reply = self.ask(Command::SealedKeys(account.to_owned())).await?;
        let Reply::SealedKeys { user, by_password, by_recovery, .. } = reply else {
            return Err(unexpected(reply));
        };
        let user = UserId::from_bytes(user);
        let key = match opener {
            None => None,
            Some(opener) => Some(
                self.laborious(move |_| match &opener {
                    Opener::Password(secret) => {
                        Accounts::open_with_password(user, &by_password.0, secret.reveal())
                    }
                    Opener::Recovery(secret) => {
                        Accounts::open_with_recovery(user, &by_recovery.0, secret.reveal())
                    }
                })
                .await?,
            ),
        };
        Ok((user, key))
    }

    pub(super) async fn account(&self, account: String) -> Result<AccountView, ServiceError> {
        let reply = self.ask(Command::ShowAccount(account)).await?;
        let Reply::Account(view) = reply else { return Err(unexpected(reply)) };
        Ok(view)
    }

    /// Asks the core; the answer to a change comes when it is durable.
    ///
    /// # Errors
    /// When the node is stopping.
    pub async fn ask(&self, command: Command) -> Result<Reply, ServiceError> {
        let (answer, reply) = oneshot::channel();
        let ask = Ask { command: Box::new(command), answer };
        self.core.send(ask).await.map_err(|_| ServiceError::Stopping)?;
        reply.await.map(|reply| *reply).map_err(|_| ServiceError::Stopping)
    }

    /// Runs something slow on another thread, one at a time.
    pub(super) async fn laborious<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Accounts) -> Result<T, AccountError> + Send + 'static,
    ) -> Result<T, ServiceError> {
        let _place = self.waiting.try_acquire().map_err(|_| ServiceError::Busy)?;
        let _turn = self.making.acquire().await.map_err(|_| ServiceError::Stopping)?;
        let accounts = Arc::clone(&self.accounts);
        let done = tokio::task::spawn_blocking(move || work(&accounts)).await;
        Ok(done.map_err(|_| ServiceError::Stopping)??)
    }
}

/// Whether a change was made.
pub(crate) fn done(reply: Result<Reply, ServiceError>) -> Result<(), ServiceError> {
    let reply = reply?;
    if matches!(reply, Reply::Done | Reply::Account(_)) { Ok(()) } else { Err(unexpected(reply)) }
}

/// What it means that the core gave this reply instead of the one asked for.
pub(crate) fn unexpected(reply: Reply) -> ServiceError {
    if let Reply::Refused(refused) = reply { refused.into() } else { ServiceError::Confused }
}
