//! What `doctor` and `status` say of how others reach this node from beyond the link.

use super::Finding;
use crate::admin::reach::{PlaceView, ReachView, UpnpView};
use crate::cli::output;

/// One line for `status`.
pub(in crate::cli) fn summary(report: Option<&ReachView>, now: u64) -> String {
    let Some(report) = report else { return "the hash table is off, or no node runs".to_owned() };
    let mut text = match (report.direct.first(), agreed(report).next()) {
        (Some((address, since)), _) => {
            let more = report.direct.len() - 1;
            let others = if more == 0 { String::new() } else { format!(" and {more} more") };
            format!("directly, at {address}{others}, for {}", output::age(now.saturating_sub(*since)))
        }
        (None, Some(_)) => format!("by relays: {}", places(report)),
        (None, None) if report.unreachable => "not at all: see `crosstalk doctor`".to_owned(),
        (None, None) if report.beyond == 0 => "nobody there is connected".to_owned(),
        (None, None) => "not known yet".to_owned(),
    };
    if report.relays_others {
        text.push_str(&format!("; relays {} conversations of others", report.circuits));
    }
    text
}

/// What is wrong, and what to do about it.
pub(super) fn reach(report: Option<&ReachView>, table: bool, runs: bool, now: u64, port: u16) -> Finding {
    if !table {
        let text = "people beyond this network are not found: `table` in [overlay] is \"off\"";
        return Finding::ok("reach", text);
    }
    let Some(report) = report.filter(|_| runs) else {
        return Finding::ok("reach", "known while the node runs");
    };
    if !report.direct.is_empty() || (!report.unreachable && agreed(report).next().is_some()) {
        return Finding::ok(
            "reach",
            format!("others beyond this network reach this node {}", summary(Some(report), now)),
        );
    }
    if !report.unreachable {
        return Finding::ok("reach", unknown(report));
    }
    let why = why(report);
    if agreed(report).next().is_some() {
        let text = format!(
            "others beyond this network reach this node by relays: {}. Not directly: {why}",
            places(report)
        );
        return Finding::ok("reach", format!("{text}; to be reached directly, {}", remedy(report, port)));
    }
    let relays = match report.relays.len() + report.known_relays {
        0 => "no relay is known: name one in `relays` in [overlay]".to_owned(),
        known => format!("{known} relays are known and none has a place for this node yet"),
    };
    let text = format!("others beyond this network cannot reach this node: {why}; {relays}");
    Finding::warn("reach", format!("{text}; or {}", remedy(report, port)))
}

fn unknown(report: &ReachView) -> String {
    match report.beyond {
        0 => "no node beyond this network is connected now: if none ever is, name one in `bootstrap` in [overlay]".to_owned(),
        count => format!("{count} nodes beyond this network are connected; whether others reach this one shows in a minute"),
    }
}

fn why(report: &ReachView) -> String {
    match report.failed.as_slice() {
        [] => "no address of it is confirmed".to_owned(),
        failed => format!("they have tried {} in vain", failed.join(", ")),
    }
}

fn remedy(report: &ReachView, port: u16) -> String {
    let forward = format!("have the router pass TCP and UDP port {port} on to this machine");
    match report.upnp {
        UpnpView::Off => format!("{forward}, or set `upnp` in [overlay]"),
        UpnpView::Searching => format!("wait a moment (the router is being asked), or {forward}"),
        UpnpView::NoGateway => format!("{forward}, or switch UPnP on in the router, which does not answer"),
        UpnpView::NotPublic => {
            "have the provider give the router a public address: it is behind another router".to_owned()
        }
        UpnpView::Mapped => {
            format!("look for a firewall before port {port}: the router says that it lets others in")
        }
        UpnpView::NotNeeded | UpnpView::NoRouter => {
            format!("let TCP and UDP port {port} through the firewall of this machine and network")
        }
    }
}

fn agreed(report: &ReachView) -> impl Iterator<Item = &PlaceView> {
    report.relays.iter().filter(|place| place.since.is_some())
}

fn places(report: &ReachView) -> String {
    agreed(report).map(|place| place.address.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn of(report: &ReachView) -> Finding {
        reach(Some(report), true, true, 60_000, 14_774)
    }

    fn place(since: Option<u64>) -> PlaceView {
        PlaceView { relay: "12D3KooW".into(), address: "/ip4/192.0.2.1/tcp/14774".into(), since }
    }

    #[test]
    fn each_state_is_named_with_what_to_do() {
        let direct =
            ReachView { direct: vec![("/ip4/192.0.2.7/tcp/14774".into(), 0)], ..ReachView::default() };
        assert!(of(&direct).text.contains("directly, at /ip4/192.0.2.7/tcp/14774, for 1 min"));
        let failed = vec!["/ip4/192.0.2.9/tcp/14774".to_owned()];
        let alone = ReachView { unreachable: true, failed, ..ReachView::default() };
        let finding = of(&alone);
        assert_eq!(finding.level, Level::Warn);
        for part in ["192.0.2.9", "no relay is known", "port 14774"] {
            assert!(finding.text.contains(part), "{part}: {}", finding.text);
        }
        let asked = ReachView { relays: vec![place(None)], ..alone.clone() };
        assert_eq!(of(&asked).level, Level::Warn);
        let relayed = ReachView { relays: vec![place(Some(5))], upnp: UpnpView::NoGateway, ..alone };
        let finding = of(&relayed);
        assert_eq!(finding.level, Level::Ok);
        for part in ["by relays: /ip4/192.0.2.1", "switch UPnP on"] {
            assert!(finding.text.contains(part), "{part}: {}", finding.text);
        }
    }

    #[test]
    fn who_knows_nobody_outside_is_told_how_to_begin() {
        assert!(of(&ReachView::default()).text.contains("bootstrap"));
        assert!(of(&ReachView { beyond: 2, ..ReachView::default() }).text.contains("in a minute"));
        assert!(reach(None, false, true, 0, 1).text.contains("table"));
    }
}
