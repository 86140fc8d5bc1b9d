//! Settings: what `crosstalk.toml` may say, where it is looked for, and what is wrong with it.
//!
//! Every setting has a default, so that no file is needed. [`settings`] holds the table; the example file of
//! `crosstalk config example` is made from it.

pub mod settings;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crosstalk_overlay::id::NodeId;
use crosstalk_overlay::record::MAX_DECLARED;
use crosstalk_overlay::swarm::Networks;
use toml::de::{DeTable, DeValue};

use crate::authority::database::{Home, PostgresSettings, SettingsError};
use crate::bypass::accounts::{self, Accounts};
use crate::bypass::base::Protocol;
use crate::bypass::destinations::{self, Destinations, Listed};
use crate::bypass::socks::{Host, Target};

pub use settings::Config;
use settings::Irc;

/// Name of the settings file in the data directory.
pub const FILE_NAME: &str = "crosstalk.toml";

/// Largest settings file that is read, bytes.
const MAX_FILE: u64 = 256 * 1024;

/// Domains that mean something else and cannot be a node's own.
const RESERVED: [&str; 3] = [crosstalk_overlay::id::XID_DOMAIN, "link.internal", "localhost"];

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(
        "cannot read the settings in {file}: {source}. Check the path given with --config and its permissions"
    )]
    Read {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a settings file.
    #[error("{file}: larger than 256 KiB, so not a settings file of CrossTalk", file = .0.display())]
    TooLarge(PathBuf),
    /// A line is wrong.
    #[error("{file}:{line}: {what}", file = file.display())]
    Line {
        /// Which file.
        file: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// A value has the right type but cannot be used.
    #[error("setting `{key}`: {what}")]
    Value {
        /// Which setting, with its section.
        key: &'static str,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// The database of a domain's server.
    #[error(transparent)]
    Database(#[from] SettingsError),
    /// No directory to put data in.
    #[error("no home directory: name a directory for the node's data with --data DIR")]
    NoHome,
}

impl Config {
    /// Reads the settings: `file` if one is named (it must exist), else `crosstalk.toml` of the data directory.
    ///
    /// # Errors
    /// When the file cannot be read or says something that cannot be used.
    pub fn load(file: Option<&Path>, data: &Path) -> Result<Config, ConfigError> {
        let named = file.is_some();
        let path = file.map_or_else(|| data.join(FILE_NAME), Path::to_path_buf);
        match std::fs::metadata(&path) {
            Ok(meta) if meta.len() > MAX_FILE => return Err(ConfigError::TooLarge(path)),
            Err(source) if !named && source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Config::default());
            }
            Ok(_) | Err(_) => {}
        }
        let text = std::fs::read_to_string(&path)
            .map_err(|source| ConfigError::Read { file: path.clone(), source })?;
        Config::parse(&text, &path)
    }

    /// Reads settings from text; `file` is for messages.
    ///
    /// # Errors
    /// When a line is wrong or a value cannot be used.
    pub fn parse(text: &str, file: &Path) -> Result<Config, ConfigError> {
        let at = |span: Option<std::ops::Range<usize>>, what: String| ConfigError::Line {
            file: file.to_path_buf(),
            line: line_of(text, span.map_or(0, |span| span.start)),
            what,
        };
        let table = DeTable::parse(text).map_err(|error| at(error.span(), error.message().to_owned()))?;
        if let Some((span, what)) = unknown_key(table.get_ref()) {
            return Err(at(Some(span), what));
        }
        let config: Config =
            toml::from_str(text).map_err(|error| at(error.span(), error.message().to_owned()))?;
        config.check()?;
        Ok(config)
    }

    /// Checks what the types alone do not.
    ///
    /// # Errors
    /// Names the first setting that cannot be used.
    pub fn check(&self) -> Result<(), ConfigError> {
        if let Some(domain) = &self.domain {
            check_domain(domain)?;
        }
        within("xmpp.max_clients", self.xmpp.max_clients, settings::MAX_CLIENTS)?;
        within("xmpp.rate_bytes", self.xmpp.rate_bytes, settings::RATE_BYTES)?;
        within("xmpp.resume_seconds", self.xmpp.resume_seconds, settings::RESUME_SECONDS)?;
        within("overlay.max_peers", self.overlay.max_peers, settings::MAX_PEERS)?;
        within("overlay.mail_bytes", self.overlay.mail_bytes, settings::MAIL_BYTES)?;
        within("overlay.repair_seconds", self.overlay.repair_seconds, settings::REPAIR_SECONDS)?;
        within("link.port", self.link.port, settings::LINK_PORT)?;
        within("link.machine", self.link.machine.len(), (0, settings::MACHINE))?;
        within("store.journal_limit", self.store.journal_limit, settings::JOURNAL_LIMIT)?;
        if self.xmpp.listen.len() + self.xmpp.direct_tls.len() > 16 {
            return Err(value("xmpp.listen", "at most 16 addresses, direct_tls counted with them".into()));
        }
        if self.overlay.listen.len() > 16 {
            return Err(value("overlay.listen", "at most 16 addresses".into()));
        }
        if let Some(address) = self.overlay.bootstrap.iter().find(|address| !is_multiaddress(address)) {
            let what = format!("{address} is no address of a node: write /ip4/ADDRESS/tcp/PORT");
            return Err(value("overlay.bootstrap", what));
        }
        if self.overlay.relays.len() > 8 {
            return Err(value("overlay.relays", "at most 8 relays".into()));
        }
        if let Some(address) = self.overlay.relays.iter().find(|address| !is_relay(address)) {
            let what = format!("{address} is no address of a relay: write /ip4/ADDRESS/tcp/PORT/p2p/PEER-ID");
            return Err(value("overlay.relays", what));
        }
        if !self.authority.component.is_empty() && !is_host_and_port(&self.authority.component) {
            let what =
                format!("{} is no address: write HOST:PORT, as 127.0.0.1:5347", self.authority.component);
            return Err(value("authority.component", what));
        }
        self.networks()?;
        self.mailboxes()?;
        within("bypass.max_connections", self.bypass.max_connections, settings::BYPASS_CONNECTIONS)?;
        self.bypass_destinations()?;
        self.check_irc()?;
        self.bypass_accounts()?;
        self.database(Path::new(""))?;
        let metrics = &self.metrics.listen;
        if metrics.len() > 4 || metrics.iter().any(|address| !address.ip().is_loopback()) {
            let what =
                "figures are for this machine only: write at most 4 addresses as 127.0.0.1:9522".to_owned();
            return Err(value("metrics.listen", what));
        }
        self.log.check()
    }

    /// Passwords of IRC cross a network only inside TLS, which its clients do not begin later.
    fn check_irc(&self) -> Result<(), ConfigError> {
        let Irc { listen, tls } = &self.irc;
        if listen.len() > 4 || tls.len() > 4 {
            return Err(value("irc.listen", "at most 4 addresses, and 4 of `tls`".into()));
        }
        match listen.iter().find(|address| !address.ip().to_canonical().is_loopback()) {
            Some(address) => {
                let what =
                    format!("{address} is for other machines, too, and those need TLS: write it into `tls`");
                Err(value("irc.listen", what))
            }
            None => Ok(()),
        }
    }

    /// Where the database of a domain's server is, for a node with this data directory.
    ///
    /// # Errors
    /// When the settings name one that cannot be used.
    pub fn database(&self, data: &Path) -> Result<Home, ConfigError> {
        let authority = &self.authority;
        if authority.database.is_empty() {
            return Ok(Home::Own(data.to_path_buf()));
        }
        let (password, ca) = (authority.database_password.as_deref(), authority.database_ca.as_deref());
        Ok(Home::Postgres(Box::new(PostgresSettings::new(&authority.database, password, ca)?)))
    }

    /// Which networks' addresses count as the Internet's.
    ///
    /// # Errors
    /// Names the first that is none.
    pub fn networks(&self) -> Result<Networks, ConfigError> {
        let read = |text: &String| {
            let (address, prefix) = text.split_once('/')?;
            let (address, prefix) = (address.parse::<IpAddr>().ok()?, prefix.parse::<u8>().ok()?);
            (prefix <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, prefix))
        };
        let one = |text: &String| {
            let what = || format!("{text} is no network: write ADDRESS/LENGTH, as 10.0.0.0/8");
            read(text).ok_or_else(|| value("overlay.public_networks", what()))
        };
        let public = self.overlay.public_networks.iter().map(one).collect::<Result<_, _>>()?;
        Ok(Networks { public, private: Vec::new() })
    }

    /// The nodes where mail for people of this one waits, each with its addresses as far as they are named.
    ///
    /// # Errors
    /// Names the first that is none, or says that they are too many.
    pub fn mailboxes(&self) -> Result<Vec<(NodeId, Vec<String>)>, ConfigError> {
        let all = &self.overlay.mailboxes;
        if all.len() > MAX_DECLARED {
            return Err(value("overlay.mailboxes", format!("at most {MAX_DECLARED} nodes")));
        }
        let read = |text: &String| {
            let (node, address) =
                text.split_once('@').map_or((&text[..], None), |(node, at)| (node, Some(at)));
            let fits = address.is_none_or(is_multiaddress);
            let addresses = address.map(str::to_owned).into_iter().collect();
            NodeId::from_hex(node).filter(|_| fits).map(|node| (node, addresses))
        };
        let what =
            |text: &String| format!("{text} is no node: write NODE-ID or NODE-ID@/ip4/ADDRESS/tcp/PORT");
        all.iter().map(|text| read(text).ok_or_else(|| value("overlay.mailboxes", what(text)))).collect()
    }

    /// Where the bypass gateway may connect chat programs.
    ///
    /// # Errors
    /// Names the first entry that is none, or says why the gateway cannot run so.
    pub fn bypass_destinations(&self) -> Result<Destinations, ConfigError> {
        let bypass = &self.bypass;
        let wrong = |text: &String| {
            let what = format!(
                "{text} is no destination: write NETWORK://HOST:PORT, as xmpp://jabber.example:5222 or any://192.0.2.1:5222"
            );
            value("bypass.allow", what)
        };
        if bypass.listen.len() > 4 {
            return Err(value("bypass.listen", "at most 4 addresses".into()));
        }
        if bypass.allow.len() > destinations::MOST {
            return Err(value("bypass.allow", format!("at most {} destinations", destinations::MOST)));
        }
        let read = |text: &String| Listed::read(text).ok_or_else(|| wrong(text));
        let listed = bypass.allow.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if listed.is_empty() && !bypass.listen.is_empty() {
            let what =
                "nobody would be connected anywhere: write down the servers that chat programs may reach";
            return Err(value("bypass.allow", what.into()));
        }
        let own = |one: &&Listed| {
            let at = |address: &SocketAddr| {
                one.target
                    == Target { host: Host::Address(address.ip().to_canonical()), port: address.port() }
            };
            bypass.listen.iter().any(at)
        };
        if let Some(one) = listed.iter().find(own) {
            return Err(value("bypass.allow", format!("{} is this gateway itself", one.target)));
        }
        Ok(Destinations::new(listed, self.networks()?))
    }

    /// The accounts of which the bypass gateway ends TLS.
    ///
    /// # Errors
    /// Names the first that is none, or says why none of them could be used.
    pub fn bypass_accounts(&self) -> Result<Accounts, ConfigError> {
        let all = &self.bypass.accounts;
        if all.len() > accounts::MOST {
            return Err(value("bypass.accounts", format!("at most {} accounts", accounts::MOST)));
        }
        let what = |text: &String| {
            format!("{text} is no account of an XMPP server: write NAME@DOMAIN, as romeo@jabber.example")
        };
        let read = |text: &String| Accounts::read(text).ok_or_else(|| value("bypass.accounts", what(text)));
        let accounts = Accounts::new(all.iter().map(read).collect::<Result<Vec<_>, _>>()?);
        let reached =
            self.bypass_destinations()?.listed().iter().any(|one| one.protocol == Some(Protocol::Xmpp));
        if !accounts.is_empty() && !reached {
            let what = "none of them could be reached: write their servers into `allow` as xmpp://HOST:PORT";
            return Err(value("bypass.accounts", what.into()));
        }
        Ok(accounts)
    }

    /// Whether anybody but this machine can reach the XMPP ports.
    pub fn xmpp_is_open(&self) -> bool {
        let loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
        self.xmpp.listen.iter().chain(&self.xmpp.direct_tls).any(|address| !loopback(address.ip()))
    }
}

