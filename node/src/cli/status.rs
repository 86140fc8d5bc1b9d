//! `crosstalk status`, `peers` and `outbox`: what the node is doing.

use super::authority::component;
use super::doctor::summary;
use super::failure::Failure;
use super::{Node, confused, output};
use crate::admin::reach::{CarriedView, ReachView};
use crate::admin::{Request, Response};
use crate::authority::standing::Standing;
use crate::authority::{Answer, Question};
use crate::bypass::{BypassView, Trouble, UserView};
use crate::core::admin::{FramesView, LinkView, OutboxView, PeerView, Reply, StatusView};
use crate::core::enrol::NameView;
use crate::core::settings::LinkMode;
use crate::core::sync::server::ServerView;
use crate::event_loop::clock::wall_millis;
use crate::features::delay::date;
use crate::link::{LinkReport, Traffic};
use crate::upstream::ComponentView;

/// Users of the bypass gateway, and refused destinations, that are shown to people.
const SHOWN: usize = 5;

/// What the node is doing.
///
/// # Errors
/// When it cannot be asked.
pub(crate) fn status(node: &mut Node, json: bool) -> Result<(), Failure> {
    let runs = node.runs();
    let Reply::Status(status) = node.reply(Request::Status)? else { return Err(confused()) };
    let around = Around::of(node)?;
    if json {
        let mut value = serde_json::to_value(&status).unwrap_or_default();
        value["running"] = runs.into();
        value["reach"] = serde_json::to_value(&around.reach).unwrap_or_default();
        value["airtime"] = serde_json::to_value(&around.air).unwrap_or_default();
        value["database"] = serde_json::to_value(&around.database).unwrap_or_default();
        value["outside"] = serde_json::to_value(&around.outside).unwrap_or_default();
        value["bypass"] = serde_json::to_value(&around.bypass).unwrap_or_default();
        value["carried"] = serde_json::to_value(around.carried).unwrap_or_default();
        output::json(&value);
        return Ok(());
    }
    output::line(describe(&status, &around, runs));
    Ok(())
}

/// What surrounds the core, where it runs.
#[derive(Default)]
struct Around {
    air: Option<Box<LinkReport>>,
    reach: Option<Box<ReachView>>,
    carried: Option<CarriedView>,
    bypass: Option<Box<BypassView>>,
    database: Standing,
    outside: Option<ComponentView>,
}

impl Around {
    fn of(node: &mut Node) -> Result<Self, Failure> {
        let Response::Link(air) = node.ask(Request::Link)? else { return Err(confused()) };
        let Response::Reach(reach) = node.ask(Request::Reach)? else { return Err(confused()) };
        let Response::Carried(carried) = node.ask(Request::Carried)? else { return Err(confused()) };
        let Response::Bypass(bypass) = node.ask(Request::Bypass)? else { return Err(confused()) };
        let standing = node.ask(Request::Authority(Question::Standing))?;
        let Response::Authority(Answer::Standing(database, outside)) = standing else {
            return Err(confused());
        };
        Ok(Self { air, reach, carried, bypass, database, outside })
    }
}

