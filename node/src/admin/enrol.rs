//! `crosstalk enrol`: this node becomes a laptop of a user of a domain (`overlay/PROTOCOL.md` §12).
//!
//! With an invitation the user key is made here and registered; with name and password alone, or when the invitation was
//! used already (by this very laptop, which then died), it is fetched, sealed, and opened here. Both end alike: in one
//! commit the account is there and the authority is pinned. The password stays in this process.

use crosstalk_overlay::core::Server;
use crosstalk_overlay::enrol::{self, Answer, Ask, Enrol, Enrolled, Find, Found, Invitation, Register, Why};
use crosstalk_overlay::id::{AuthorityId, NodeId, UserId, XID_DOMAIN};
use crosstalk_overlay::keys::UserKey;
use crosstalk_overlay::record::{Context, NameCert, NoCertificates, RevocationSet, Unverified, domain_of};
use crosstalk_overlay::time::TrustedTime;
use zeroize::Zeroizing;

use super::service::{Service, ServiceError, done, unexpected};
use super::{Opener, Response, Secret};
use crate::accounts::seal::{self, Cost};
use crate::accounts::{AccountError, Accounts, random, secrets};
use crate::authority::keys_of;
use crate::authority::opaque::{Account, OpaqueError, Registration};
use crate::c2s::credentials::prepare_password;
use crate::core::admin::{AccountView, Command, NewAccount, Refused, Reply};
use crate::core::enrol::Home;

/// Times that a server is asked that has too much to do, and the pause between.
const TRIES: u32 = 20;
const MOMENT: std::time::Duration = std::time::Duration::from_secs(2);

/// Whom this node becomes a laptop of, and whom it asks.
pub(super) struct Goal {
    pub(super) address: String,
    pub(super) server: Server,
    /// The key that signs now.
    authority: AuthorityId,
    /// The first key of the domain, which passwords are registered with.
    pub(super) identity: AuthorityId,
    rotations: Vec<Vec<u8>>,
}

impl Goal {
    fn name_and_domain(&self) -> (&str, &str) {
        self.address.split_once('@').unwrap_or((&self.address, ""))
    }

    /// The server's node, and where it is.
    fn place(&self) -> Option<(NodeId, Vec<String>)> {
        match &self.server {
            Server::At(node, places) => Some((*node, places.clone())),
            Server::OnLink => None,
        }
    }

    fn home(&self) -> Option<Home> {
        let (server, places) = self.place()?;
        let (authority, server) = (*self.authority.as_bytes(), *server.as_bytes());
        Some(Home { authority, server, places, rotations: self.rotations.clone() })
    }
}

/// A user key that was made or fetched, with its certificate.
pub(super) struct Obtained {
    pub(super) key: UserKey,
    pub(super) enrolled: Enrolled,
    pub(super) recovery: Option<Zeroizing<String>>,
}

/// What a server says of its keys has to hang together; that they are the domain's, the password proves or the link says.
fn goal(address: String, server: Server, found: &Found, domain: &str) -> Result<Goal, ServiceError> {
    let authority = AuthorityId::from_slice(&found.authority).ok_or_else(misunderstood)?;
    let keys = keys_of(authority, &found.rotations, domain).filter(|keys| keys.current() == authority);
    let identity = keys.ok_or_else(misunderstood)?.first();
    Ok(Goal { address, server, authority, identity, rotations: found.rotations.clone() })
}

/// An account of this laptop that is to get a name.
#[derive(Clone)]
pub(super) struct Present {
    key: UserKey,
    /// The key sealed under the recovery code.
    recovery: Vec<u8>,
}

/// A new user key, its recovery code, and the key sealed under that.
fn made_key() -> Result<(UserKey, Zeroizing<String>, Vec<u8>), AccountError> {
    let key = UserKey::from_seed(*Zeroizing::new(random::bytes()?));
    let recovery = secrets::recovery_code(&random::bytes()?);
    let code = secrets::normal_recovery_code(&recovery);
    let by_code = seal::seal(&key, code.as_bytes(), Cost::RECOVERY, &random::bytes()?)?;
    Ok((key, recovery, by_code))
}

