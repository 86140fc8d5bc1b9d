//! `crosstalk domain …`: domains of others, and which key speaks for each.

use clap::Subcommand;

use super::failure::Failure;
use super::{Node, confused, output};
use crate::admin::Request;
use crate::core::admin::Reply;
use crate::core::domains::KnownDomainView;
use crate::event_loop::clock::wall_millis;

/// What can be done with domains of others.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Domains whose key is known, and how each was learnt
    List,
    /// All that is known of one
    Show {
        /// The domain, as in NAME@DOMAIN
        domain: String,
    },
    /// Say which key speaks for a domain: as whoever runs it has told you, by telephone or on paper
    Trust {
        /// The domain, as in NAME@DOMAIN
        domain: String,
        /// The key, 64 digits: `crosstalk authority show` on its server prints it
        key: String,
    },
    /// Ask the web server of a domain for its key: the web server, and whoever watches the line, learns that somebody here asks
    Fetch {
        /// The domain, as in NAME@DOMAIN
        domain: String,
    },
    /// Forget the key of a domain: its names are claims from then on, until its key is learnt anew
    Forget {
        /// The domain, as in NAME@DOMAIN
        domain: String,
    },
}

/// Carries out a command.
///
/// # Errors
/// When the node refuses, or cannot be asked.
pub(crate) fn execute(command: Command, node: &mut Node, json: bool) -> Result<(), Failure> {
    match command {
        Command::List => {
            let domains = domains(node, Request::Domains)?;
            if json {
                output::json(&domains);
                return Ok(());
            }
            let rows: Vec<Vec<String>> = domains.iter().map(row).collect();
            output::table(&["DOMAIN", "KEY", "LEARNT", ""], &rows, "No domains.");
        }
        Command::Show { domain } => {
            let found = domains(node, Request::Domains)?.into_iter().find(|known| known.domain == domain);
            let found = found.ok_or_else(|| {
                let text =
                    format!("no key of {domain} is known: `crosstalk domain list` shows those that are");
                Failure::Refused(text)
            })?;
            shown(&found, json);
        }
        Command::Trust { domain, key } => {
            learnt(domains(node, Request::TrustDomain { domain, key })?, json)?;
        }
        Command::Fetch { domain } => learnt(domains(node, Request::FetchDomain { domain })?, json)?,
        Command::Forget { domain } => {
            let text = format!("{domain} is forgotten.");
            node.reply(Request::ForgetDomain { domain })?;
            output::line(if json { "{\"ok\":true}" } else { &text });
        }
    }
    Ok(())
}

fn domains(node: &mut Node, request: Request) -> Result<Vec<KnownDomainView>, Failure> {
    match node.reply(request)? {
        Reply::Domains(domains) => Ok(domains),
        _ => Err(confused()),
    }
}

fn learnt(domains: Vec<KnownDomainView>, json: bool) -> Result<(), Failure> {
    shown(domains.first().ok_or_else(confused)?, json);
    Ok(())
}

fn shown(known: &KnownDomainView, json: bool) {
    match json {
        true => output::json(known),
        false => output::line(text(known, wall_millis())),
    }
}

/// How a key was learnt.
fn how(known: &KnownDomainView) -> String {
    let by = known.introduced_by.iter().map(|by| output::plain(&by.domain)).collect::<Vec<_>>().join(", ");
    match known.how.as_str() {
        "own" => "this node itself".to_owned(),
        "enrolled" => "by enrolling".to_owned(),
        "by-hand" => "told by a person here".to_owned(),
        "introduced" => format!("introduced by {by}"),
        "well-known" => {
            format!("from https://{}, as the web's certificates go", output::plain(&known.domain))
        }
        _ => "seen first, from somebody who says so: names are claims".to_owned(),
    }
}

fn row(known: &KnownDomainView) -> Vec<String> {
    let alarm = match (known.disputed.is_empty(), known.claimed.is_empty()) {
        (false, _) => "IN DISPUTE",
        (true, false) => "ANOTHER KEY IS CLAIMED",
        (true, true) => "",
    };
    let key: String = known.key.chars().take(8).collect();
    vec![output::plain(&known.domain), key, how(known), alarm.to_owned()]
}

fn text(known: &KnownDomainView, now: u64) -> String {
    let mut lines = vec![
        format!("domain        {}", output::plain(&known.domain)),
        format!("key           {}", known.key),
        format!("learnt        {}", how(known)),
        format!("names         {}", if known.counts { "are believed" } else { "are claims" }),
    ];
    if known.handed_over > 0 {
        lines.push(format!("handed over   {} times that are known", known.handed_over));
    }
    for by in &known.introduced_by {
        lines.push(format!(
            "introduced    by {} until {}",
            output::plain(&by.domain),
            output::until(by.until, now)
        ));
    }
    for key in &known.disputed {
        lines.push(format!("in dispute    {key} is said to follow"));
    }
    for key in &known.claimed {
        lines.push(format!("claimed with  {key}"));
    }
    if !known.disputed.is_empty() || !known.claimed.is_empty() {
        let domain = output::plain(&known.domain);
        lines.push(format!("ask whoever runs {domain} which is right: crosstalk domain trust {domain} KEY"));
    }
    lines.join("\n")
}
