//! The composition root: what a node is made of, in the order in which it is made, and stopped in reverse.
//!
//! Settings, store, keys, core; then the faces: chat programs, other nodes, the command line; then the loop until a
//! signal. A command line without a running node makes the same without the faces ([`Offline`]).

mod bypass;
mod irc;
mod neighbourhood;
mod ports;
mod signals;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crosstalk_overlay::core::{KnownAuthority, Provenance};
use crosstalk_overlay::dht;
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::keys::NodeKey;
use crosstalk_overlay::swarm::{self, DhtConfig, DhtMode, ReachConfig};
use crosstalk_storage::{Contents, Opened, Options, Store, Tree, tree};
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::accounts::key_dir::KeyDir;
use crate::accounts::{Accounts, OwnDomain, names, random};
use crate::admin::service::{ASKS, Service};
use crate::admin::{self, Request, Response, registration, renewal};
use crate::authority::{Authority, News};
use crate::backup::{self, Backups};
use crate::bypass::Bypass;
use crate::c2s;
use crate::cli::failure::{DomainError, Failure};
use crate::cli::output;
use crate::config::Config;
use crate::core::settings::{DeviceKeys, DirectoryMode, RelayMode, Settings, TableMode};
use crate::core::{Core, Input, Setup, table};
use crate::event_loop::clock::Clock;
use crate::event_loop::{EventLoop, Surroundings};
use crate::greeting;
use crate::link;
use crate::metrics;
use crate::store_thread::StoreThread;
use crate::upstream::Component;
use signals::Signals;

/// Where the store lies in the data directory.
pub const STORE: &str = "store";
/// Inputs of chat programs that wait for the core.
const INPUTS: usize = 256;
/// Threads for slow work beside the loop and the store.
const WORKERS: usize = 4;

/// Where a node is and how it is set.
#[derive(Clone, Debug)]
pub struct Place {
    /// Data directory.
    pub data: PathBuf,
    /// Settings.
    pub config: Config,
}

/// Runs a node until a signal ends it.
///
/// # Errors
/// When something it needs is missing or wrong; each says what to do.
pub fn node(place: Place) -> Result<(), Failure> {
    let ground = Ground::prepare(&place)?;
    runtime()?.block_on(serve(place, ground))
}

