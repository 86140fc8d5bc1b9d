//! Owns the command line of `crosstalk-load` and the list of accounts made from it.

use super::LoadError;
use clap::{Parser, ValueEnum};
use serde::Serialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Logs clients in to any XMPP server over plain TCP, sends messages between them and prints what it cost.
///
/// Client 2k talks to 2k+1, both ways (with several servers, each to the next one). Give `--rate` for messages at a fixed rate (latency counts from when a
/// message was due), or `--window` for as many as the server can take with so many on their way per flow.
#[derive(Clone, Debug, Parser)]
#[command(name = "crosstalk-load", version)]
pub struct Options {
    /// Address of the server's client port. Given several times, the clients log in to these servers in turn, and each writes to
    /// clients of the next server only.
    #[arg(long, default_value = "127.0.0.1:5222")]
    pub server: Vec<SocketAddr>,
    /// Domain of the accounts made with --user-pattern; one for all servers, or one for each in their order.
    #[arg(long, default_value = "localhost")]
    pub domain: Vec<String>,
    /// File with one account per line: bare JID, space, password.
    #[arg(long, conflicts_with = "user_pattern")]
    pub users_file: Option<PathBuf>,
    /// Local parts of the accounts; {} stands for the number of the client, from 0.
    #[arg(long, default_value = "load{}")]
    pub user_pattern: String,
    /// Password of all accounts made with --user-pattern.
    #[arg(long, default_value = "secret")]
    pub password: String,
    /// Number of clients, even.
    #[arg(long, default_value_t = 520)]
    pub clients: usize,
    /// Length of a message body in bytes, at least 39.
    #[arg(long, default_value_t = 150)]
    pub message_bytes: usize,
    /// Messages a second, of all clients together.
    #[arg(long, conflicts_with = "window")]
    pub rate: Option<u32>,
    /// Messages of one flow (sender to recipient) on their way at a time [default: 1].
    #[arg(long)]
    pub window: Option<u32>,
    /// Recipients of each client.
    #[arg(long, default_value_t = 1)]
    pub fanout: usize,
    /// Address messages to the full JID that the server bound, or to the bare one.
    #[arg(long, value_enum, default_value_t = To::Full)]
    pub to: To,
    /// Measured seconds.
    #[arg(long, default_value_t = 10)]
    pub duration: u32,
    /// Seconds of traffic before the measurement.
    #[arg(long, default_value_t = 2)]
    pub warmup: u32,
    /// Seconds to wait for missing messages after the last arrival.
    #[arg(long, default_value_t = 5)]
    pub drain: u32,
    /// Use acknowledgements (XEP-0198); the printed throughput then counts acknowledged messages.
    #[arg(long)]
    pub sm: bool,
    /// With --sm: request an acknowledgement after so many messages, and whenever a client has no more to send.
    #[arg(long, default_value_t = 5)]
    pub sm_every: u32,
    /// SASL mechanism.
    #[arg(long, value_enum, default_value_t = Mechanism::Plain)]
    pub mechanism: Mechanism,
    /// Register each account in-band (XEP-0077) before its login; accounts that exist are kept.
    #[arg(long)]
    pub register: bool,
    /// Clients that log in at the same time.
    #[arg(long, default_value_t = 16)]
    pub login_parallel: usize,
    /// Log in, measure memory, exit.
    #[arg(long)]
    pub idle: bool,
    /// Seconds of rest after the last login before memory is measured.
    #[arg(long, default_value_t = 2)]
    pub settle: u32,
    /// Process of the server to measure, with its descendants; may be given several times.
    #[arg(long)]
    pub pid: Vec<u32>,
    /// Bind this program to one CPU.
    #[arg(long)]
    pub pin: Option<usize>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
    /// Ignore --server and run against a built-in router, to measure what this program itself can do.
    #[arg(long)]
    pub self_test: bool,
}

/// What a message is addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum To {
    /// The bound full JID.
    Full,
    /// The same without resource.
    Bare,
}

/// SASL mechanism to log in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mechanism {
    /// PLAIN, RFC 4616.
    Plain,
    /// SCRAM-SHA-1, RFC 5802.
    #[value(name = "scram-sha-1")]
    ScramSha1,
    /// SCRAM-SHA-256, RFC 7677.
    #[value(name = "scram-sha-256", alias = "scram")]
    ScramSha256,
}

impl Mechanism {
    /// The registered name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::ScramSha256 => "SCRAM-SHA-256",
        }
    }
}

/// How messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// Messages a second.
    Rate(u32),
    /// Messages on their way per flow.
    Window(u32),
}

/// One login.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// Local part.
    pub user: String,
    /// Domain part.
    pub domain: String,
    /// Password, never printed.
    pub password: String,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.user, self.domain)
    }
}