impl Service {
    /// Enrols with an invitation, or with an address; an account of this laptop, if one is named.
    pub(super) async fn enrol(
        &self,
        to: Secret,
        server: Option<&str>,
        password: Secret,
        account: Option<String>,
    ) -> Result<Response, ServiceError> {
        let password = password.into_inner();
        crate::accounts::names::password(&password).map_err(crate::accounts::AccountError::from)?;
        let prepared = prepare_password(&password).map_err(crate::accounts::AccountError::from)?;
        let prepared = Zeroizing::new(prepared.as_bytes().to_vec());
        let _turn = self.enrolling.acquire().await.map_err(|_| ServiceError::Stopping)?;
        let (goal, token) = self.goal(to.reveal(), server).await?;
        if let Some(user) = self.user_here(&goal, server.is_some()).await? {
            if token.is_some() || account.is_some() {
                return Err(already(&goal.address));
            }
            return self.change_server(&goal, user, prepared).await;
        }
        let present = match account {
            Some(account) => Some(self.present(account, Secret::from(password.clone())).await?),
            None => None,
        };
        let obtained = match token {
            Some(token) => match self.register(&goal, token, prepared.clone(), present.as_ref()).await? {
                Some(obtained) => obtained,
                None => self.log_in(&goal, prepared, USED, present.as_ref()).await?,
            },
            None => self.log_in(&goal, prepared, WRONG, present.as_ref()).await?,
        };
        if present.is_some_and(|present| present.key.id() != obtained.key.id()) {
            return Err(refused(format!(
                "{} belongs to another user key than this account has: leave --account away to use that user on this laptop                  beside this account, or ask whoever runs the server for another name",
                goal.address
            )));
        }
        let account = self.settle(&goal, &obtained, password).await?;
        let recovery = obtained.recovery.map(Secret::from);
        Ok(Response::Enrolled { account, recovery, again: false })
    }

    /// What was typed says whom to ask; an address alone, who says to be the server. That is believed when the password
    /// has proved it.
    async fn goal(
        &self,
        to: &str,
        server: Option<&str>,
    ) -> Result<(Goal, Option<Zeroizing<[u8; enrol::TOKEN]>>), ServiceError> {
        let said = server.map(place_of).transpose()?;
        if Invitation::is_meant(to) {
            let Invitation { token, address, authority, server, places } =
                Invitation::parse(to).map_err(|why| refused(why.to_string()))?;
            let server = said.unwrap_or(Server::At(server, places));
            let domain = domain_of(&address).ok_or_else(misunderstood)?.to_owned();
            let (_, found) = self.find(server.clone(), &domain).await?;
            let goal = goal(address, server, &found, &domain)?;
            // What the link says is believed; what the server says has to follow from it.
            let known =
                keys_of(authority, &found.rotations, &domain).filter(|keys| keys.holds(&goal.authority));
            if authority != goal.authority && known.is_none() {
                return Err(refused(
                    "the server has another key than this invitation says: ask whoever runs it for a new one"
                        .to_owned(),
                ));
            }
            return Ok((goal, Some(token)));
        }
        let (name, domain) = to.trim().rsplit_once('@').ok_or_else(|| Refused::BadAddress(to.to_owned()))?;
        let address = format!("{}@{}", Accounts::name(name)?, domain.to_lowercase());
        let domain = domain_of(&address).filter(|domain| *domain != XID_DOMAIN);
        let domain = domain.ok_or_else(|| Refused::BadAddress(to.to_owned()))?.to_owned();
        let (node, found) = self.find(said.clone().unwrap_or(Server::OnLink), &domain).await?;
        let server = said.unwrap_or_else(|| Server::At(node, Vec::new()));
        Ok((goal(address, server, &found, &domain)?, None))
    }