/// Looks like an address of a node; what it means, the swarm finds out.
fn is_multiaddress(text: &str) -> bool {
    let starts = ["/ip4/", "/ip6/", "/ip6zone/"].iter().any(|start| text.starts_with(start));
    starts && text.len() <= 256 && (text.contains("/tcp/") || text.contains("/udp/"))
}

/// The same for an address of a relay: the peer has to be named.
fn is_relay(text: &str) -> bool {
    is_multiaddress(text) && text.contains("/p2p/") && !text.contains("/p2p-circuit")
}

fn is_host_and_port(text: &str) -> bool {
    let parts = text.rsplit_once(':');
    text.len() <= 256
        && parts
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Where a node keeps its data unless told otherwise: `$XDG_DATA_HOME/crosstalk` or `~/.local/share/crosstalk`.
///
/// # Errors
/// When neither variable names an absolute directory.
pub fn default_data_dir() -> Result<PathBuf, ConfigError> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("crosstalk"))
        .ok_or(ConfigError::NoHome)
}

fn value(key: &'static str, what: String) -> ConfigError {
    ConfigError::Value { key, what }
}

fn within<N: PartialOrd + std::fmt::Display>(
    key: &'static str,
    number: N,
    (least, most): (N, N),
) -> Result<(), ConfigError> {
    if number < least || number > most {
        return Err(value(key, format!("{number} is outside {least} to {most}")));
    }
    Ok(())
}

