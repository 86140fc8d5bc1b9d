//! `crosstalk lookup ADDRESS`: how somebody is found in the hash table.

use super::failure::Failure;
use super::{Node, confused, output};
use crate::admin::Request;
use crate::core::admin::Reply;
use crate::core::lookup::{AskedView, LookupView, StepView};

/// Looks somebody up and shows each question.
///
/// # Errors
/// When the address is none, or the node cannot be asked.
pub(crate) fn execute(address: String, node: &mut Node, json: bool) -> Result<(), Failure> {
    if node.runs() && !json {
        output::complain("Asking other nodes ...");
    }
    let Reply::Lookup(lookup) = node.reply(Request::Lookup { address: address.clone() })? else {
        return Err(confused());
    };
    match json {
        true => output::json(&lookup),
        false => output::line(describe(&address, &lookup, node.runs())),
    }
    Ok(())
}

fn describe(address: &str, lookup: &LookupView, runs: bool) -> String {
    let who = lookup.xid.as_deref().unwrap_or("not found");
    let mut lines = vec![format!("{address} is {who}")];
    if let Some(tier) = &lookup.tier {
        lines.push(format!("  tier {tier}, {} to this node", lookup.reach));
    }
    if lookup.steps.is_empty() {
        lines.push(nobody_asked(lookup, runs).to_owned());
    }
    lines.extend(lookup.steps.iter().flat_map(step));
    output_lines(&lines)
}

fn nobody_asked(lookup: &LookupView, runs: bool) -> &'static str {
    match (runs, lookup.xid.is_some()) {
        (false, _) => "No node runs, so nobody was asked: start it with `crosstalk`.",
        (true, true) => {
            "This node knows no other node of the hash table yet: join a network with one, or set `bootstrap` in [overlay]."
        }
        (true, false) => {
            "Nobody was asked: the authority of that domain is not known here, or no other node is. Ask for the person's XID."
        }
    }
}

fn step(step: &StepView) -> Vec<String> {
    let mut lines = vec![
        step.what.clone(),
        format!("  key {}", step.key),
        format!(
            "  {} nodes asked, {} answered, {} failed, {} ms",
            step.asked, step.answered, step.failed, step.millis
        ),
    ];
    lines.extend(step.path.iter().enumerate().map(asked));
    lines.extend(step.hops.map(|hops| format!("  the first that counts came over {hops} hops")));
    if step.values.is_empty() {
        lines.push("  nothing found".to_owned());
    }
    for value in &step.values {
        let verdict = if value.counts { "every signature fits" } else { "does NOT count" };
        lines.push(format!("  {} bytes, {verdict}", value.bytes));
        lines.extend(value.says.iter().map(|line| format!("    {line}")));
    }
    lines
}

fn asked((place, asked): (usize, &AskedView)) -> String {
    let AskedView { node, told_by, hops, millis, said } = asked;
    let by = told_by.as_ref().map_or_else(|| "known here".to_owned(), |teller| format!("named by {teller}"));
    format!("  {:>3}. {node}, {by}, hop {hops}, {millis} ms: {said}", place + 1)
}

fn output_lines(lines: &[String]) -> String {
    lines.iter().map(|line| output::plain(line)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::lookup::ValueView;

    #[test]
    fn what_does_not_count_is_called_so() {
        let asked = |told_by: Option<String>| AskedView {
            node: "beef…".into(),
            hops: 1 + u32::from(told_by.is_some()),
            told_by,
            millis: 17,
            said: "has a value that counts".into(),
        };
        let value = |counts| ValueView { bytes: 300, counts, says: vec!["a line".into()] };
        let found = StepView {
            what: "user record of 12ab…".into(),
            key: "00ff".into(),
            asked: 4,
            answered: 3,
            failed: 1,
            millis: 120,
            hops: Some(2),
            path: vec![asked(None), asked(Some("cafe…".into()))],
            values: vec![value(true), value(false)],
        };
        let lookup =
            LookupView { xid: Some("00aa@id.internal".into()), steps: vec![found], ..LookupView::default() };
        let text = describe("juliet@school.example", &lookup, true);
        for part in [
            "00aa@id.internal",
            "4 nodes asked, 3 answered",
            "every signature fits",
            "does NOT count",
            "a line",
            "beef…, known here, hop 1, 17 ms",
            "2. beef…, named by cafe…, hop 2",
            "over 2 hops",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_person_is_told_why_nobody_was_asked() {
        let text = describe("juliet@school.example", &LookupView::default(), true);
        assert!(text.contains("authority") && text.contains("not found"), "{text}");
        assert!(describe("x", &LookupView::default(), false).contains("start it"));
    }
}