    /// Who gives names under a domain, as somebody says.
    async fn find(&self, server: Server, domain: &str) -> Result<(NodeId, Found), ServiceError> {
        match self.ask_server(server, &Ask::Find(Find { domain: domain.to_owned() })).await? {
            (node, Answer::Found(found)) => Ok((node, found)),
            (_, answer) => Err(no(&answer, WRONG)),
        }
    }

    /// The user key of an account of this laptop that is to get a name.
    async fn present(&self, account: String, password: Secret) -> Result<Present, ServiceError> {
        let Reply::SealedKeys { account: view, by_recovery, .. } =
            self.ask(Command::SealedKeys(account.clone())).await?
        else {
            return Err(Refused::NoAccount(account).into());
        };
        if !view.login.ends_with(&format!("@{XID_DOMAIN}")) {
            return Err(refused(format!(
                "{} has a name already, under which its contacts know it",
                view.login
            )));
        }
        match self.open(&account, Some(Opener::Password(password))).await? {
            (_, Some(key)) => Ok(Present { key, recovery: by_recovery.0 }),
            (_, None) => Err(ServiceError::Confused),
        }
    }

    /// The user who has that address on this laptop already, with another server than the one that is asked, which is away or not the
    /// one that a person has `named`.
    async fn user_here(&self, goal: &Goal, named: bool) -> Result<Option<UserId>, ServiceError> {
        let address = &goal.address;
        let Reply::Account(view) = self.ask(Command::ShowAccount(address.clone())).await? else {
            return Ok(None);
        };
        let Reply::Status(status) = self.ask(Command::Status).await? else {
            return Err(ServiceError::Confused);
        };
        let home = status.servers.into_iter().find(|server| server.address == view.jid);
        let xid = view.xid.split('@').next().and_then(UserId::from_xid);
        match (home, goal.place()) {
            (Some(home), Some((node, _))) if home.node != node.to_hex() && (named || home.state != "up") => {
                xid.map(Some).ok_or(ServiceError::Confused)
            }
            _ => Err(already(address)),
        }
    }

    /// Enrolled again, at another server of the same domain, as the former one is lost: the password proves that it has the user, the
    /// certificate that it is the domain's, and the core looks whether its key is the one that is known.
    async fn change_server(
        &self,
        goal: &Goal,
        user: UserId,
        password: Zeroizing<Vec<u8>>,
    ) -> Result<Response, ServiceError> {
        let obtained = self.log_in(goal, password, WRONG, None).await?;
        if obtained.key.id() != user {
            return Err(refused(format!(
                "that server knows {} by another user key than this laptop has: ask whoever runs it to put a newer back-up in place",
                goal.address
            )));
        }
        if !is_name_of(&obtained.enrolled.name, &goal.address, &goal.authority, &user) {
            return Err(misunderstood());
        }
        let home = goal.home().ok_or_else(misunderstood)?;
        done(self.ask(Command::ChangeServer { user, home }).await)?;
        let account = self.account(goal.address.clone()).await?;
        Ok(Response::Enrolled { account, recovery: None, again: true })
    }