fn describe(status: &StatusView, around: &Around, runs: bool) -> String {
    let air = around.air.as_deref();
    let state = match runs {
        true => format!("running for {}", output::age(status.uptime)),
        false => "not running".to_owned(),
    };
    let mut lines = vec![
        format!("CrossTalk {}, {state}", status.version),
        format!("node          {}", status.node),
        format!("domain        {}", status.domain.as_deref().unwrap_or("none, addresses are self-certified")),
        format!("certified     {}", certified(status, wall_millis())),
        format!("server        {}", servers(status, wall_millis())),
        format!("accounts      {}", status.accounts),
        format!("sessions      {}, {} of them waiting to be resumed", status.sessions, status.detached),
        format!("other nodes   {} connected", status.peers),
        format!("neighbours    {}", status.neighbours),
        format!("link          {}", people(&status.link)),
        format!("announced     {}", announced(&status.link, air)),
        format!("airtime       {}", air.map_or("multicast DNS does not run".to_owned(), airtime)),
        format!("keep-alives   {}", keep_alives(&status.frames, air)),
        format!("from outside  {}", summary(around.reach.as_deref(), wall_millis())),
        format!("carried       {}", around.carried.map_or("nothing".to_owned(), carried)),
        format!("outbox        {} not delivered yet", status.outbox),
        format!("inbox         {} waiting for a chat program here", status.inbox),
        format!(
            "clock         {}",
            if status.clock_credible { "credible" } else { "NOT credible: set date and time" }
        ),
        format!("store         {}", status.store_trouble.as_deref().unwrap_or("in order")),
    ];
    if !around.database.kind.is_empty() {
        lines.push(format!("database      {}", of_database(&around.database, wall_millis())));
    }
    lines.extend(around.outside.as_ref().map(component));
    lines.extend(around.bypass.as_deref().map(of_bypass));
    let trouble = air.into_iter().flat_map(|air| &air.trouble);
    let counters: Vec<String> =
        status.counters.iter().chain(trouble).map(|(what, count)| format!("  {count:>8}  {what}")).collect();
    if !counters.is_empty() {
        lines.push("refused or dropped since the start:".to_owned());
        lines.extend(counters);
    }
    lines.join("\n")
}

fn certified(status: &StatusView, now: u64) -> String {
    let name = |name: &NameView| {
        let (address, until) = (output::plain(&name.address), date(name.until));
        match name.valid {
            true => format!("{address} until {until}, {}", output::until(name.until, now)),
            false => format!("{address} until {until}, which is over: meet the server to renew it"),
        }
    };
    match status.names.is_empty() {
        true => "no names of a server".to_owned(),
        false => status.names.iter().map(name).collect::<Vec<_>>().join(", "),
    }
}

fn servers(status: &StatusView, now: u64) -> String {
    let disputed = status.disputed.iter().map(|domain| {
        let domain = output::plain(domain);
        format!(
            "\n              the key of {domain} is in other hands, nobody can say which follows: enrol again"
        )
    });
    let disputed: String = disputed.collect();
    standing(status, now) + &disputed
}

fn standing(status: &StatusView, now: u64) -> String {
    match status.servers.is_empty() {
        true => "none, nobody here is enrolled".to_owned(),
        false => status.servers.iter().map(|server| of_server(server, now)).collect::<Vec<_>>().join("; "),
    }
}

fn of_server(server: &ServerView, now: u64) -> String {
    let held = match server.held {
        0 => "nothing held".to_owned(),
        1 => "1 change held".to_owned(),
        held => format!("{held} changes held"),
    };
    let synced = match server.synced {
        0 => "never in step yet".to_owned(),
        at => format!(
            "in step {}, by {} out and {} in",
            output::ago(at, now),
            output::bytes(server.sent),
            output::bytes(server.received)
        ),
    };
    let state = match (&server.why, server.since) {
        (Some(why), since) if server.state == "up" => format!("up, {}, but {why}", output::ago(since, now)),
        (Some(why), _) => format!("refuses: {why}"),
        (None, 0) => "not asked yet".to_owned(),
        (None, since) => format!("{}, {}", server.state, output::ago(since, now)),
    };
    let progress =
        server.progress.map(|done| format!(", {} compared", output::done_of(done))).unwrap_or_default();
    let outside = server.outside.as_ref();
    let outside =
        outside.map(|way| format!("; other XMPP: {}, {} held", way.state, way.held)).unwrap_or_default();
    let password = if server.password.is_some() { "; a new password waits for it" } else { "" };
    let beside = match server.others {
        0 => String::new(),
        others => format!("; one of {} servers", others + 1),
    };
    format!(
        "of {}: {state}; {held}{password}; {synced}{progress}{outside}{beside}",
        output::plain(&server.address)
    )
}

fn of_database(database: &Standing, now: u64) -> String {
    let since = output::ago(database.since, now);
    let state = match (&database.why, database.up) {
        (_, true) => format!("there, {since}, a question takes {} µs", database.micros),
        (Some(why), false) => format!("AWAY, {since} ({why}): laptops are told to come again"),
        (None, false) => "not asked yet".to_owned(),
    };
    let leads = if database.leads { "; this process leads" } else { "" };
    format!("{} of the domain that this node serves: {state}{leads}", database.kind)
}