async fn serve(place: Place, ground: Ground) -> Result<(), Failure> {
    let mut signals = Signals::install()?;
    let clock = Clock::start();
    let (asking, asks) = mpsc::channel(ASKS);
    let accounts = Arc::new(Accounts::new(ground.keys.clone(), ground.own));
    let service = Service::new(asking, Arc::clone(&accounts)).with_web(place.config.domains.ca_file.clone());
    let (backups, copies) = Backups::new(place.data.clone());
    let service = service.with_backups(backups);
    // Before the swarm: it has to see whether the port of multicast DNS was free.
    let opened = neighbourhood::open(&place.config, &ground.node, clock)?;
    let memory = table::read(&ground.contents, swarm::peer_id)?;
    let (to_core, from_clients) = mpsc::channel(INPUTS);
    let own = accounts.own();
    let (authority, news) = authority(&place, &ground.keys, &ground.node, own, Some(to_core.clone()))?;
    let service = service.with_authority(authority.clone());
    let mut setup =
        setup(&place.config, ground.node.clone(), ground.contents, ground.users, own, &authority)?;
    neighbourhood::tell(&mut setup.settings, &place.config, opened.as_ref());
    let core = Core::new(setup, clock.now())?;

    // The faces: the command line, which takes a node without it for none, chat programs, other nodes, neighbours without a node.
    let socket = admin::server::open(&place.data)?;
    let directory = directory(&ground.node);
    let (wishes, wished) = mpsc::channel(registration::QUEUE);
    let (plain_logins, logged_in) = mpsc::channel(renewal::QUEUE);
    let door = door(&place, &accounts, wishes, plain_logins)?;
    let tls = Arc::clone(&door.tls);
    let door = c2s::open(door, directory.clone(), to_core.clone()).await?;
    let irc = irc::open(&place.config, &door).await?;
    ports::check_overlay(&place.config)?;
    let network =
        swarm::start(network(&place.config, &ground.node, memory.values, authority.domain().is_some())?)?;
    bootstrap(&network.0, &place.config, memory.addresses);
    let link = opened.map(|opened| opened.connect(to_core, tls, neighbourhood::hints(&network.0)));
    let service = service.with_link(link.as_ref().map(link::Handle::view)).with_network(network.0.views());
    let bypass = bypass::open(&place.config, &place.data).await?;
    let service = service.with_bypass(bypass.as_ref().map(Bypass::view));
    let store = StoreThread::start(ground.store).map_err(Failure::system("start a thread"))?;
    let sources =
        metrics::Sources { service: service.clone(), authority: authority.clone(), flushes: store.flushes() };
    let mut figures = Vec::new();
    for address in ports::metrics(&place.config)? {
        let port = metrics::open(address).await.map_err(Failure::system("open the port for figures"))?;
        figures.push(tokio::spawn(metrics::serve(port, sources.clone())));
    }
    let servants = [
        tokio::spawn(registration::serve(wished, service.clone())),
        tokio::spawn(renewal::serve(logged_in, service.clone())),
        tokio::spawn(admin::password::serve(service.clone())),
        tokio::spawn(admin::server::serve(socket, service.clone())),
        tokio::spawn(admin::news::hear(news, service.clone())),
    ];
    let mut event_loop = EventLoop::new(
        core,
        clock,
        Surroundings {
            clients: door.clients.clone(),
            directory,
            from_clients,
            swarm: Some(network),
            link,
            asks,
            authority,
            store,
            copies,
            keys: ground.keys,
            notice: |text| tracing::warn!("{text}"),
        },
    );
    let life = async {
        tokio::select! {
            said = greeting::say(&service, &place.config, &place.data, &door) => said?,
            () = signals.wait() => return Ok(()),
        }
        signals.wait().await;
        Ok::<(), Failure>(())
    };
    let ended = event_loop.run_until(life).await;

    tracing::info!("stopping");
    servants.iter().chain(&figures).for_each(tokio::task::JoinHandle::abort);
    let _ = std::fs::remove_file(place.data.join(admin::SOCKET));
    drop((door, irc, bypass));
    event_loop.finish().await?;
    ended?
}

/// What every way to work on a node stands on: the locked store, the keys, the domain.
struct Ground {
    store: Store,
    contents: Contents,
    keys: KeyDir,
    node: NodeKey,
    users: BTreeMap<UserId, DeviceKeys>,
    own: Option<OwnDomain>,
}

impl Ground {
    fn prepare(place: &Place) -> Result<Self, Failure> {
        make_data_dir(&place.data)?;
        let options = Options { journal_limit: place.config.store.journal_limit, ..Options::default() };
        // First of all, because it locks the directory.
        let (store, contents, opened) = Store::open(&place.data.join(STORE), options)?;
        report(&opened);
        if contents.get(Tree::Meta, backup::RESTORING).is_some() {
            return Err(Failure::HalfRestored(place.data.clone()));
        }
        let keys = KeyDir::open(&place.data)?;
        let (node, made) = keys.node_key()?;
        if made && !contents.is_empty() {
            tracing::warn!("the node key was missing and has been made anew: other nodes see a new node");
        }
        let users = keys.users()?;
        for user in users.keys().filter(|user| contents.get(Tree::Account, user.as_bytes()).is_none()) {
            tracing::warn!("keys/{}.keys belongs to no account; if you miss none, remove it", user.xid());
        }
        let own = match own_domain(place.config.domain.as_deref(), &contents)? {
            Some(name) => Some(OwnDomain { name, key: keys.authority_key()? }),
            None => None,
        };
        Ok(Self { store, contents, keys, node, users, own })
    }
}