/// Whether a domain can be a node's own.
///
/// # Errors
/// Says why not.
pub fn check_domain(domain: &str) -> Result<(), ConfigError> {
    let bad = |what: &str| Err(value("domain", format!("`{domain}` {what}")));
    match jid::DomainPart::new(domain) {
        Err(error) => bad(&format!("is no domain name ({error})")),
        Ok(part) if part.as_str() != domain => bad(&format!("must be written `{}`", part.as_str())),
        Ok(_) if is_reserved(domain) => bad("has a meaning of its own: choose a domain that is yours"),
        Ok(_) if domain.parse::<IpAddr>().is_ok() || domain.starts_with('[') => {
            bad("is an address, not a name")
        }
        Ok(_) => Ok(()),
    }
}

/// Whether it is one of [`RESERVED`], or below one.
fn is_reserved(domain: &str) -> bool {
    let below =
        |top: &str| domain.strip_suffix(top).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    RESERVED.into_iter().any(below)
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// The first key that is no setting: where it stands and what was probably meant.
fn unknown_key(table: &DeTable<'_>) -> Option<(std::ops::Range<usize>, String)> {
    let tops = || settings::TOP.iter().map(|setting| setting.name);
    let sections = || settings::SECTIONS.iter().map(|section| section.name);
    for (key, item) in table {
        let section = settings::SECTIONS.iter().find(|section| section.name == key.get_ref().as_ref());
        let (Some(section), DeValue::Table(inner)) = (section, item.get_ref()) else {
            if section.is_none() && !tops().any(|name| name == key.get_ref().as_ref()) {
                return Some((key.span(), complain(key.get_ref(), tops().chain(sections()), "")));
            }
            continue;
        };
        let names = || section.settings.iter().map(|setting| setting.name);
        for (key, _) in inner {
            if !names().any(|name| name == key.get_ref().as_ref()) {
                return Some((key.span(), complain(key.get_ref(), names(), section.name)));
            }
        }
    }
    None
}

fn complain<'a>(key: &str, known: impl Iterator<Item = &'a str>, section: &str) -> String {
    let place = if section.is_empty() { String::new() } else { format!(" in [{section}]") };
    let shown: String = key.chars().take(64).collect();
    match known.min_by_key(|name| distance(&shown, name)) {
        Some(nearest) => format!(
            "there is no setting `{shown}`{place}; the nearest is `{nearest}`. `crosstalk config example` lists all"
        ),
        None => format!("there is no setting `{shown}`{place}"),
    }
}

