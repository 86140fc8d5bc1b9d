//! `crosstalk status`, `peers` and `outbox`: what the node is doing.

use super::failure::Failure;
use super::{Node, confused, output};
use crate::admin::Request;
use crate::core::admin::{OutboxView, PeerView, Reply, StatusView};
use crate::event_loop::clock::wall_millis;

/// What the node is doing.
///
/// # Errors
/// When it cannot be asked.
pub(crate) fn status(node: &mut Node, json: bool) -> Result<(), Failure> {
    let runs = node.runs();
    let Reply::Status(status) = node.reply(Request::Status)? else { return Err(confused()) };
    if json {
        let mut value = serde_json::to_value(&status).unwrap_or_default();
        value["running"] = runs.into();
        output::json(&value);
        return Ok(());
    }
    output::line(describe(&status, runs));
    Ok(())
}

fn describe(status: &StatusView, runs: bool) -> String {
    let state = match runs {
        true => format!("running for {}", output::age(status.uptime)),
        false => "not running".to_owned(),
    };
    let mut lines = vec![
        format!("CrossTalk {}, {state}", status.version),
        format!("node          {}", status.node),
        format!("domain        {}", status.domain.as_deref().unwrap_or("none, addresses are self-certified")),
        format!("accounts      {}", status.accounts),
        format!("sessions      {}, {} of them waiting to be resumed", status.sessions, status.detached),
        format!("other nodes   {} connected", status.peers),
        format!("neighbours    {}", status.neighbours),
        format!("outbox        {} not delivered yet", status.outbox),
        format!("inbox         {} waiting for a chat program here", status.inbox),
        format!(
            "clock         {}",
            if status.clock_credible { "credible" } else { "NOT credible: set date and time" }
        ),
        format!("store         {}", status.store_trouble.as_deref().unwrap_or("in order")),
    ];
    if !status.counters.is_empty() {
        lines.push("refused or dropped since the start:".to_owned());
        lines.extend(status.counters.iter().map(|(what, count)| format!("  {count:>8}  {what}")));
    }
    lines.join("\n")
}

/// Other nodes.
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
    output::table(&["NODE", "STATE", "ADDRESS", "USERS"], &rows, "No other node has been seen.");
    Ok(())
}

fn peer_row(peer: PeerView) -> Vec<String> {
    vec![
        peer.node.chars().take(16).collect(),
        if peer.connected { "connected" } else { "seen" }.to_owned(),
        peer.address.unwrap_or_default(),
        peer.users.join(", "),
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

    #[test]
    fn a_stopped_node_is_not_called_running() {
        let status = StatusView { store_trouble: Some("the disk is full".into()), ..StatusView::default() };
        let text = describe(&status, false);
        assert!(text.contains("not running") && text.contains("the disk is full"), "{text}");
        assert!(text.contains("NOT credible"));
    }
}