/// The bypass gateway; below it what somebody should look at.
fn of_bypass(bypass: &BypassView) -> String {
    let listen: Vec<String> = bypass.listen.iter().map(ToString::to_string).collect();
    let known = bypass.spoken.iter().map(|(kind, count)| format!("{count} {kind}"));
    let unknown = (bypass.unknown > 0).then(|| format!("{} not understood", bypass.unknown));
    let mut since: Vec<String> = known.chain(unknown).collect();
    if since.is_empty() {
        since.push("none".to_owned());
    }
    let mut lines = vec![format!(
        "bypass        at {}: {} connections of chat programs to their networks, {} being connected; since the start {}, {} out and {} in",
        listen.join(", "),
        bypass.open,
        bypass.connecting,
        since.join(", "),
        output::bytes(bypass.bytes_out),
        output::bytes(bypass.bytes_in)
    )];
    lines.extend(of_certificates(bypass));
    let user =
        |one: &UserView| format!("              {} at {}", output::plain(&one.address), one.destination);
    lines.extend(bypass.users.iter().take(SHOWN).map(user));
    if bypass.users.len() > SHOWN {
        lines.push(format!("              and {} more", bypass.users.len() - SHOWN));
    }
    let alarm = |one: &Trouble| {
        format!("              ALARM {}: {} ({})", one.destination, one.what, times(one.count))
    };
    lines.extend(bypass.alarms.iter().map(alarm));
    let refused = |one: &Trouble| {
        format!(
            "              refused {}: {} ({})",
            output::plain(&one.destination),
            one.what,
            times(one.count)
        )
    };
    lines.extend(bypass.turned_away.iter().take(SHOWN).map(refused));
    lines.join("\n")
}