fn make_data_dir(path: &Path) -> Result<(), Failure> {
    // Nothing that this process makes is for others to read.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| Failure::Data { path: path.to_path_buf(), source })
}

fn report(opened: &Opened) {
    match opened {
        Opened::Fresh | Opened::Clean => tracing::debug!("store: {opened}"),
        Opened::Replayed { .. } => tracing::info!("the node was not stopped in order: {opened}"),
        Opened::Rebuilt(rebuilt) => output::complain(rebuilt.to_string()),
    }
}

/// The domain that the node gives names under: that of its accounts, or for a node without accounts the one in the
/// settings. Once accounts have it, it need not be said again.
fn own_domain(wanted: Option<&str>, contents: &Contents) -> Result<Option<String>, DomainError> {
    let accounts = contents
        .tree(Tree::Account)
        .filter_map(|(_, value)| crosstalk_storage::decode::<tree::account::Account>(value).ok())
        .filter(|account| !is_enrolled(account, contents));
    let plain = crosstalk_overlay::id::XID_DOMAIN;
    let (mut plain_names, mut domain) = (Vec::new(), None);
    for account in accounts {
        if account.domain == plain {
            plain_names.push(account.name);
        } else {
            domain = Some(account.domain);
        }
    }
    match (wanted, domain) {
        (Some(wanted), Some(is)) if wanted != is => {
            Err(DomainError::Changed { is, wanted: wanted.to_owned() })
        }
        (_, Some(is)) => Ok(Some(is)),
        (Some(wanted), None) if !plain_names.is_empty() => {
            plain_names.truncate(5);
            Err(DomainError::HasPlainAccounts { accounts: plain_names.join(", "), wanted: wanted.to_owned() })
        }
        (wanted, None) => Ok(wanted.map(str::to_owned)),
    }
}

/// Whether an account has its name from another node's authority.
fn is_enrolled(account: &tree::account::Account, contents: &Contents) -> bool {
    let known = contents.get(Tree::Authority, account.domain.as_bytes());
    let known = known.and_then(|value| crosstalk_storage::decode::<KnownAuthority>(value).ok());
    known.is_some_and(|known| known.how() == Provenance::Enrolled)
}

fn setup(
    config: &Config,
    node: NodeKey,
    contents: Contents,
    keys: BTreeMap<UserId, DeviceKeys>,
    own: Option<&OwnDomain>,
    authority: &Authority,
) -> Result<Setup, Failure> {
    let mail = config.overlay.mail_bytes * if authority.domain().is_some() { SERVER_MAIL } else { 1 };
    let settings = Settings {
        serves: authority.domain().map(|(domain, key)| (domain.to_owned(), key)),
        rotations: authority.rotations().to_vec(),
        revoked: authority.revocations().to_vec(),
        introductions: authority.introductions().to_vec(),
        domain: own.map(|own| (own.name.clone(), own.key.id())),
        resume_timeout: u64::from(config.xmpp.resume_seconds) * 1_000,
        visible: config.link.visible,
        mail_bytes: usize::try_from(mail).unwrap_or(usize::MAX),
        repair: u64::from(config.overlay.repair_seconds) * 1_000,
        mailboxes: config.mailboxes()?,
        max_peers: config.overlay.max_peers,
        publish: config.overlay.publish && config.overlay.table != TableMode::Off,
        ..Settings::default()
    };
    let seed = random::bytes()
        .map_err(crate::accounts::AccountError::from)
        .map_err(admin::service::ServiceError::from)?;
    Ok(Setup { node, seed, settings, contents, keys, built: built() })
}

/// The server of a domain is a mailbox of all its users, so it holds so many times what another node would.
const SERVER_MAIL: u64 = 8;

/// Build date, Unix milliseconds; see `build.rs`.
pub fn built() -> u64 {
    env!("CROSSTALK_BUILT").parse::<u64>().unwrap_or_default().saturating_mul(1_000)
}

