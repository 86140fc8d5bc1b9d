//! The figures, as Prometheus reads them (text format 0.0.4). *Pure.*

use crate::authority::standing::{Figures, Standing};
use crate::bypass::BypassView;
use crate::core::admin::StatusView;
use crate::upstream::ComponentView;

/// All figures. Labels are words of this program, never of people.
pub(super) fn figures(status: &StatusView, database: &Standing, of: &Figures, flushes: u64) -> String {
    let mut text = Text(String::new());
    text.gauge("uptime_seconds", "Since the node was started", status.uptime / 1_000);
    text.gauge("accounts", "Accounts of this node", status.accounts as u64);
    text.gauge("sessions", "Sessions of chat programs", status.sessions as u64);
    text.gauge("sessions_detached", "Of them, those that wait to be resumed", status.detached as u64);
    text.gauge("peers", "Other nodes that are connected", status.peers as u64);
    text.gauge("neighbours", "People shown in Nearby", status.neighbours as u64);
    text.gauge("outbox_messages", "Messages that are not delivered yet", status.outbox as u64);
    text.gauge("inbox_messages", "Messages that wait for a chat program here", status.inbox as u64);
    text.gauge("clock_credible", "1: the clock is believed", status.clock_credible.into());
    text.gauge("store_up", "1: the node's store can be written", status.store_trouble.is_none().into());
    text.counter("store_flushes_total", "Write-sets made durable together, since the start", flushes);
    let frames = [
        ("heartbeat", status.frames.heartbeats, status.frames.heartbeat_bytes),
        ("other", status.frames.others, status.frames.other_bytes),
    ];
    text.kind("overlay_frames_last_minute", "Frames sent to other nodes in the last minute", "gauge");
    frames
        .iter()
        .for_each(|(kind, count, _)| text.labelled("overlay_frames_last_minute", "kind", kind, *count));
    text.kind("overlay_bytes_last_minute", "Bytes sent to other nodes in the last minute", "gauge");
    frames
        .iter()
        .for_each(|(kind, _, bytes)| text.labelled("overlay_bytes_last_minute", "kind", kind, *bytes));
    text.kind("refused_total", "What was refused or dropped since the start", "counter");
    status.counters.iter().for_each(|(why, count)| text.labelled("refused_total", "why", why, *count));
    text.kind("store_entries", "Entries of the node's store", "gauge");
    status.trees.iter().for_each(|(tree, (count, _))| text.labelled("store_entries", "tree", tree, *count));
    if !database.kind.is_empty() {
        authority(&mut text, database, of);
    }
    text.0
}

fn authority(text: &mut Text, database: &Standing, of: &Figures) {
    text.gauge("authority_database_up", "1: the database of the domain can be asked", database.up.into());
    let name = "authority_database_microseconds";
    text.gauge(name, "What a question to it takes; the newest counts an eighth", database.micros);
    text.gauge("authority_leads", "1: of the processes of this server this one leads", database.leads.into());
    text.gauge("authority_users", "Users of the domain", of.users);
    text.kind(
        "authority_changes_total",
        "Lines of the audit log by this process, since the start",
        "counter",
    );
    of.told.iter().for_each(|(what, count)| text.labelled("authority_changes_total", "what", what, *count));
    text.kind(
        "authority_refused_total",
        "Questions of laptops that were refused, since the start",
        "counter",
    );
    of.refused.iter().for_each(|(why, count)| text.labelled("authority_refused_total", "why", why, *count));
    text.counter("authority_sync_passes_total", "Passes of laptops that began, since the start", of.passes);
    text.kind("authority_sync_bytes_total", "Bytes of their questions and answers", "counter");
    text.labelled("authority_sync_bytes_total", "way", "in", of.bytes_in);
    text.labelled("authority_sync_bytes_total", "way", "out", of.bytes_out);
    let name = "authority_database_commit_seconds";
    text.kind(name, "What it took to make a change of the database durable", "summary");
    text.value(&format!("{name}_sum"), &seconds(of.commit_micros));
    text.value(&format!("{name}_count"), &of.commits.to_string());
    if let Some(view) = &of.outside {
        outside(text, view, of);
    }
}

/// The figures of the bypass gateway.
pub(super) fn bypass(view: &BypassView) -> String {
    let mut text = Text(String::new());
    text.gauge("bypass_connections", "Connections of chat programs to their networks", view.open as u64);
    text.gauge("bypass_connecting", "Chat programs that are being connected", view.connecting as u64);
    let name = "bypass_connections_total";
    text.kind(name, "Connections by the protocol that both sides spoke, since the start", "counter");
    let unknown = ("unknown", &view.unknown);
    let spoken = view.spoken.iter().map(|(kind, count)| (kind.as_str(), count));
    spoken.chain([unknown]).for_each(|(kind, count)| text.labelled(name, "kind", kind, *count));
    text.counter("bypass_secured_total", "Connections whose TLS ended here", view.secured);
    text.counter("bypass_unlisted_total", "Of these, those of accounts that are not listed", view.unlisted);
    text.kind("bypass_refused_total", "Connections that were refused, since the start", "counter");
    view.refused.iter().for_each(|(why, count)| text.labelled("bypass_refused_total", "why", why, *count));
    text.kind(
        "bypass_bytes_total",
        "Bytes of chat programs and of their networks, since the start",
        "counter",
    );
    text.labelled("bypass_bytes_total", "way", "out", view.bytes_out);
    text.labelled("bypass_bytes_total", "way", "in", view.bytes_in);
    text.0
}

