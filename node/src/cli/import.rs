//! `crosstalk authority user import`: users of another server from its export (XEP-0227), as Prosody and ejabberd make them.
//!
//! All of it is read once before anything is changed, and then again, some users at a time: a file with a mistake changes
//! nothing. What breaks off later is begun again: who is there already stays as it is.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::failure::Failure;
use super::{Node, confused, output};
use crate::accounts::random;
use crate::admin::{Request, Response};
use crate::authority::import::{AT_ONCE, ImportView, ImportedUser};
use crate::authority::{Answer, Question};
use crate::c2s::credentials::SALT_BYTES;
use crate::xmpp::pie::{Document, Piece};

pub mod user;

use user::{Making, is_wanted};

/// Files inside each other.
const DEPTH: usize = 4;
/// Files of one import.
const FILES: usize = 100_000;
/// Bytes of one request, about: a quarter of what the node takes, as one user alone may be more.
const BATCH: usize = 512 * 1_024;
/// Names that are printed of those who were passed over.
const SHOWN: usize = 20;

/// What to import.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The export: a file, or a directory with all of its files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Take the users of this domain, under the domain of this server [default: those of the same domain]
    #[arg(long, value_name = "DOMAIN")]
    host: Option<String>,
    /// Say what would become of it, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// What is to be said at the end.
#[derive(Default, serde::Serialize)]
struct Report {
    #[serde(flatten)]
    view: ImportView,
    /// Users of other domains in the export.
    elsewhere: u64,
    /// What was left out of users, in words.
    left_out: Vec<String>,
    dry_run: bool,
}

/// Imports.
///
/// # Errors
/// When the export cannot be read, or the server refuses.
pub(crate) fn execute(args: &Args, node: &mut Node, json: bool) -> Result<(), Failure> {
    let domain = match node.ask(Request::Authority(Question::Show))? {
        Response::Authority(Answer::Domain(view)) => view.domain,
        _ => return Err(confused()),
    };
    let host = args.host.as_deref().unwrap_or(&domain);
    let files = listed(&args.files)?;
    let mut users = 0_usize;
    // First everything is looked at, and nothing sent.
    let mut export = Export::new(&domain, host, false);
    for file in &files {
        export.read(file, &mut |_| {
            users += 1;
            Ok(())
        })?;
    }
    if users == 0 && export.left_out.is_empty() {
        return Err(Failure::Refused(nobody(&files, host, export.elsewhere)));
    }
    let mut report = Report {
        elsewhere: export.elsewhere,
        left_out: export.left_out,
        dry_run: args.dry_run,
        ..Report::default()
    };
    let progress = output::Progress::new(json);
    let mut batch =
        Batch { node, users: Vec::new(), bytes: 0, done: 0, all: users, really: !args.dry_run, progress };
    let mut export = Export::new(&domain, host, true);
    for file in &files {
        export.read(file, &mut |user| batch.add(user, &mut report.view))?;
    }
    batch.send(&mut report.view)?;
    batch.progress.end();
    if json {
        output::json(&report);
    } else {
        say(&report, host);
    }
    Ok(())
}

/// Why an export brings nobody, and what to do.
fn nobody(files: &[PathBuf], host: &str, elsewhere: u64) -> String {
    match elsewhere {
        _ if files.is_empty() => {
            "there is no file that ends in .xml: name the files of the export, or the directory that they are in".to_owned()
        }
        0 => format!("there are no users of {host} in that export: is it the right one?"),
        others => format!(
            "there are no users of {host} in that export, but {others} of other domains: name the one that is meant by --host DOMAIN"
        ),
    }
}

/// Files of a directory go in their order, so that one that includes others comes before them.
fn listed(files: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut all = Vec::new();
    for file in files {
        if !file.is_dir() {
            all.push(file.clone());
            continue;
        }
        let mut inside = Vec::new();
        for entry in fs::read_dir(file).map_err(Failure::system("read that directory"))? {
            let path = entry.map_err(Failure::system("read that directory"))?.path();
            if path.extension().is_some_and(|extension| extension == "xml") {
                inside.push(path);
            }
        }
        inside.sort();
        all.extend(inside);
    }
    Ok(all)
}

/// The files of an export, as they are read.
struct Export<'a> {
    domain: &'a str,
    host: &'a str,
    /// Passwords are made into what is sent: that takes time.
    really: bool,
    seen: BTreeSet<PathBuf>,
    elsewhere: u64,
    left_out: Vec<String>,
}

type Take<'a> = dyn FnMut(ImportedUser) -> Result<(), Failure> + 'a;

impl<'a> Export<'a> {
    fn new(domain: &'a str, host: &'a str, really: bool) -> Self {
        Self { domain, host, really, seen: BTreeSet::new(), elsewhere: 0, left_out: Vec::new() }
    }

    fn read(&mut self, path: &Path, take: &mut Take<'_>) -> Result<(), Failure> {
        self.read_file(path, None, 0, take)
    }