/// The server of a domain, if this node is one.
fn authority(
    place: &Place,
    keys: &KeyDir,
    node: &NodeKey,
    own: Option<&OwnDomain>,
    to_core: Option<mpsc::Sender<Input>>,
) -> Result<(Authority, mpsc::Receiver<News>), Failure> {
    let home = place.config.database(&place.data)?;
    let component = match to_core {
        Some(_) => component(place)?,
        None => None,
    };
    let directory = place.config.authority.directory == DirectoryMode::Members;
    let (authority, news) = Authority::open(home, keys.clone(), node.id(), to_core, component, directory)?;
    match (own, authority.domain()) {
        (Some(_), Some((serves, _))) => Err(DomainError::Serves { serves: serves.to_owned() }.into()),
        _ => Ok((authority, news)),
    }
}

/// The way to the rest of XMPP, if the settings name one.
fn component(place: &Place) -> Result<Option<Component>, Failure> {
    let settings = &place.config.authority;
    if settings.component.is_empty() {
        return Ok(None);
    }
    let path = place.data.join(&settings.component_secret);
    let secret = crate::upstream::read_secret(&path).map_err(Failure::Component)?;
    Ok(Some(Component { address: settings.component.clone(), secret }))
}

/// The salts shown for accounts that do not exist stay the same as long as the node key does.
fn directory(node: &NodeKey) -> c2s::Directory {
    let mut hash = Sha256::new();
    hash.update(b"crosstalk/1/decoy\0");
    hash.update(node.seed().as_slice());
    c2s::Directory::new(hash.finalize().into())
}

/// The front door. What chat programs type before login is `NAME@id.internal`, or `NAME@DOMAIN` on a node with one.
fn door(
    place: &Place,
    accounts: &Accounts,
    wishes: mpsc::Sender<c2s::RegisterRequest>,
    plain_logins: mpsc::Sender<c2s::PlainLogin>,
) -> Result<c2s::Settings, Failure> {
    let xmpp = &place.config.xmpp;
    let domains = vec![accounts.domain().to_owned()];
    Ok(c2s::Settings {
        listen: ports::usable(&xmpp.listen, "`listen` in [xmpp]")?,
        direct_tls: ports::usable(&xmpp.direct_tls, "`direct_tls` in [xmpp]")?,
        tls: c2s::tls::load_or_create(&place.data, &domains)?,
        domains,
        register: xmpp.registration.then_some(wishes),
        plain_logins: Some(plain_logins),
        features: crate::features::stream_features,
        limits: c2s::Limits {
            connections: xmpp.max_clients,
            bytes_per_second: xmpp.rate_bytes,
            ..c2s::Limits::default()
        },
    })
}

/// The values that a node of a laptop holds for others at most, in each of the two tables, and their bytes.
const HELD: (usize, usize) = (1_024, 4 << 20);

fn network(
    config: &Config,
    node: &NodeKey,
    restored: Vec<(dht::Table, dht::Key, Vec<u8>, u64)>,
    serves: bool,
) -> Result<swarm::Config, Failure> {
    let overlay = &config.overlay;
    let mode = match overlay.table {
        TableMode::Off => None,
        TableMode::Auto => Some(DhtMode::Auto),
        TableMode::Client => Some(DhtMode::Client),
        TableMode::Server => Some(DhtMode::Server),
    };
    let networks = config.networks()?;
    let store = dht::StoreLimits { values: HELD.0, bytes: HELD.1, ..dht::StoreLimits::default() };
    let relay = match overlay.relay {
        RelayMode::Auto => swarm::RelayMode::Auto,
        RelayMode::On => swarm::RelayMode::On,
        RelayMode::Off => swarm::RelayMode::Off,
    };
    let reach =
        ReachConfig { relay, relays: overlay.relays.clone(), upnp: overlay.upnp, ..ReachConfig::default() };
    // By whom the settings name, and by the server of a domain, laptops come to each other: those are always awake.
    let named = overlay.bootstrap.len() + overlay.relays.len() > 0;
    let asleep = overlay.table == TableMode::Auto && !named && !serves;
    let dht =
        mode.map(|mode| DhtConfig { mode, networks, store, restored, reach, asleep, ..DhtConfig::default() });
    Ok(swarm::Config {
        node_seed: node.seed(),
        listen: overlay.listen.iter().map(|ip| SocketAddr::new(*ip, overlay.port)).collect(),
        quic: overlay.quic,
        mdns: overlay.mdns,
        max_connections: u32::try_from(overlay.max_peers).unwrap_or(u32::MAX),
        dht,
    })
}