/// The link to other servers.
fn outside(text: &mut Text, view: &ComponentView, of: &Figures) {
    text.gauge("outside_up", "1: the XMPP server is connected", (view.state == "up").into());
    text.gauge("outside_laptops", "Laptops that are here", of.passed.laptops);
    text.gauge(
        "outside_held",
        "Stanzas for outside that the XMPP server has not handled yet",
        view.held as u64,
    );
    text.gauge(
        "outside_waiting",
        "Stanzas from outside that laptops have not fetched yet",
        view.waiting as u64,
    );
    let done = [
        ("in", of.passed.taken_in),
        ("fetched", of.passed.fetched),
        ("out", of.passed.taken_out),
        ("handled", of.passed.handled),
    ];
    let name = "outside_messages_total";
    let help = "Messages: taken in from outside, fetched by all laptops, taken of laptops, handled by the XMPP server";
    text.kind(name, help, "counter");
    done.iter().for_each(|(outcome, count)| text.labelled(name, "outcome", outcome, *count));
    text.kind("outside_refused_total", "What was refused or dropped on the way, since the start", "counter");
    view.refused.iter().for_each(|(why, count)| text.labelled("outside_refused_total", "why", why, *count));
}

fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

struct Text(String);

impl Text {
    fn kind(&mut self, name: &str, help: &str, kind: &str) {
        self.0.push_str(&format!("# HELP crosstalk_{name} {help}.\n# TYPE crosstalk_{name} {kind}\n"));
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.kind(name, help, "gauge");
        self.0.push_str(&format!("crosstalk_{name} {value}\n"));
    }

    fn value(&mut self, name: &str, value: &str) {
        self.0.push_str(&format!("crosstalk_{name} {value}\n"));
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.kind(name, help, "counter");
        self.0.push_str(&format!("crosstalk_{name} {value}\n"));
    }

    fn labelled(&mut self, name: &str, label: &str, word: &str, value: u64) {
        let word: String = word.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).collect();
        self.0.push_str(&format!("crosstalk_{name}{{{label}=\"{word}\"}} {value}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line is a comment or `NAME{LABEL="WORD"} NUMBER`, each name is explained before it is used, and once.
    #[test]
    fn every_line_is_one_that_prometheus_reads() {
        let status = StatusView {
            sessions: 3,
            counters: [("a \"word\"\n\\ of ours".to_owned(), 7)].into(),
            ..StatusView::default()
        };
        let database = Standing { kind: "PostgreSQL".into(), up: true, ..Standing::default() };
        let outside = ComponentView {
            state: "up".to_owned(),
            refused: [("letters of strangers".to_owned(), 4)].into(),
            ..ComponentView::default()
        };
        let of = Figures {
            told: [("name issued".to_owned(), 2)].into(),
            users: 9,
            commits: 3,
            commit_micros: 1_020_000,
            outside: Some(outside),
            ..Figures::default()
        };
        let through = BypassView {
            spoken: [("irc".to_owned(), 6)].into(),
            refused: [("destination not listed".to_owned(), 8)].into(),
            bytes_in: 11,
            ..BypassView::default()
        };
        let text = figures(&status, &database, &of, 5) + &bypass(&through);
        let mut known = std::collections::BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                assert!(known.insert(rest.split(' ').next().expect("a name").to_owned()), "{line}");
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').expect("a value");
                let name = name.split('{').next().expect("a name");
                let of_summary = name.strip_suffix("_sum").or(name.strip_suffix("_count"));
                assert!(known.contains(of_summary.unwrap_or(name)), "{line}");
                assert!(value.parse::<f64>().is_ok() && line.matches('"').count() % 2 == 0, "{line}");
            }
        }
        for line in [
            "crosstalk_sessions 3",
            "crosstalk_store_flushes_total 5",
            "crosstalk_refused_total{why=\"a word of ours\"} 7",
            "crosstalk_authority_changes_total{what=\"name issued\"} 2",
            "crosstalk_authority_users 9",
            "crosstalk_authority_database_commit_seconds_sum 1.020000",
            "crosstalk_authority_database_commit_seconds_count 3",
            "crosstalk_outside_up 1",
            "crosstalk_bypass_connections_total{kind=\"irc\"} 6",
            "crosstalk_bypass_connections_total{kind=\"unknown\"} 0",
            "crosstalk_bypass_refused_total{why=\"destination not listed\"} 8",
            "crosstalk_bypass_bytes_total{way=\"in\"} 11",
            "crosstalk_outside_refused_total{why=\"letters of strangers\"} 4",
        ] {
            assert!(text.contains(&format!("\n{line}\n")), "{line}");
        }
        assert!(
            !figures(&status, &Standing::default(), &of, 5).contains("authority"),
            "no server, no figures of one"
        );
    }
}
