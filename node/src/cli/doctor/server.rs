//! What is wrong between this machine and the server of a domain: at a laptop with the server, at the server with its database
//! and its XMPP server.

use super::{Finding, output};
use crate::authority::standing::Standing;
use crate::core::admin::StatusView;
use crate::core::sync::server::ServerView;
use crate::upstream::ComponentView;

/// The database of the domain that this node serves; nothing where it serves none.
pub(super) fn database(database: &Standing, now: u64) -> Option<Finding> {
    const WHAT: &str = "database";
    if database.kind.is_empty() || (!database.up && database.why.is_none()) {
        return None;
    }
    let Some(why) = database.why.as_ref().filter(|_| !database.up) else {
        return Some(Finding::ok(WHAT, format!("{} is there", database.kind)));
    };
    let remedy = match database.kind.as_str() {
        "PostgreSQL" => "start it, or correct `database` below [authority] in the settings",
        _ => "make room on the disk of the data directory",
    };
    Some(Finding::fail(
        WHAT,
        format!(
            "{} cannot be used, since {} ({why}): {remedy}. Laptops are told to come again, and nothing is lost; this node goes on \
             by itself",
            database.kind,
            output::ago(database.since, now)
        ),
    ))
}

/// The link to other servers by a stock one.
pub(super) fn component(view: &ComponentView, now: u64) -> Finding {
    const WHAT: &str = "other XMPP";
    let since = output::since(view.since, now);
    match (view.state.as_str(), &view.why) {
        ("up", _) => Finding::ok(WHAT, format!("connected to the XMPP server at {}", view.address)),
        ("elsewhere", _) => Finding::ok(WHAT, "another process of this server keeps the link"),
        (_, Some(why)) => Finding::fail(
            WHAT,
            format!(
                "the XMPP server at {} is not connected{since}: {why}. Does it run, and does it have the domain as a component with \
                 that secret? Until then {} stanzas wait; it is tried again by itself",
                view.address, view.held
            ),
        ),
        (_, None) => Finding::warn(WHAT, format!("the XMPP server at {} is being connected", view.address)),
    }
}

/// The servers of the domains of users here.
pub(super) fn home(status: &StatusView, runs: bool, now: u64) -> Vec<Finding> {
    let disputed = status.disputed.iter().map(|domain| {
        let text = format!(
            "the key of {} is in other hands, and nobody can say which follows: enrol again at its server",
            output::plain(domain)
        );
        Finding::fail("server", text)
    });
    let asked = status.servers.iter().filter(|_| runs).filter_map(|server| of(server, now));
    disputed.chain(asked).collect()
}

fn of(server: &ServerView, now: u64) -> Option<Finding> {
    const WHAT: &str = "server";
    let (address, since) = (output::plain(&server.address), output::ago(server.since, now));
    let held = match server.held {
        0 => "nothing waits for it".to_owned(),
        1 => "1 change waits for it".to_owned(),
        held => format!("{held} changes wait for it"),
    };
    match (server.state.as_str(), &server.why) {
        ("up", None) => Some(Finding::ok(WHAT, format!("that of {address} is met"))),
        ("up", Some(why)) => Some(Finding::warn(WHAT, format!("that of {address} is met, but {why}"))),
        ("down", _) => Some(Finding::warn(
            WHAT,
            format!(
                "that of {address} is not met, since {since}; {held}. Chat programs here go on without it, and all is told as soon as it \
                 is met. If it should be: does it run, and is this machine in its network, or can it be reached from here?"
            ),
        )),
        (_, Some(why)) => {
            Some(Finding::fail(WHAT, format!("that of {address} refuses, since {since}; {held}: {why}")))
        }
        (_, None) => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::Level;
    use super::*;

    pub(in crate::cli::doctor) fn server(state: &str) -> ServerView {
        ServerView {
            address: "anna@school.example".into(),
            state: state.into(),
            since: 1_000,
            held: 3,
            ..ServerView::default()
        }
    }

    #[test]
    fn a_server_that_is_not_met_is_a_warning_and_one_that_refuses_is_a_failure() {
        let found = |server: ServerView, runs: bool| {
            let status = StatusView { servers: vec![server], ..StatusView::default() };
            home(&status, runs, 61_000).pop()
        };
        let down = found(server("down"), true).expect("found");
        assert_eq!(down.level, Level::Warn);
        assert!(down.text.contains("since 1 min ago; 3 changes wait"), "{}", down.text);
        let why = Some("the server has ended this account".to_owned());
        let refuses = found(ServerView { why: why.clone(), ..server("refused") }, true).expect("found");
        assert_eq!(refuses.level, Level::Fail);
        assert!(refuses.text.contains("ended this account"), "{}", refuses.text);
        assert_eq!(found(server("up"), true).expect("found").level, Level::Ok);
        assert_eq!(found(ServerView { why, ..server("up") }, true).expect("found").level, Level::Warn);
        assert!(found(server("unknown"), true).is_none() && found(server("down"), false).is_none());
        let status = StatusView { disputed: vec!["school.example".into()], ..StatusView::default() };
        assert_eq!(home(&status, true, 0)[0].level, Level::Fail);
    }

    #[test]
    fn a_database_that_is_away_is_found_with_what_to_do() {
        let standing = |kind: &str, why: Option<&str>| Standing {
            kind: kind.into(),
            up: why.is_none(),
            since: 1_000,
            why: why.map(str::to_owned),
            ..Standing::default()
        };
        let found = |kind: &str, why: &str| database(&standing(kind, Some(why)), 61_000).expect("found");
        let away = found("PostgreSQL", "connection refused");
        assert_eq!(away.level, Level::Fail);
        assert!(away.text.contains("since 1 min ago (connection refused): start it"), "{}", away.text);
        assert!(found("data directory", "no space").text.contains("make room"));
        assert_eq!(database(&standing("PostgreSQL", None), 0).expect("found").level, Level::Ok);
        assert!(database(&Standing::default(), 0).is_none());
        assert!(database(&Standing { kind: "PostgreSQL".into(), ..Standing::default() }, 0).is_none());
    }

    #[test]
    fn a_component_that_is_refused_is_found_with_why() {
        let view = |state: &str, why: Option<&str>| ComponentView {
            address: "127.0.0.1:5347".into(),
            state: state.into(),
            since: 1_000,
            why: why.map(str::to_owned),
            held: 2,
            ..ComponentView::default()
        };
        let refused = component(&view("down", Some("it does not accept the secret")), 61_000);
        assert_eq!(refused.level, Level::Fail);
        for part in ["127.0.0.1:5347 is not connected since 1 min ago: it does not accept", "2 stanzas wait"]
        {
            assert!(refused.text.contains(part), "{}", refused.text);
        }
        assert_eq!(component(&view("down", None), 0).level, Level::Warn);
        for state in ["up", "elsewhere"] {
            assert_eq!(component(&view(state, None), 0).level, Level::Ok);
        }
    }
}
