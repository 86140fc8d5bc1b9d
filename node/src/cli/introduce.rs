//! `crosstalk authority domain …`: other domains, which the server of a domain introduces to its users.

use clap::Subcommand;

use super::authority::{ask, change};
use super::failure::Failure;
use super::{Node, confused, output};
use crate::authority::{Answer, IntroducedView, Question};
use crate::event_loop::clock::wall_millis;
use crate::well_known::PATH;

/// What can be done with other domains.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tell all users which key speaks for another domain: compare it with whoever runs that one
    Introduce {
        /// The other domain, as in NAME@DOMAIN
        domain: String,
        /// Its key, 64 digits: `crosstalk authority show` on its server prints it
        #[arg(required_unless_present = "well_known", conflicts_with = "well_known")]
        key: Option<String>,
        /// Take the key from the other domain's web server, as far as the web's certificates go
        #[arg(long)]
        well_known: bool,
    },
    /// The domains that are introduced
    List,
    /// Take an introduction back: users believe that domain's names no longer
    Withdraw {
        /// The other domain
        domain: String,
    },
    /// Print what this domain's own web server is to show, so that others can fetch its key
    Document,
}

/// Carries out a command.
///
/// # Errors
/// When the node refuses, or cannot be asked.
pub(crate) fn execute(command: Command, node: &mut Node, json: bool) -> Result<(), Failure> {
    match command {
        Command::Introduce { domain, key, .. } => {
            let text = format!(
                "{domain} is introduced. Laptops hear of it at their next sync, and follow when its key is handed over."
            );
            change(node, Question::Introduce { domain, key }, &text, json)
        }
        Command::Withdraw { domain } => {
            let text = format!("{domain} is not introduced any more. Laptops hear of it at their next sync.");
            change(node, Question::Withdraw { domain }, &text, json)
        }
        Command::List => match ask(node, Question::Introduced)? {
            Answer::Introduced(domains) if json => {
                output::json(&domains);
                Ok(())
            }
            Answer::Introduced(domains) => {
                let now = wall_millis();
                let rows: Vec<Vec<String>> = domains.into_iter().map(|one| row(one, now)).collect();
                output::table(&["DOMAIN", "KEY", "SIGNED", "ENDS"], &rows, "No other domain is introduced.");
                Ok(())
            }
            _ => Err(confused()),
        },
        Command::Document => match ask(node, Question::Document)? {
            Answer::Document(document) => {
                output::json(&document);
                if !json {
                    output::complain(format!(
                        "The web server of the domain shows this at {PATH}, over HTTPS, without a redirect. Put it there anew \
                         when the key was handed over."
                    ));
                }
                Ok(())
            }
            _ => Err(confused()),
        },
    }
}

fn row(one: IntroducedView, now: u64) -> Vec<String> {
    let key = one.key.map_or_else(|| "taken back".to_owned(), |key| key.chars().take(8).collect());
    vec![output::plain(&one.domain), key, output::ago(one.since, now), output::until(one.until, now)]
}
