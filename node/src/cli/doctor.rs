//! `crosstalk doctor`: what is wrong with this node and its machine, and what to do about it.
//!
//! Each finding is a line: ok, warn or fail. A `fail` makes the exit code 8.

mod machine;
mod reach;
mod server;

use std::path::Path;

use serde::Serialize;

pub(super) use self::reach::summary;

use super::failure::Failure;
use super::{Node, output};
use crate::accounts::key_dir::KeyDir;
use crate::admin::client::Client;
use crate::admin::reach::ReachView;
use crate::admin::{Request, Response};
use crate::authority::{Answer, Question};
use crate::core::admin::{AccountView, PeerView, Reply, StatusView};
use crate::core::settings::{LinkMode, TableMode};
use crate::core::sync::server::ServerView;
use crate::event_loop::clock::wall_millis;
use crate::features::delay::date;
use crate::link::LinkReport;
use crate::run::{self, Place};

/// A certificate with less left is worth a warning, milliseconds: 30 days.
const SOON: u64 = 30 * 24 * 60 * 60 * 1_000;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Level {
    Ok,
    Warn,
    Fail,
}

/// One finding.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    level: Level,
    what: &'static str,
    text: String,
}

impl Finding {
    pub(super) fn ok(what: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Ok, what, text: text.into() }
    }

    pub(super) fn warn(what: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Warn, what, text: text.into() }
    }

    pub(super) fn fail(what: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Fail, what, text: text.into() }
    }

    fn shown(&self) -> String {
        let level = match self.level {
            Level::Ok => "ok  ",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        format!("{level}  {:<12}  {}", self.what, output::plain(&self.text))
    }
}

/// Checks everything and prints what it finds.
///
/// # Errors
/// [`Failure::Unhealthy`] if something fails.
pub(crate) fn execute(place: Place, json: bool) -> Result<(), Failure> {
    let findings = examine(place);
    if json {
        output::json(&findings);
    } else {
        findings.iter().for_each(|finding| output::line(finding.shown()));
    }
    match findings.iter().any(|finding| finding.level == Level::Fail) {
        true => Err(Failure::Unhealthy),
        false => Ok(()),
    }
}

fn examine(place: Place) -> Vec<Finding> {
    let mut findings = vec![Finding::ok("settings", "in order")];
    let (config, data) = (place.config.clone(), place.data.clone());
    let runs = Client::connect(&data).is_some();
    findings.push(machine::data_dir(&data));
    findings.push(machine::disk_space(&data));
    let (mut link, mut reach) = (None, None);
    if data.join(run::STORE).exists() {
        findings.push(keys(&data));
        match Node::open(place) {
            Ok(mut node) => {
                findings.extend(ask(&mut node));
                link = report(&mut node);
                reach = reached(&mut node);
            }
            Err(failure) => findings.push(Finding::fail("store", failure.to_string())),
        }
    } else {
        findings
            .push(Finding::warn("store", "no node has been started here yet: start one with `crosstalk`"));
    }
    findings.extend(machine::ports(&config, runs));
    findings.push(machine::interfaces(Path::new("/sys/class/net")));
    findings.push(machine::mdns(config.overlay.mdns || config.link.mode != LinkMode::Off));
    findings.push(machine::link(&config.link, runs, link.as_deref()));
    let table = config.overlay.table != TableMode::Off;
    findings.push(reach::reach(reach.as_deref(), table, runs, wall_millis(), config.overlay.port));
    findings
}

fn report(node: &mut Node) -> Option<Box<LinkReport>> {
    match node.ask(Request::Link) {
        Ok(Response::Link(report)) => report,
        Ok(_) | Err(_) => None,
    }
}

fn reached(node: &mut Node) -> Option<Box<ReachView>> {
    match node.ask(Request::Reach) {
        Ok(Response::Reach(view)) => view,
        Ok(_) | Err(_) => None,
    }
}

fn keys(data: &Path) -> Finding {
    if !data.join("keys").exists() {
        return Finding::fail("keys", "the directory of key files is missing: put keys/ back from a back-up");
    }
    match KeyDir::open(data).and_then(|keys| keys.users()) {
        Ok(users) => Finding::ok("keys", format!("{} users, readable by their owner only", users.len())),
        Err(error) => Finding::fail("keys", error.to_string()),
    }
}

/// What the node knows about itself.
fn ask(node: &mut Node) -> Vec<Finding> {
    let (runs, now) = (node.runs(), wall_millis());
    let mut findings = Vec::new();
    match node.reply(Request::Status) {
        Ok(Reply::Status(status)) => {
            findings.extend(status_of(&status, runs));
            findings.extend(server::home(&status, runs, now));
            if let Ok(Reply::Accounts(accounts)) = node.reply(Request::ListAccounts) {
                findings.extend(certificates(&accounts, &status.servers, now));
            }
        }
        Ok(other) => findings.push(Finding::fail("node", format!("answers something else: {other:?}"))),
        Err(failure) => findings.push(Finding::fail("node", failure.to_string())),
    }
    if let Ok(Response::Authority(Answer::Standing(database, outside))) =
        node.ask(Request::Authority(Question::Standing))
    {
        findings.extend(server::database(&database, now));
        findings.extend(outside.map(|view| server::component(&view, now)));
    }
    if runs && let Ok(Reply::Peers(peers)) = node.reply(Request::Peers) {
        let nodes: Vec<PeerView> = peers.into_iter().filter(|peer| peer.tier.is_none()).collect();
        findings.push(others(&nodes));
    }
    findings
}