/// Edit distance (insert, delete, replace) between two short words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("crosstalk.toml"))
    }

    fn complaint(text: &str) -> String {
        parse(text).expect_err("refused").to_string()
    }

    #[test]
    fn nothing_said_is_the_default() {
        assert_eq!(parse("").expect("empty"), Config::default());
    }

    #[test]
    fn the_example_says_what_the_defaults_are() {
        let example = settings::example();
        assert_eq!(parse(&example).expect("as printed"), Config::default());
        let live: String = example
            .lines()
            .map(|line| line.strip_prefix('#').unwrap_or(line).to_owned() + "\n")
            .filter(|line| {
                let named = ["domain", "data", "ca_file"];
                !line.starts_with(' ') && !named.iter().any(|name| line.starts_with(name))
            })
            .collect();
        assert_eq!(parse(&live).expect("all settings live"), Config::default());
    }

    #[test]
    fn the_example_file_is_the_one_that_the_code_makes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/crosstalk.example.toml");
        let stored = std::fs::read_to_string(path).expect("example file");
        assert!(
            stored == settings::example(),
            "make it anew: crosstalk config example > node/crosstalk.example.toml"
        );
    }

    #[test]
    fn an_unknown_key_names_line_and_nearest_key() {
        let text = complaint("domain = \"office.example\"\n\n[xmpp]\nregistraton = true\n");
        assert!(text.starts_with("crosstalk.toml:4:"), "{text}");
        assert!(text.contains("`registraton` in [xmpp]") && text.contains("`registration`"), "{text}");
        let text = complaint("[xmmp]\nlisten = []\n");
        assert!(text.starts_with("crosstalk.toml:1:") && text.contains("`xmpp`"), "{text}");
    }

    #[test]
    fn a_wrong_type_or_value_names_its_place() {
        assert!(complaint("[overlay]\n\nport = \"x\"\n").starts_with("crosstalk.toml:3:"));
        assert!(complaint("[overlay]\nport = 70000").contains(":2:"));
        assert!(complaint("[xmpp]\nrate_bytes = 10").contains("xmpp.rate_bytes"));
        assert!(complaint("[link]\nport = 80").contains("link.port"));
        assert!(complaint("[link]\nmode = \"loud\"").contains("announce"));
        assert!(complaint("[xmpp\n").contains(":1:"));
        assert!(complaint("overlay = 3").contains(":1:"));
        assert!(complaint("[authority]\ncomponent = \"5347\"").contains("write HOST:PORT"));
        assert!(complaint("[authority]\ncomponent = \"localhost:0\"").contains("write HOST:PORT"));
        assert!(parse("[authority]\ncomponent = \"[::1]:5347\"").is_ok());
    }

    #[test]
    fn mailboxes_are_nodes_with_or_without_an_address() {
        let node = "7".repeat(64);
        let at = format!("{node}@/ip4/192.0.2.1/tcp/14774");
        let named = parse(&format!("[overlay]\nmailboxes = ['{node}', '{at}']\n")).expect("two nodes");
        let addresses: Vec<usize> =
            named.mailboxes().expect("read").iter().map(|(_, addresses)| addresses.len()).collect();
        assert_eq!(addresses, [0, 1]);
        for wrong in ["12", &at[1..], &format!("{node}@somewhere"), &node.to_uppercase().replace('7', "A")] {
            assert!(complaint(&format!("[overlay]\nmailboxes = ['{wrong}']\n")).contains("write NODE-ID"));
        }
        let five = vec![format!("'{node}'"); 5].join(", ");
        assert!(complaint(&format!("[overlay]\nmailboxes = [{five}]\n")).contains("at most 4"));
    }

    #[test]
    fn domains_that_are_not_names_are_refused() {
        for bad in ["", "Office.Example", "127.0.0.1", "[::1]", "a b", "link.internal.", "Link.Internal"] {
            assert!(parse(&format!("domain = {bad:?}")).is_err(), "{bad}");
        }
        for reserved in ["id.internal", "link.internal", "localhost", "school.link.internal"] {
            let error = parse(&format!("domain = {reserved:?}")).expect_err("reserved").to_string();
            assert!(error.contains("has a meaning of its own"), "{error}");
        }
        assert!(parse("domain = \"mylink.internal\"").is_ok());
        assert_eq!(
            parse("domain = \"office.example\"").expect("good").domain.as_deref(),
            Some("office.example")
        );
    }

    #[test]
    fn figures_and_databases_are_not_for_the_network() {
        assert!(parse("[metrics]\nlisten = ['127.0.0.1:9522', '[::1]:9522']").is_ok());
        assert!(complaint("[metrics]\nlisten = ['0.0.0.0:9522']").contains("for this machine only"));
        assert!(parse("[authority]\ndatabase = 'postgresql:///school?host=/run/postgresql'").is_ok());
        assert!(
            complaint("[authority]\ndatabase = 'postgresql://a:b@localhost/c'").contains("database_password")
        );
        assert!(complaint("[authority]\ndatabase = 'postgresql://a@192.0.2.1/c'").contains("database_ca"));
        assert!(complaint("[authority]\ndatabase = 'sled'").contains("postgresql://"));
    }

    #[test]
    fn the_bypass_gateway_is_never_an_open_proxy() {
        assert!(complaint("[bypass]\nlisten = ['127.0.0.1:1080']").contains("write down the servers"));
        let one = "[bypass]\nlisten = ['127.0.0.1:1080']\nallow = ['xmpp://jabber.example:5222']\n";
        assert!(parse(one).is_ok());
        for wrong in [
            "jabber.example:5222",
            "xmpp://jabber.example",
            "gopher://a:1",
            "any://*:5222",
            "any://10.0.0.0/8:1",
        ] {
            let text = complaint(&one.replace("xmpp://jabber.example:5222", wrong));
            assert!(text.contains(wrong) && text.contains("write NETWORK://HOST:PORT"), "{text}");
        }
        assert!(complaint(&one.replace("jabber.example:5222", "[::ffff:127.0.0.1]:1080")).contains("itself"));
        assert!(complaint(&format!("{one}max_connections = 0")).contains("bypass.max_connections"));
    }

    #[test]
    fn irc_leaves_this_machine_inside_tls_only() {
        assert!(parse("[irc]\nlisten = ['127.0.0.1:6667', '[::1]:6667']\ntls = ['0.0.0.0:6697']").is_ok());
        for other in ["0.0.0.0:6667", "192.0.2.1:6667", "[::]:6667"] {
            assert!(complaint(&format!("[irc]\nlisten = ['{other}']")).contains("write it into `tls`"));
        }
        let five = ["'127.0.0.1:0'"; 5].join(", ");
        assert!(complaint(&format!("[irc]\nlisten = [{five}]")).contains("at most 4"));
    }

    #[test]
    fn accounts_of_the_bypass_gateway_are_at_servers_that_it_reaches() {
        let with = |allow: &str, accounts: &str| {
            format!("[bypass]\nlisten = ['127.0.0.1:1080']\nallow = ['{allow}']\naccounts = [{accounts}]\n")
        };
        let one = parse(&with("xmpp://jabber.example:5222", "'Romeo@Jabber.Example'")).expect("good");
        let romeo = Accounts::new(["romeo@jabber.example".parse().expect("a JID")]);
        assert_eq!(one.bypass_accounts().expect("read"), romeo);
        for wrong in ["jabber.example", "romeo@jabber.example/home", "romeo@127.0.0.1"] {
            let text = complaint(&with("xmpp://jabber.example:5222", &format!("'{wrong}'")));
            assert!(text.contains(wrong) && text.contains("write NAME@DOMAIN"), "{text}");
        }
        for other in ["any", "irc"] {
            let text = complaint(&with(&format!("{other}://jabber.example:5222"), "'romeo@jabber.example'"));
            assert!(text.contains("bypass.accounts") && text.contains("xmpp://HOST:PORT"), "{text}");
        }
        let many = vec!["'romeo@jabber.example'"; 17].join(", ");
        assert!(complaint(&with("xmpp://jabber.example:5222", &many)).contains("at most 16 accounts"));
        let text = complaint("[bypass]\nacounts = []\n");
        assert!(text.contains("`acounts` in [bypass]") && text.contains("`accounts`"), "{text}");
    }

    #[test]
    fn only_loopback_counts_as_closed() {
        assert!(!Config::default().xmpp_is_open());
        assert!(parse("[xmpp]\nlisten = [\"0.0.0.0:5222\"]").expect("good").xmpp_is_open());
    }

    proptest! {
        #[test]
        fn any_text_is_settings_or_an_error(text in "\\PC*|([a-z_\\[\\]=\"0-9.:#\n ]{0,80})") {
            let _ = parse(&text);
        }

        #[test]
        fn broken_examples_never_panic(cut in 0usize..6000, byte in any::<u8>(), at in 0usize..6000) {
            let mut bytes: Vec<u8> = settings::example().replace("\n#", "\n").into_bytes();
            bytes.truncate(cut.max(1));
            let place = at % bytes.len();
            bytes[place] = byte;
            let _ = parse(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn distance_is_a_metric(a in "[a-d]{0,6}", b in "[a-d]{0,6}") {
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
        }
    }
}
