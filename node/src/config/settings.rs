//! The table of settings: name, type, default, and the text that explains it in the example file. *Pure.*

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use super::ConfigError;
use crate::core::settings::{DirectoryMode, LinkMode, RelayMode, TableMode};

/// Least and most of `xmpp.max_clients`.
pub const MAX_CLIENTS: (usize, usize) = (1, 100_000);
/// Least and most of `xmpp.rate_bytes`.
pub const RATE_BYTES: (u32, u32) = (1_000, 1_000_000_000);
/// Least and most of `xmpp.resume_seconds`.
pub const RESUME_SECONDS: (u32, u32) = (0, 86_400);
/// Least and most of `overlay.max_peers`.
pub const MAX_PEERS: (usize, usize) = (1, 1_024);
/// Least and most of `overlay.repair_seconds`.
pub const REPAIR_SECONDS: (u32, u32) = (10, 86_400);
/// Least and most of `overlay.mail_bytes`.
pub const MAIL_BYTES: (u64, u64) = (0, 1 << 30);
/// Least and most of `link.port`.
pub const LINK_PORT: (u16, u16) = (1_024, 65_000);
/// Most bytes of `link.machine`.
pub const MACHINE: usize = 63;
/// Least and most of `bypass.max_connections`.
pub const BYPASS_CONNECTIONS: (usize, usize) = (1, 4_096);
/// Least and most of `store.journal_limit`.
pub const JOURNAL_LIMIT: (u64, u64) = (64 * 1024, 1 << 30);

/// One setting, for the example file and for messages.
pub(super) struct Setting {
    /// Key.
    pub(super) name: &'static str,
    /// Lines of explanation.
    pub(super) doc: &'static [&'static str],
    /// The default, as it is written in TOML; for an optional setting an example.
    pub(super) text: &'static str,
}

/// A `[section]`.
pub(super) struct Section {
    /// Name.
    pub(super) name: &'static str,
    /// Lines of explanation.
    pub(super) doc: &'static [&'static str],
    /// What stands in it.
    pub(super) settings: &'static [Setting],
}