    /// Nothing: the invitation was used already.
    pub(super) async fn register(
        &self,
        goal: &Goal,
        token: Zeroizing<[u8; enrol::TOKEN]>,
        password: Zeroizing<Vec<u8>>,
        present: Option<&Present>,
    ) -> Result<Option<Obtained>, ServiceError> {
        let begun = Registration::start(&password).map_err(failed)?;
        let ask = Ask::Register(Register { token: token.to_vec(), request: begun.request.clone() });
        let response = match self.ask_server(goal.server.clone(), &ask).await?.1 {
            Answer::Registering(registering) => registering.response,
            Answer::Refused(no) if no.why() == Why::Used => return Ok(None),
            answer => return Err(no(&answer, WRONG)),
        };
        let (address, authority) = (goal.address.clone(), goal.identity);
        let present = present.cloned();
        let made = self.laborious(move |_| {
            let account = Account { address: &address, authority: &authority };
            let (upload, export) = begun.finish(&password, &response, account)?;
            let (key, recovery, by_code) = match present {
                Some(Present { key, recovery }) => (key, None, recovery),
                None => {
                    let (key, recovery, by_code) = made_key()?;
                    (key, Some(recovery), by_code)
                }
            };
            let sealed = seal::seal(&key, export.as_slice(), Cost::PASSWORD, &random::bytes()?)?;
            Ok((upload, key, recovery, sealed, by_code))
        });
        let (upload, key, recovery, sealed, by_code) = made.await?;
        let ask = Ask::Enrol(Enrol {
            token: token.to_vec(),
            upload,
            user: key.id().as_bytes().to_vec(),
            sealed,
            recovery: by_code,
            consent: enrol::consent(&key, &goal.authority, &goal.address).to_vec(),
        });
        match self.ask_server(goal.server.clone(), &ask).await?.1 {
            Answer::Enrolled(enrolled) => Ok(Some(Obtained { key, enrolled, recovery })),
            Answer::Refused(no) if no.why() == Why::Used => Ok(None),
            answer => Err(no(&answer, WRONG)),
        }
    }

    /// The account, in one commit with the authority. What the server gave is looked at first.
    async fn settle(
        &self,
        goal: &Goal,
        obtained: &Obtained,
        password: Zeroizing<String>,
    ) -> Result<AccountView, ServiceError> {
        let Obtained { key, enrolled, .. } = obtained;
        let user = key.id();
        if !is_name_of(&enrolled.name, &goal.address, &goal.authority, &user) {
            return Err(misunderstood());
        }
        let home = goal.home().ok_or_else(misunderstood)?;
        let xid = format!("{}@{XID_DOMAIN}", user.xid());
        if let Reply::Account(view) = self.ask(Command::ShowAccount(xid)).await? {
            if !view.login.ends_with(&format!("@{XID_DOMAIN}")) {
                return Err(refused(format!("this laptop has that user already, as {}", view.login)));
            }
            // The same user: the account here is what has been given the name.
            let (key, name, address) = (key.clone(), enrolled.name.clone(), goal.address.clone());
            let named = self.laborious(move |_| {
                let (local, domain) = address.split_once('@').unwrap_or((&address, ""));
                Accounts::named(&key, (local, domain), name, &password)
            });
            let account = Box::new(named.await?);
            done(self.ask(Command::NameAccount { account, home }).await)?;
            return self.account(goal.address.clone()).await;
        }
        let (key, name) = (key.clone(), enrolled.name.clone());
        let recovery = enrolled.recovery.clone();
        let (local, domain) = goal.name_and_domain();
        let (local, domain) = (local.to_owned(), domain.to_owned());
        let account: NewAccount = self
            .laborious(move |accounts| accounts.enrolled(&key, (&local, &domain), name, recovery, &password))
            .await?;
        let add = Command::AddEnrolled { account: Box::new(account), home };
        if let Err(error) = done(self.ask(add).await) {
            self.laborious(move |accounts| accounts.forget(user)).await?;
            return Err(error);
        }
        self.account(goal.address.clone()).await
    }

    pub(super) async fn ask_server(
        &self,
        server: Server,
        ask: &Ask,
    ) -> Result<(NodeId, Answer), ServiceError> {
        let mut tries = 0;
        loop {
            let (server, ask) = (server.clone(), ask.to_bytes());
            match self.ask(Command::AskServer { server, ask }).await? {
                Reply::ServerSaid { node, answer } => {
                    let answer = Answer::from_bytes(&answer).ok_or_else(misunderstood)?;
                    tries += 1;
                    if tries == TRIES || !matches!(&answer, Answer::Refused(no) if no.why() == Why::Busy) {
                        return Ok((NodeId::from_bytes(node), answer));
                    }
                    tokio::time::sleep(MOMENT).await;
                }
                reply => return Err(unexpected(reply)),
            }
        }
    }