    fn read_file(
        &mut self,
        path: &Path,
        host: Option<String>,
        depth: usize,
        take: &mut Take<'_>,
    ) -> Result<(), Failure> {
        let wrong = |why: &dyn std::fmt::Display| {
            Failure::Refused(format!("{}: {why}; nothing was imported", path.display()))
        };
        let known = fs::canonicalize(path).map_err(|why| wrong(&why))?;
        if !self.seen.insert(known) {
            return Ok(());
        }
        if depth >= DEPTH || self.seen.len() > FILES {
            return Err(wrong(&"too many files that include each other"));
        }
        let file = File::open(path).map_err(|why| wrong(&why))?;
        let mut document = Document::new(BufReader::new(file), is_wanted);
        let mut host = host;
        let mut making: Option<Making> = None;
        while let Some(piece) = document.next_piece().map_err(|why| wrong(&why))? {
            match piece {
                Piece::Host(element) => host = element.get_attr("jid").map(str::to_lowercase),
                Piece::User(element) => {
                    // A file of one user may have no host around it.
                    let here = host.as_deref().is_none_or(|host| host == self.host);
                    self.elsewhere += u64::from(!here);
                    let salt = random::bytes::<SALT_BYTES>().map_err(|why| wrong(&why))?;
                    let salt = self.really.then_some(salt);
                    let made =
                        here.then(|| Making::new(&element, (self.host, self.domain), salt)).transpose();
                    making = made.map_err(|why| wrong(&document.wrong(why)))?;
                }
                Piece::Child(child) => {
                    let added = making.as_mut().map_or(Ok(()), |making| making.add(&child));
                    added.map_err(|why| wrong(&document.wrong(why)))?;
                }
                Piece::UserEnd => {
                    if let Some(made) = making.take() {
                        let (user, left_out) = made.done();
                        self.left_out.extend(left_out);
                        take(user)?;
                    }
                }
                Piece::Include(element) => {
                    let inner = included(path, element.get_attr("href").unwrap_or_default());
                    let inner = inner.ok_or_else(|| {
                        wrong(&document.wrong("only files of the same directory are included"))
                    })?;
                    self.read_file(&inner, host.clone(), depth + 1, take)?;
                }
            }
        }
        Ok(())
    }
}

/// A file beside this one, and nothing else: an export that somebody gave is no way to read other files.
fn included(from: &Path, name: &str) -> Option<PathBuf> {
    let name = name.strip_prefix("./").unwrap_or(name);
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '%', ':', '\0']);
    plain.then(|| from.with_file_name(name))
}

/// Users on their way to the node.
struct Batch<'a> {
    node: &'a mut Node,
    users: Vec<ImportedUser>,
    bytes: usize,
    done: usize,
    all: usize,
    really: bool,
    progress: output::Progress,
}

impl Batch<'_> {
    fn add(&mut self, user: ImportedUser, view: &mut ImportView) -> Result<(), Failure> {
        let size = serde_json::to_vec(&user).map_or(0, |bytes| bytes.len());
        if self.users.len() >= AT_ONCE || self.bytes + size > BATCH {
            self.send(view)?;
        }
        self.bytes += size;
        self.users.push(user);
        Ok(())
    }

    fn send(&mut self, view: &mut ImportView) -> Result<(), Failure> {
        if self.users.is_empty() {
            return Ok(());
        }
        let users = std::mem::take(&mut self.users);
        self.done += users.len();
        self.bytes = 0;
        let question = Question::Import { users, really: self.really };
        let Response::Authority(Answer::Imported(more)) = self.node.ask(Request::Authority(question))? else {
            return Err(confused());
        };
        view.added.extend(more.added);
        view.to_invite.extend(more.to_invite);
        view.existed.extend(more.existed);
        view.refused.extend(more.refused);
        self.progress.say(&format!("{} users", output::done_of((self.done, self.all))));
        Ok(())
    }
}

fn say(report: &Report, host: &str) {
    let Report { view, elsewhere, left_out, dry_run } = report;
    let will = if *dry_run { "would be" } else { "are" };
    output::line(format!("{} users {will} imported.", view.added.len()));
    let some = |names: &mut dyn Iterator<Item = String>, all: usize| {
        let mut shown: Vec<String> = names.take(SHOWN).map(|name| output::plain(&name)).collect();
        if all > SHOWN {
            shown.push(format!("and {} more (--json has all)", all - SHOWN));
        }
        shown.join(", ")
    };
    if !view.existed.is_empty() {
        let names = some(&mut view.existed.iter().cloned(), view.existed.len());
        output::line(format!("There already, and left as they are: {names}."));
    }
    if !view.to_invite.is_empty() {
        let names = some(&mut view.to_invite.iter().cloned(), view.to_invite.len());
        output::line(format!(
            "Nothing is known of the passwords of: {names}. `crosstalk authority invite NAME` invites them."
        ));
    }
    if !view.refused.is_empty() {
        let mut lines = view.refused.iter().map(|(name, why)| format!("{name}: {why}"));
        output::line(format!("Cannot be imported: {}.", some(&mut lines, view.refused.len())));
    }
    if !left_out.is_empty() {
        output::line(format!("Left out: {}.", some(&mut left_out.iter().cloned(), left_out.len())));
    }
    if *elsewhere > 0 {
        output::line(format!(
            "{elsewhere} users of other domains than {host} are in the export, and were passed over."
        ));
    }
    if !view.added.is_empty() && !dry_run {
        output::line(
            "They log in with the passwords that they have: `crosstalk enrol NAME@DOMAIN` on their laptops. What they bring along \
             comes by itself.",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_that_brings_nobody_says_why() {
        let (some, host) = (["users.xml".into()], "school.example");
        assert!(nobody(&[], host, 0).contains("ends in .xml"));
        assert!(nobody(&some, host, 0).contains("no users of school.example"));
        assert!(
            nobody(&some, host, 3).contains("but 3 of other domains: name the one that is meant by --host")
        );
    }

    #[test]
    fn only_files_beside_it_are_included() {
        let from = Path::new("/exports/all.xml");
        assert_eq!(included(from, "one.xml"), Some(PathBuf::from("/exports/one.xml")));
        assert_eq!(included(from, "./one.xml"), Some(PathBuf::from("/exports/one.xml")));
        for name in
            ["", "..", ".", "/etc/passwd", "../secret.xml", "a/b.xml", "http://a/b.xml", ".hidden", "a%2fb"]
        {
            assert_eq!(included(from, name), None, "{name}");
        }
    }
}
