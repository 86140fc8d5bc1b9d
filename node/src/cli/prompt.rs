//! Secrets and answers from the person: typed without echo at a terminal, or as lines of stdin.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use rustix::termios::{self, LocalModes, OptionalActions};
use zeroize::Zeroizing;

use super::failure::Failure;
use crate::admin::Secret;

/// Longest line that is read, bytes.
const LONGEST: u64 = 4_096;

/// Whether there is somebody to ask.
pub fn is_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// The next line of stdin, without its end.
///
/// # Errors
/// When there is none, or it is not text.
pub fn stdin_line() -> Result<Secret, Failure> {
    let mut line = Zeroizing::new(String::with_capacity(256));
    let read =
        io::stdin().lock().take(LONGEST).read_line(&mut line).map_err(Failure::system("read stdin"))?;
    if read == 0 {
        return Err(Failure::Usage(
            "stdin has no line with the password: pipe one in, or leave --password-stdin out",
        ));
    }
    let kept = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(kept);
    Ok(Secret::from(line))
}

/// Asks at the terminal, without echo. Empty is `None`.
///
/// # Errors
/// When the terminal cannot be read.
pub fn secret(question: &str) -> Result<Option<Secret>, Failure> {
    ask(question)?;
    let _quiet = Quiet::start();
    let line = stdin_line()?;
    ask("\n")?;
    Ok(Some(line).filter(|line| !line.reveal().is_empty()))
}

/// Asks twice for a new password; `None` if the person leaves it to the node.
///
/// # Errors
/// When both differ, or the terminal cannot be read.
pub fn new_password() -> Result<Option<Secret>, Failure> {
    let Some(first) = secret("Password (empty: one is made): ")? else { return Ok(None) };
    if secret("Again: ")?.as_ref() != Some(&first) {
        return Err(Failure::Usage("the two passwords differ, nothing was changed: try again"));
    }
    Ok(Some(first))
}

/// Asks for yes or no; anything but `y` or `yes` is no.
///
/// # Errors
/// When the terminal cannot be read.
pub fn confirm(question: &str) -> Result<bool, Failure> {
    ask(question)?;
    let answer = stdin_line()?;
    Ok(matches!(answer.reveal().trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn ask(question: &str) -> Result<(), Failure> {
    let mut terminal = io::stderr().lock();
    terminal
        .write_all(question.as_bytes())
        .and_then(|()| terminal.flush())
        .map_err(Failure::system("write to stderr"))
}

/// A terminal that does not show what is typed, until this is dropped.
struct Quiet(Option<termios::Termios>);

impl Quiet {
    fn start() -> Self {
        let before = termios::tcgetattr(io::stdin()).ok();
        if let Some(before) = &before {
            let mut quiet = before.clone();
            quiet.local_modes.remove(LocalModes::ECHO);
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &quiet);
        }
        Self(before)
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}