impl Options {
    /// Rate or window.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.rate.map_or_else(|| Pace::Window(self.window.unwrap_or(1)), Pace::Rate)
    }

    /// Checks what clap cannot.
    ///
    /// # Errors
    /// [`LoadError::Option`] naming the option and the way out.
    pub fn check(&self) -> Result<(), LoadError> {
        let fail = |text: &str| Err(LoadError::Option(text.to_owned()));
        if self.server.is_empty() || self.server.len() > 16 {
            return fail("--server must be given from 1 to 16 times");
        }
        if self.clients < 2 || !self.clients.is_multiple_of(2) || self.clients > 100_000 {
            return fail("--clients must be even, from 2 to 100000");
        }
        if !self.clients.is_multiple_of(self.server.len().max(1)) {
            return fail("--clients must be a multiple of the number of servers");
        }
        if self.domain.len() != 1 && self.domain.len() != self.server.len() {
            return fail("--domain must be given once, or as often as --server");
        }
        let most = if self.server.len() > 1 { self.clients / self.server.len() } else { self.clients - 1 };
        if !(1..=most).contains(&self.fanout) {
            return fail(
                "--fanout must be at least 1, below --clients, and at most the clients of one server",
            );
        }
        if !(super::marker::MARKER_BYTES..=65_536).contains(&self.message_bytes) {
            return fail("--message-bytes must be from 39 to 65536");
        }
        if self.rate == Some(0) || !self.window.is_none_or(|window| (1..=1000).contains(&window)) {
            return fail("--rate must be above 0 and --window from 1 to 1000");
        }
        if self.duration == 0 || self.login_parallel == 0 {
            return fail("--duration and --login-parallel must be above 0");
        }
        Ok(())
    }

    /// The accounts of all clients.
    ///
    /// # Errors
    /// [`LoadError`] when the file cannot be read, is malformed or too short, or the pattern lacks its `{}`.
    pub fn accounts(&self) -> Result<Vec<Account>, LoadError> {
        let Some(path) = &self.users_file else { return self.pattern_accounts() };
        let text = std::fs::read_to_string(path)
            .map_err(|reason| LoadError::UsersFile { path: path.clone(), reason })?;
        let accounts = parse_accounts(&text)?;
        if accounts.len() < self.clients {
            let text =
                format!("--users-file has {} accounts, --clients asks for {}", accounts.len(), self.clients);
            return Err(LoadError::Option(text));
        }
        Ok(accounts.into_iter().take(self.clients).collect())
    }

    fn pattern_accounts(&self) -> Result<Vec<Account>, LoadError> {
        if !self.user_pattern.contains("{}") {
            return Err(LoadError::Option(
                "--user-pattern must hold {} for the number of the client".to_owned(),
            ));
        }
        let account = |index: usize| Account {
            user: self.user_pattern.replace("{}", &index.to_string()),
            domain: self.domain.get(index % self.domain.len().max(1)).cloned().unwrap_or_default(),
            password: self.password.clone(),
        };
        Ok((0..self.clients).map(account).collect())
    }
}

fn parse_accounts(text: &str) -> Result<Vec<Account>, LoadError> {
    let lines =
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|(index, line)| {
            let wrong =
                || LoadError::Option(format!("line {} of --users-file is not 'jid password'", index + 1));
            let (jid, password) = line.trim().split_once(char::is_whitespace).ok_or_else(wrong)?;
            let (user, domain) = jid.split_once('@').ok_or_else(wrong)?;
            let password = password.trim_start().to_owned();
            Ok(Account { user: user.to_owned(), domain: domain.to_owned(), password })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Options {
        Options::parse_from([&["crosstalk-load"], arguments].concat())
    }

    #[test]
    fn the_file_gives_accounts_and_names_the_wrong_line() {
        let accounts = parse_accounts("# all\na@b pass word\n\nc@d  x\n").unwrap();
        assert_eq!(accounts[0].password, "pass word");
        assert_eq!(format!("{:?}", accounts[1]), "c@d");
        let error = parse_accounts("a@b x\nnonsense\n").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn limits_are_checked() {
        assert!(options(&[]).check().is_ok());
        for bad in [
            ["--clients", "3"],
            ["--fanout", "520"],
            ["--message-bytes", "38"],
            ["--window", "0"],
            ["--rate", "0"],
            ["--server", "[::1]:1 --server [::1]:2 --server [::1]:3"],
            ["--domain", "a --domain b"],
            ["--fanout", "261 --server [::1]:1 --server [::1]:2"],
        ] {
            let words: Vec<&str> = bad.iter().flat_map(|word| word.split(' ')).collect();
            assert!(options(&words).check().is_err(), "{bad:?}");
        }
        let two = options(&["--server", "[::1]:1", "--server", "[::1]:2", "--domain", "a", "--domain", "b"]);
        assert!(two.check().is_ok());
        let accounts = two.accounts().unwrap();
        assert_eq!(
            accounts.iter().take(3).map(|account| &*account.domain).collect::<Vec<_>>(),
            ["a", "b", "a"]
        );
        assert_eq!(options(&[]).pace(), Pace::Window(1));
        assert!(options(&["--user-pattern", "x"]).accounts().is_err());
    }
}