/// Makes the structs, their defaults and the table from one text, so that they cannot differ.
macro_rules! settings {
    (
        { $( $(#[doc = $tdoc:literal])* $top:ident: $tty:ty = $tdefault:expr, $ttext:literal; )* }
        $( $(#[doc = $sdoc:literal])* $section:ident $Type:ident
            { $( $(#[doc = $doc:literal])* $key:ident: $ty:ty = $default:expr, $text:literal; )* } )*
    ) => {
        /// All settings.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Config {
            $( $(#[doc = $tdoc])* pub $top: $tty, )*
            $( $(#[doc = $sdoc])* pub $section: $Type, )*
        }
        $(
            $(#[doc = $sdoc])*
            #[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
            #[serde(default, deny_unknown_fields)]
            pub struct $Type { $( $(#[doc = $doc])* pub $key: $ty, )* }

            impl Default for $Type {
                fn default() -> Self {
                    $Type { $( $key: $default, )* }
                }
            }
        )*
        /// Settings outside every section.
        pub(super) const TOP: &[Setting] =
            &[$( Setting { name: stringify!($top), doc: &[$($tdoc),*], text: $ttext }, )*];
        /// The sections.
        pub(super) const SECTIONS: &[Section] = &[$( Section {
            name: stringify!($section),
            doc: &[$($sdoc),*],
            settings: &[$( Setting { name: stringify!($key), doc: &[$($doc),*], text: $text }, )*],
        }, )*];
    };
}

settings! {
    {
        /// Directory of the node's data: keys, store, journal. Only read from a file named with --config.
        /// Default: $XDG_DATA_HOME/crosstalk or ~/.local/share/crosstalk. --data overrules it.
        data: Option<PathBuf> = None, "\"/var/lib/crosstalk\"";
        /// A domain that this node gives names under: its accounts are NAME@DOMAIN, certified by a key that it makes.
        /// Default: none, accounts are self-certified. It cannot be changed while there are accounts.
        domain: Option<String> = None, "\"office.example\"";
    }
    /// Chat programs that connect to this node.
    xmpp Xmpp {
        /// Addresses and ports for XMPP clients (STARTTLS offered). Logins without TLS are accepted on loopback only.
        /// Cost: any other address lets everybody on that network try passwords.
        listen: Vec<SocketAddr> = vec![SocketAddr::from(([127, 0, 0, 1], 5222)), SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 5222))],
            "[\"127.0.0.1:5222\", \"[::1]:5222\"]";
        /// Addresses and ports for XMPP clients that speak TLS from the first byte, usually port 5223.
        direct_tls: Vec<SocketAddr> = Vec::new(), "[]";
        /// Whether a chat program on this machine may make an account (XEP-0077).
        /// Cost: anybody who can run a program here can take a name.
        registration: bool = false, "false";
        /// Chat programs connected at the same time, 1 to 100000. Cost: about 16 KiB of memory each.
        max_clients: usize = 2_048, "2048";
        /// What one client may send in the long run, bytes per second; it is slowed down, not cut off.
        rate_bytes: u32 = 1_048_576, "1048576";
        /// How long a lost session can be resumed (XEP-0198), seconds, 0 to 86400.
        /// Cost: so long nobody is told that a client whose connection broke is gone.
        resume_seconds: u32 = 600, "600";
    }
    /// Other nodes.
    overlay Overlay {
        /// Port for other nodes, TCP and UDP (QUIC); the next one, UDP, is for asking silent neighbours whether they are there. 0 takes
        /// any free ones.
        port: u16 = 14_774, "14774";
        /// Addresses of this machine that other nodes may connect to; the default is all of IPv4 and IPv6.
        listen: Vec<IpAddr> = vec![IpAddr::from([0, 0, 0, 0]), IpAddr::from([0u16; 8])], "[\"0.0.0.0\", \"::\"]";
        /// Whether QUIC is offered and used beside TCP. Cost: about 1 MiB of memory.
        quic: bool = true, "true";
        /// Whether nodes on the same link are looked for and this one can be found (multicast DNS).
        /// Cost: a few packets a minute that everybody on the link receives and that tell this node's id.
        mdns: bool = true, "true";
        /// How this node takes part in the hash table, by which people beyond the link are found. "auto": as soon as anything speaks
        /// of a wider network (an address in `bootstrap`, a node beyond the link, a neighbour who is in it, a public address); others
        /// ask it as soon as it can be reached from outside. "server": always. "client": others never ask it. "off": it finds
        /// nobody there and is not found. Cost: on a link of its own next to nothing, but where it loses a third of all packets neighbours are
        /// shown as absent more often; on the Internet a client some 150 bytes a second,
        /// a server several times that.
        table: TableMode = TableMode::Off, "\"off\"";
        /// Where to begin: addresses of nodes that are mostly there, as /ip4/192.0.2.1/tcp/14774 or with /p2p/PEER-ID behind.
        /// Nodes that were met before, and those on the link, are tried as well.
        bootstrap: Vec<String> = Vec::new(), "[]";
        /// Networks whose addresses count as the Internet's, as "10.0.0.0/8": for a large private network with routers.
        public_networks: Vec<String> = Vec::new(), "[]";
        /// Whether this node carries conversations of two others that cannot reach each other directly. "auto": as soon as it can be
        /// reached from outside. "on", "off". It sees who talks to whom, when and how much, and not what.
        /// Cost: at most 64 conversations at a time, 16 MB each in two hours; usually the set-up of a direct one only.
        relay: RelayMode = RelayMode::Auto, "\"auto\"";
        /// Relays that are asked first when others cannot reach this node, as /ip4/192.0.2.1/tcp/14774/p2p/PEER-ID, at most 8. Others
        /// are found by themselves.
        relays: Vec<String> = Vec::new(), "[]";
        /// Whether the router is asked for a way in (UPnP) when others have found this node not reachable.
        /// Cost: one packet that everybody on the network with the router receives; who comes in reaches the port for other nodes.
        upnp: bool = true, "true";
        /// Whether people of this node can be found by others, and their contacts are told where they are.
        /// Cost: whoever knows somebody's address can see which devices there are; not where, and not whether now.
        publish: bool = true, "true";
        /// What this node holds for people who are away, of other nodes: bytes, 0 to 1073741824. 0: nothing. The server of a domain,
        /// where mail of all its users waits, holds eight times as much. Cost: so much disk and memory when it is full.
        mail_bytes: u64 = 8_388_608, "8388608";
        /// How often is looked whether enough nodes hold what waits for somebody, as others have gone: seconds, 10 to 86400.
        /// Cost: a question to the hash table for each mailbox that something waits in.
        repair_seconds: u32 = 3_600, "3600";
        /// Where mail for people of this node waits while it is off: up to 4 nodes that are mostly on and take mail, as
        /// "NODE-ID" (`crosstalk status` shows it) or "NODE-ID@/ip4/192.0.2.1/tcp/14774". Empty: wherever the hash table says.
        /// Cost: whoever knows somebody's address can see which nodes these are.
        mailboxes: Vec<String> = Vec::new(), "[]";
        /// Other nodes connected at the same time, 1 to 1024. Cost: about 100 KiB of memory each.
        max_peers: usize = 64, "64";
    }
    /// Neighbours on the same cable or Wi-Fi: those with a node, and those with any Bonjour chat program (XEP-0174).
    link Link {
        /// "announce": people of this node who are available are announced to Bonjour programs, at most 16.
        /// "listen": Bonjour people are shown in "Nearby", and nobody here is announced, so no messages either way.
        /// "off": neither. `crosstalk account hide NAME` keeps one person from being announced.
        /// Cost: everybody on the link can read the nickname, status, picture and addresses of who is announced, and
        /// messages to and from Bonjour programs are mostly not encrypted. A few packets a minute for everybody.
        mode: LinkMode = LinkMode::Announce, "\"announce\"";
        /// TCP port for messages of Bonjour programs, 1024 to 65000. If it is taken, the next free one of the 22 behind it.
        /// Cost: only machines on the same link can connect, at most 64 at a time.
        port: u16 = 5_298, "5298";
        /// Name of this machine in NAME@MACHINE, as Bonjour programs see it. Empty: its host name.
        machine: String = String::new(), "\"\"";
        /// Whether people of this node are shown to neighbours in "Nearby".
        /// `crosstalk account hide NAME` hides one of them.
        visible: bool = true, "true";
    }
    /// The bypass gateway: chat programs reach their own network through this node, by SOCKS 4, 4a or 5, and keep account,
    /// contacts and rooms there. Every byte is passed on as it is, but for the accounts in `accounts`.
    bypass Bypass {
        /// Addresses and ports for chat programs, as "127.0.0.1:1080", at most 4. Empty: no port is open.
        /// Cost: any address but those of this machine lets everybody on that network use it, as far as `allow` goes.
        listen: Vec<SocketAddr> = Vec::new(), "[]";
        /// Servers that they may be connected to, at most 64, as "xmpp://jabber.example:5222" or "irc://irc.example:6667"; also oscar,
        /// msnp, ymsg and sip; "any" is any of these. All else is refused. A name that leads to a
        /// private address, or to one of this machine, is refused unless that address stands here itself.
        allow: Vec<String> = Vec::new(), "[]";
        /// Your own accounts at XMPP servers of `allow`, at most 16, as "romeo@jabber.example". Where a chat program on this machine logs in
        /// at their domain, its TLS ends at this node, which shows a certificate of its own (bypass-tls.crt in the data directory: have the
        /// program trust it), and goes on to the server by TLS that this node has verified; the server's channel binding is not offered.
        /// Empty: the node sees nothing of what is encrypted. Cost: whoever has this node's memory can read what these accounts say.
        accounts: Vec<String> = Vec::new(), "[]";
        /// File with certificates (PEM) of authorities that are believed of those servers beside the system's. Default: none.
        ca_file: Option<PathBuf> = None, "\"/etc/crosstalk/jabber-ca.pem\"";
        /// Connections at the same time, 1 to 4096. Cost: two file handles each, and some 3 KiB of memory, 20 while one side does not
        /// read; of `accounts` some 25, and up to 120 while neither reads.
        max_connections: usize = 256, "256";
    }
    /// IRC: chat programs such as irssi and WeeChat log in to this node itself, and have their contacts in one channel.
    irc Irc {
        /// Addresses and ports of this machine without TLS, as "127.0.0.1:6667", at most 4. Empty: no port is open.
        /// Cost: anybody who can run a program here can try passwords, as with XMPP.
        listen: Vec<SocketAddr> = Vec::new(), "[]";
        /// Addresses and ports where TLS comes first, as "0.0.0.0:6697", at most 4; the certificate is that for XMPP clients.
        /// Cost: any address but those of this machine lets everybody on that network try passwords.
        tls: Vec<SocketAddr> = Vec::new(), "[]";
    }
    /// The server of a domain, if this node is one (`crosstalk authority`).
    authority Authority {
        /// Where users, certificates and contact lists of the domain are kept. Empty: in the data directory. For a large domain,
        /// or several server processes that share one: PostgreSQL, as "postgresql://USER@HOST/DATABASE", or
        /// "postgresql:///DATABASE?host=/run/postgresql&user=USER". `crosstalk authority backup` and `restore` move what is there.
        /// Cost: while PostgreSQL is away nobody can be enrolled and no contact list comes into step.
        database: String = String::new(), "\"\"";
        /// File with the password for PostgreSQL, readable by the node only. Default: none.
        database_password: Option<PathBuf> = None, "\"/etc/crosstalk/postgresql.password\"";
        /// File with the certificates (PEM) that PostgreSQL's own is signed with; needed if it is on another machine.
        database_ca: Option<PathBuf> = None, "\"/etc/crosstalk/postgresql-ca.pem\"";
        /// Where an XMPP server takes external components (XEP-0114), as "127.0.0.1:5347"; the component's name there is the
        /// domain that this node serves. Then its users can write to, and be reached from, any XMPP address. Empty: they cannot.
        /// Of several server processes on one PostgreSQL one keeps the link, and another as soon as that one ends.
        /// Cost: the link is not encrypted: the XMPP server belongs on this machine, or on a network that only the two share.
        component: String = String::new(), "\"\"";
        /// The file in which the secret stands that both know; nobody else may read it. A path that is not absolute is below the
        /// data directory.
        component_secret: PathBuf = PathBuf::from("component.secret"), "\"component.secret\"";
        /// "members": users of the domain search for each other (XEP-0055). Who is found decides each user alone, by the chat program or
        /// with `crosstalk account directory`; nobody stands in it who has not agreed. "off": nobody can search.
        /// Cost: a user who searches long enough has the names of all who have agreed: 50 at once, some 600 an hour.
        directory: DirectoryMode = DirectoryMode::Off, "\"off\"";
    }
    /// Domains of others (`crosstalk domain`).
    domains Domains {
        /// File with certificates (PEM) of authorities that are believed of web servers beside the system's, when a person has the web
        /// server of a domain asked for its key. Default: none. Cost: whoever has such an authority's key can say which key speaks
        /// for any domain that is fetched.
        ca_file: Option<PathBuf> = None, "\"/etc/crosstalk/web-ca.pem\"";
    }
    /// Figures for Prometheus.
    metrics Metrics {
        /// Addresses and ports on this machine where `GET /metrics` is answered, as "127.0.0.1:9522", at most 4. Empty: no port is open.
        /// Cost: everybody who can run a program here can read how many people are connected and what waits; nobody is named.
        listen: Vec<SocketAddr> = Vec::new(), "[]";
    }
    /// What is kept on disk.
    store Store {
        /// Size of the journal at which it is emptied into the database, bytes, 65536 to 1073741824.
        /// Cost: larger means fewer writes, a longer start after a power cut, and this much disk.
        journal_limit: u64 = 4_194_304, "4194304";
    }
    /// What is written to stderr.
    log Log {
        /// error, warn, info, debug or trace, alone or per part as in "warn,crosstalk=debug".
        /// The environment variable CROSSTALK_LOG overrules it. Cost: debug shows whole addresses.
        filter: String = crate::telemetry::DEFAULT_FILTER.to_owned(), "\"warn,crosstalk=info\"";
    }
}

impl Log {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        crate::telemetry::filter(&self.filter)
            .map(drop)
            .map_err(|error| ConfigError::Value { key: "log.filter", what: error.to_string() })
    }
}

/// The example file: every setting with its explanation, commented out.
pub fn example() -> String {
    let mut text = String::from(
        "# Settings of CrossTalk. Every one is optional; what stands here is the default.\n\
         # Put this file into the data directory as crosstalk.toml, or name it with --config.\n",
    );
    TOP.iter().for_each(|setting| describe(setting, &mut text));
    for section in SECTIONS {
        text.push('\n');
        section.doc.iter().for_each(|line| text.push_str(&format!("#{line}\n")));
        text.push_str(&format!("[{}]\n", section.name));
        section.settings.iter().for_each(|setting| describe(setting, &mut text));
    }
    text
}

fn describe(setting: &Setting, text: &mut String) {
    text.push('\n');
    setting.doc.iter().for_each(|line| text.push_str(&format!("#{line}\n")));
    text.push_str(&format!("#{} = {}\n", setting.name, setting.text));
}