fn status_of(status: &StatusView, runs: bool) -> Vec<Finding> {
    let mut findings = vec![match runs {
        true => Finding::ok("node", format!("running for {}", output::age(status.uptime))),
        false => Finding::warn("node", "not running: start it with `crosstalk`"),
    }];
    findings.push(match &status.store_trouble {
        None => Finding::ok("store", "in order"),
        Some(trouble) => Finding::fail("store", trouble.clone()),
    });
    let full = |(count, limit): &(u64, u64)| *limit > 0 && count.saturating_mul(5) >= limit.saturating_mul(4);
    findings.extend(status.trees.iter().filter(|(_, fill)| full(fill)).map(|(tree, (count, limit))| {
        Finding::warn(
            "store",
            format!("{tree} holds {count} of at most {limit} entries: remove what is not needed"),
        )
    }));
    findings.push(match status.clock_credible {
        true => Finding::ok("clock", "credible"),
        false => Finding::fail(
            "clock",
            "this machine's date is before this program was built, or far from that of other nodes: set date and time",
        ),
    });
    findings
}

fn certificates(accounts: &[AccountView], servers: &[ServerView], now: u64) -> Vec<Finding> {
    if accounts.is_empty() {
        return vec![Finding::warn("accounts", "none: `crosstalk account add NAME` makes one")];
    }
    let mut findings: Vec<Finding> = accounts
        .iter()
        .flat_map(|account| {
            let enrolled = servers.iter().any(|server| server.address == account.jid);
            [device(account, now), name(account, enrolled, now)]
        })
        .flatten()
        .collect();
    findings.push(Finding::ok("accounts", accounts.len().to_string()));
    findings
}

/// Only the user key, which the password opens, certifies a device.
fn device(account: &AccountView, now: u64) -> Option<Finding> {
    (account.device_until < now.saturating_add(SOON)).then(|| {
        let remedy =
            format!("`crosstalk account password {}` with the earlier password renews it", account.name);
        let runs_out = runs_out(account.device_until, now);
        Finding::warn(
            "certificates",
            format!("the device certificate of {} on this machine {runs_out}: {remedy}", account.login),
        )
    })
}

/// Only the authority of the domain certifies a name: the server that the user is enrolled at, or this node itself.
fn name(account: &AccountView, enrolled: bool, now: u64) -> Option<Finding> {
    let until = account.name_until.filter(|until| *until < now.saturating_add(SOON))?;
    let remedy = match enrolled {
        true => "the server of its domain renews it as soon as this machine meets it, in any network",
        false => "this node renews it when it is started anew",
    };
    let runs_out = runs_out(until, now);
    Some(Finding::warn(
        "certificates",
        format!("the name certificate of {} {runs_out}: {remedy}", account.login),
    ))
}

fn runs_out(until: u64, now: u64) -> String {
    let verb = if until > now { "ends" } else { "ended" };
    format!("{verb} on {}, {}", date(until), output::until(until, now))
}

fn others(peers: &[PeerView]) -> Finding {
    let connected = peers.iter().filter(|peer| peer.connected).count();
    match (connected, peers.len()) {
        (0, 0) => Finding::warn("peers", "no other node has been seen: is one running on this network?"),
        (0, seen) => {
            Finding::warn("peers", format!("{seen} seen, none connected: does a firewall block port 14774?"))
        }
        (connected, _) => Finding::ok("peers", format!("{connected} connected")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::renewal::tests::view;

    #[test]
    fn trouble_is_found_and_named() {
        let status = StatusView {
            store_trouble: Some("the disk is full".into()),
            trees: [("outbox".to_owned(), (19, 20))].into(),
            ..StatusView::default()
        };
        let findings = status_of(&status, true);
        let level =
            |what: &str| findings.iter().filter(|f| f.what == what).map(|f| f.level).collect::<Vec<_>>();
        assert_eq!(level("store"), [Level::Fail, Level::Warn]);
        assert_eq!(level("clock"), [Level::Fail]);
        assert_eq!(level("node"), [Level::Ok]);
    }

    /// Each certificate is renewed by somebody else.
    #[test]
    fn whoever_renews_a_certificate_is_named() {
        const DAY: u64 = 86_400_000;
        let now = 20_000 * DAY;
        let account = |device_until: u64, name_until: Option<u64>| AccountView {
            login: "anna@school.example".into(),
            jid: "anna@school.example".into(),
            name_until,
            ..view(device_until)
        };
        let enrolled = [server::tests::server("up")];
        let texts = |account: AccountView, servers: &[ServerView]| {
            let findings = certificates(&[account], servers, now);
            let warned = findings.into_iter().filter(|finding| finding.level == Level::Warn);
            warned.map(|finding| finding.text).collect::<Vec<_>>()
        };
        let far = now + 300 * DAY;
        assert!(texts(account(far, Some(far)), &enrolled).is_empty());
        let [ended] = &texts(account(far, Some(now - 3 * DAY)), &enrolled)[..] else { panic!("one") };
        assert!(
            ended.contains("name certificate of anna@school.example ended on 2024-10-01, 3 days ago"),
            "{ended}"
        );
        assert!(ended.contains("meets it") && !ended.contains("password"), "{ended}");
        let [own] = &texts(account(far, Some(now + DAY)), &[])[..] else { panic!("one") };
        assert!(own.contains("this node renews it"), "{own}");
        let [device] = &texts(account(now + 3 * DAY, Some(far)), &enrolled)[..] else { panic!("one") };
        assert!(
            device.contains("device certificate") && device.contains("account password anna"),
            "{device}"
        );
        assert_eq!(texts(account(0, Some(0)), &enrolled).len(), 2);
    }

    #[test]
    fn no_peers_is_a_warning_only() {
        assert_eq!(others(&[]).level, Level::Warn);
    }
}
