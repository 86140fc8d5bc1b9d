//! What the tests of the command line share: a data directory of their own and a node on ports that are free.

#![allow(dead_code, clippy::expect_used, reason = "each test file uses a part, and says what it needs")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A data directory with settings that touch nothing outside the loopback.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("ct").tempdir().expect("a directory");
        let home = Self(dir);
        home.settings("[xmpp]\nlisten = [\"127.0.0.1:0\"]\n[overlay]\nport = 0\nlisten = [\"127.0.0.1\"]\nmdns = false\n");
        home
    }

    pub(crate) fn settings(&self, text: &str) {
        std::fs::write(self.path("crosstalk.toml"), text).expect("written");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crosstalk"));
        command.args(line.split_whitespace()).arg("--data").arg(self.0.path());
        command.env("USER", "Romeo").env_remove("CROSSTALK_LOG");
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, line: &str, stdin: &str) -> Output {
        let piped = || Stdio::piped();
        let mut child =
            self.command(line).stdin(piped()).stdout(piped()).stderr(piped()).spawn().expect("started");
        child.stdin.take().expect("stdin").write_all(stdin.as_bytes()).expect("written");
        child.wait_with_output().expect("ended")
    }

    /// Runs a command that has to succeed; gives what it printed.
    pub(crate) fn good(&self, line: &str, stdin: &str) -> String {
        let output = self.run(line, stdin);
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The same with `--json`.
    pub(crate) fn json(&self, line: &str, stdin: &str) -> Value {
        serde_json::from_str(&self.good(&format!("{line} --json"), stdin)).expect("JSON")
    }

    /// Runs a command that has to fail with this exit code; gives what it said.
    pub(crate) fn bad(&self, line: &str, stdin: &str, code: i32) -> String {
        let output = self.run(line, stdin);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {said} {}", text(&output.stdout));
        said
    }

    /// Starts a node and waits until it is ready.
    pub(crate) fn start(&self, line: &str) -> Node {
        let mut child =
            self.command(line).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("started");
        let mut out = BufReader::new(child.stdout.take().expect("stdout"));
        let mut said = String::new();
        while !said.contains("Ready: ") {
            assert_ne!(out.read_line(&mut said).expect("text"), 0, "the node ended: {said}");
        }
        Node { child, said }
    }
}

/// A running node; killed when dropped.
pub(crate) struct Node {
    child: Child,
    /// What it printed until it was ready.
    pub(crate) said: String,
}

impl Node {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as `kill` does, and waits.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signalled");
        self.child.wait().expect("ended")
    }

    /// Ends it as a power cut does.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Permission bits of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).expect("there").permissions().mode() & 0o777
}