/// Says where other nodes may be: as the settings have it, and where they were before.
fn bootstrap(swarm: &swarm::Handle, config: &Config, remembered: Vec<String>) {
    if config.overlay.table == TableMode::Off {
        return;
    }
    let addresses: Vec<String> = config.overlay.bootstrap.iter().cloned().chain(remembered).collect();
    if let Err(error) = swarm.try_send(swarm::Command::Bootstrap { addresses }) {
        tracing::warn!(%error, "the hash table is not told where to begin");
    }
}

fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(WORKERS)
        .build()
        .map_err(Failure::system("start the runtime"))
}

/// A node without its faces: for a command line when no node runs. It holds the store until it is dropped.
pub struct Offline {
    runtime: Runtime,
    event_loop: Option<EventLoop>,
    service: Service,
}

impl Offline {
    /// Opens the store of the node in `place`.
    ///
    /// # Errors
    /// When there is none to be had; each says what to do.
    pub fn open(place: Place) -> Result<Self, Failure> {
        let ground = Ground::prepare(&place)?;
        let ca_file = place.config.domains.ca_file.clone();
        let runtime = runtime()?;
        let _inside = runtime.enter();
        let clock = Clock::start();
        let (_, from_clients) = mpsc::channel(1);
        let (asking, asks) = mpsc::channel(ASKS);
        let (backups, copies) = Backups::new(place.data.clone());
        let accounts = Arc::new(Accounts::new(ground.keys.clone(), ground.own));
        let own = accounts.own();
        let (authority, _) = authority(&place, &ground.keys, &ground.node, own, None)?;
        let setup =
            setup(&place.config, ground.node.clone(), ground.contents, ground.users, own, &authority)?;
        let event_loop = EventLoop::new(
            Core::new(setup, clock.now())?,
            clock,
            Surroundings {
                clients: c2s::Clients::default(),
                directory: directory(&ground.node),
                from_clients,
                swarm: None,
                link: None,
                asks,
                authority: authority.clone(),
                store: StoreThread::start(ground.store).map_err(Failure::system("start a thread"))?,
                copies,
                keys: ground.keys,
                notice: |text| tracing::debug!("{text}"),
            },
        );
        drop(_inside);
        Ok(Self {
            runtime,
            event_loop: Some(event_loop),
            service: Service::new(asking, accounts)
                .with_authority(authority)
                .with_web(ca_file)
                .with_backups(backups),
        })
    }

    /// Carries out a request; a change is durable when this returns.
    ///
    /// # Errors
    /// When the store's thread has failed.
    pub fn ask(&mut self, request: Request) -> Result<Response, Failure> {
        match &mut self.event_loop {
            Some(event_loop) => {
                Ok(self.runtime.block_on(event_loop.run_until(self.service.execute(request)))?)
            }
            None => Err(admin::service::ServiceError::Stopping.into()),
        }
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        if let Some(event_loop) = self.event_loop.take()
            && let Err(error) = self.runtime.block_on(event_loop.finish())
        {
            tracing::error!("{error}");
        }
    }
}

/// The account name for the person who starts the node.
pub(crate) fn person() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok();
    names::name_of_person(user.as_deref())
}