    pub(super) async fn node_id(&self) -> Result<NodeId, ServiceError> {
        match self.ask(Command::Status).await? {
            Reply::Status(status) => NodeId::from_hex(&status.node).ok_or(ServiceError::Confused),
            reply => Err(unexpected(reply)),
        }
    }
}

fn already(address: &str) -> ServiceError {
    refused(format!(
        "this laptop is enrolled as {address} already: log in with your chat program, `crosstalk account show {address}` says how"
    ))
}

/// Whether a certificate gives the address that was asked for to this key, by the authority that was meant. Neither clock
/// can be asked yet: the laptop's may be wrong, and the server is about to be believed.
pub(super) fn is_name_of(name: &[u8], address: &str, authority: &AuthorityId, user: &UserId) -> bool {
    let revocations = RevocationSet::default();
    let time = TrustedTime { millis: 0, credible: false, latest: u64::MAX };
    let context =
        Context { time, certificates: &NoCertificates, revocations: &revocations, enforce_end: false };
    let verified = Unverified::<NameCert>::parse(name).and_then(|cert| cert.verify(&context));
    verified.is_ok_and(|cert| cert.authority == *authority && cert.user == *user && cert.address == address)
}

fn place_of(text: &str) -> Result<Server, ServiceError> {
    let (node, place) = text.split_once('@').map_or((text, None), |(node, place)| (node, Some(place)));
    let node = NodeId::from_hex(node).ok_or_else(|| {
        refused(format!(
            "{text} does not say where a server is: write NODE-ID@/ip4/ADDRESS/tcp/PORT, as `crosstalk authority show` on \
             the server prints it"
        ))
    })?;
    Ok(Server::At(node, place.map(str::to_owned).into_iter().collect()))
}

const WRONG: &str = "the server does not know this name with this password: check both. After a few wrong ones each try \
                     has to wait; if the password is forgotten, ask for a new invitation";
const USED: &str = "this invitation was used already. If by you, type the password that you chose then; else somebody else \
                    has used it: tell whoever gave it to you, and ask for a new one";

/// What a refusal means, and what to do.
pub(super) fn no(answer: &Answer, wrong: &str) -> ServiceError {
    let Answer::Refused(no) = answer else { return misunderstood() };
    refused(match no.why() {
        Why::Policy
        | Why::Forgotten
        | Why::Full
        | Why::Revoked
        | Why::NoDirectory
        | Why::TooShort
        | Why::TooMany => {
            "the server refuses that: use the same version on both".to_owned()
        }
        Why::Elsewhere => "this server gives no names under that domain: check the address".to_owned(),
        Why::NoInvitation => {
            "the server does not know this invitation: it was withdrawn, or a newer one took its place. Ask for a new one"
                .to_owned()
        }
        Why::Ended => "this invitation has expired: ask for a new one".to_owned(),
        Why::Used => USED.to_owned(),
        Why::Password => wrong.to_owned(),
        Why::Busy => "too many laptops ask the server at once: try again in a moment".to_owned(),
        Why::Slowly => format!(
            "too many wrong passwords came from this laptop: try again in {} s",
            no.wait.div_ceil(1_000)
        ),
        Why::Work => "many others are trying passwords for this name just now: try again in a while".to_owned(),
        Why::Disabled => "the server has ended this account: ask whoever runs it".to_owned(),
        Why::Trouble => "the server cannot save anything now: try again later, and tell whoever runs it".to_owned(),
    })
}

pub(super) fn refused(text: String) -> ServiceError {
    Refused::NotEnrolled(text).into()
}

pub(super) fn failed(error: OpaqueError) -> ServiceError {
    refused(error.to_string())
}

pub(super) fn misunderstood() -> ServiceError {
    refused(
        "the server said something that this node does not understand: use the same version on both"
            .to_owned(),
    )
}