/// What chat programs have to trust whose TLS ends here.
fn of_certificates(bypass: &BypassView) -> Vec<String> {
    let Some(certificates) = &bypass.certificates else { return Vec::new() };
    let of_others = match bypass.unlisted {
        0 => String::new(),
        others => format!(", {others} of them of accounts that are not listed"),
    };
    let file = certificates.file.display();
    let first = format!(
        "              TLS of {} connections ended here{of_others}; chat programs have to trust {file}",
        bypass.secured
    );
    let each =
        |(domain, fingerprint): (&String, &String)| format!("              {domain}: SHA-256 {fingerprint}");
    std::iter::once(first).chain(certificates.fingerprints.iter().map(each)).collect()
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

fn people(link: &LinkView) -> String {
    match link.mode {
        LinkMode::Off => "Bonjour people are neither looked for nor told of anybody here".to_owned(),
        LinkMode::Listen | LinkMode::Announce => format!(
            "{} Bonjour people shown of {} heard of, {} streams, {} messages on their way",
            link.shown, link.people, link.streams, link.waiting
        ),
    }
}

fn announced(link: &LinkView, air: Option<&LinkReport>) -> String {
    let port = air.and_then(|air| air.port).map(|port| format!(" at port {port}")).unwrap_or_default();
    let beyond = match link.beyond {
        0 => String::new(),
        count => format!(", and {count} more are not, that is too many"),
    };
    match link.announced.is_empty() {
        true => "nobody".to_owned(),
        false => format!("{}{port}{beyond}", output::plain(&link.announced.join(", "))),
    }
}

fn of(traffic: Traffic) -> String {
    format!("{} packets, {}", traffic.packets, output::bytes(traffic.bytes))
}

/// All connections to other nodes together.
fn carried(carried: CarriedView) -> String {
    format!(
        "{} out and {} in by all connections to other nodes; the hash table asked {} questions and was asked {}",
        output::bytes(carried.sent),
        output::bytes(carried.received),
        carried.asked,
        carried.answered
    )
}

/// What goes to single hosts: questions whether Bonjour programs are there, and what is said to other nodes.
fn keep_alives(frames: &FramesView, air: Option<&LinkReport>) -> String {
    let direct = air.map_or("no direct DNS".to_owned(), |air| {
        format!("direct DNS {} sent, {} heard", of(air.sent_direct), of(air.heard_direct))
    });
    format!(
        "{direct}; to other nodes {} heartbeats, {}, beside {} frames, {}; in the last minute",
        frames.heartbeats,
        output::bytes(frames.heartbeat_bytes),
        frames.others,
        output::bytes(frames.other_bytes)
    )
}

/// Both kinds of multicast DNS: that of chat programs and that of other nodes.
fn airtime(air: &LinkReport) -> String {
    format!(
        "multicast DNS {} sent ({} of it by the swarm), {} heard in the last minute; on {}",
        of(air.sent),
        of(air.sent_by_swarm),
        of(air.heard),
        if air.interfaces.is_empty() { "no network".to_owned() } else { air.interfaces.join(", ") }
    )
}

/// Other nodes, and people near without one.
///
/// # Errors
/// When the node cannot be asked.
pub(crate) fn peers(node: &mut Node, json: bool) -> Result<(), Failure> {
    let Reply::Peers(peers) = node.reply(Request::Peers)? else { return Err(confused()) };
    if json {
        output::json(&peers);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = peers.into_iter().map(peer_row).collect();
    output::table(&["NODE", "STATE", "ADDRESS", "USERS"], &rows, "Nobody has been seen.");
    Ok(())
}

fn peer_row(peer: PeerView) -> Vec<String> {
    vec![
        match &peer.tier {
            None => peer.node.chars().take(16).collect(),
            Some(_) => output::plain(&peer.node),
        },
        match (&peer.tier, peer.connected) {
            (Some(tier), _) => tier.clone(),
            (None, true) => "connected".to_owned(),
            (None, false) => "seen".to_owned(),
        },
        peer.address.unwrap_or_default(),
        output::plain(&peer.users.join(", ")),
    ]
}

/// Messages that are not delivered yet.
///
/// # Errors
/// When the node cannot be asked.
pub(crate) fn outbox(node: &mut Node, json: bool) -> Result<(), Failure> {
    let Reply::Outbox(waiting) = node.reply(Request::Outbox)? else { return Err(confused()) };
    if json {
        output::json(&waiting);
        return Ok(());
    }
    let now = wall_millis();
    let rows: Vec<Vec<String>> = waiting.into_iter().map(|entry| outbox_row(entry, now)).collect();
    let headings = ["MESSAGE", "FROM", "TO", "QUEUED", "GIVEN UP", "WAITS FOR"];
    output::table(&headings, &rows, "Everything is delivered.");
    Ok(())
}

fn outbox_row(entry: OutboxView, now: u64) -> Vec<String> {
    vec![
        entry.id.chars().take(8).collect(),
        entry.from,
        entry.to,
        output::ago(entry.queued, now),
        output::until(entry.expires, now),
        entry.waits,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bypass::tls::Certificates;
    use crate::core::upstream::OutsideView;

    #[test]
    fn a_stopped_node_is_not_called_running() {
        let status = StatusView { store_trouble: Some("the disk is full".into()), ..StatusView::default() };
        let text = describe(&status, &Around::default(), false);
        assert!(text.contains("not running") && text.contains("the disk is full"), "{text}");
        assert!(text.contains("NOT credible"));
    }

    #[test]
    fn a_name_is_certified_until_a_day() {
        let name = |until: u64| NameView { address: "anna@school.example".into(), until, valid: until > 0 };
        let status = StatusView { names: vec![name(1_703_980_799_999), name(0)], ..StatusView::default() };
        assert_eq!(
            certified(&status, 1_703_980_799_999 - 7 * 86_400_000),
            "anna@school.example until 2023-12-30, in 7 days, anna@school.example until 1970-01-01, which is over: meet the \
             server to renew it"
        );
    }

    #[test]
    fn the_server_is_shown_with_what_is_held() {
        let server = |state: &str| ServerView {
            address: "anna@school.example".into(),
            node: "ab".into(),
            others: 2,
            state: state.into(),
            since: 1_000,
            why: None,
            synced: 1_000,
            held: 3,
            password: Some(1),
            progress: Some((1, 7)),
            outside: Some(OutsideView { state: "down".into(), held: 2 }),
            sent: 500,
            received: 70,
        };
        let text = of_server(&server("down"), 61_000);
        for part in [
            "anna@school.example",
            "down",
            "3 changes held; a new password waits for it",
            "one of 3 servers",
            "500 B out",
            "1 of 7",
            "other XMPP: down, 2 held",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let refuses = ServerView { why: Some("it has ended".into()), synced: 0, ..server("refused") };
        let text = of_server(&refuses, 61_000);
        assert!(text.contains("refuses: it has ended") && text.contains("never"), "{text}");
    }

    #[test]
    fn the_bypass_gateway_is_shown_with_what_somebody_should_look_at() {
        let trouble = |destination: &str, what: &str| Trouble {
            destination: destination.into(),
            what: what.into(),
            count: 3,
        };
        let user = UserView { address: "romeo@a.example".into(), destination: "a.example:5222".into() };
        let bypass = BypassView {
            listen: vec![([127, 0, 0, 1], 1080).into()],
            open: 2,
            spoken: [("xmpp".to_owned(), 4)].into(),
            unknown: 3,
            users: vec![user.clone(); 8],
            secured: 7,
            unlisted: 2,
            certificates: Some(Certificates {
                file: "/data/bypass-tls.crt".into(),
                fingerprints: [("a.example".to_owned(), "AB:CD".to_owned())].into(),
            }),
            alarms: vec![trouble("irc.example:6667", "speaks xmpp")],
            turned_away: (0..9).map(|port| trouble(&format!("a:{port}"), "destination not listed")).collect(),
            ..BypassView::default()
        };
        let around = Around { bypass: Some(Box::new(bypass)), ..Around::default() };
        let text = describe(&StatusView::default(), &around, true);
        for part in [
            "at 127.0.0.1:1080: 2 connections of chat",
            "4 xmpp, 3 not understood",
            "romeo@a.example at a.example:5222",
            "and 3 more",
            "TLS of 7 connections ended here, 2 of them of accounts that are not listed",
            "trust /data/bypass-tls.crt",
            "a.example: SHA-256 AB:CD",
            "ALARM irc.example:6667: speaks xmpp (3 times)",
            "a:4:",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("a:5:"), "{text}");
        assert!(!describe(&StatusView::default(), &Around::default(), true).contains("bypass"));
    }

    #[test]
    fn the_link_to_other_servers_is_shown_with_why_it_is_down() {
        let why = Some("it does not accept the secret".to_owned());
        let view = ComponentView {
            address: "127.0.0.1:5347".into(),
            state: "down".into(),
            why,
            ..ComponentView::default()
        };
        let around = Around { outside: Some(view), ..Around::default() };
        let text = describe(&StatusView::default(), &around, true);
        assert!(
            text.contains("other XMPP    down at 127.0.0.1:5347: it does not accept the secret"),
            "{text}"
        );
        assert!(!describe(&StatusView::default(), &Around::default(), true).contains("other XMPP"));
    }

    #[test]
    fn what_the_link_costs_is_shown() {
        let link =
            LinkView { announced: vec!["anna@laptop".into()], beyond: 1, shown: 3, ..LinkView::default() };
        let air = LinkReport {
            port: Some(5299),
            interfaces: vec!["wlan0".into()],
            sent: Traffic { packets: 2, bytes: 300 },
            sent_direct: Traffic { packets: 12, bytes: 1_234 },
            trouble: [("attempts to take over a name".to_owned(), 7)].into(),
            ..LinkReport::default()
        };
        let frames = FramesView { heartbeats: 54, heartbeat_bytes: 108, ..FramesView::default() };
        let carried = CarriedView { sent: 20_480, received: 512, asked: 7, answered: 9 };
        let around = Around { air: Some(Box::new(air)), carried: Some(carried), ..Around::default() };
        let text = describe(&StatusView { link, frames, ..StatusView::default() }, &around, true);
        let parts = ["anna@laptop at port 5299", "1 more", "2 packets", "wlan0", "7  attempts"];
        for part in parts.into_iter().chain([
            "12 packets, 1234 B sent",
            "54 heartbeats, 108 B",
            "20 KiB out",
            "asked 7",
        ]) {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
