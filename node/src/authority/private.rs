//! A PostgreSQL of the tests' own: on a socket in a directory of its own, gone with the process that started it.

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::database::{Database, Home, PostgresSettings};
use super::standing::Signs;

/// Ends PostgreSQL when its input does, that is when whoever started it has ended, and removes it unless it is kept.
const KEEPER: &str = r#""$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c max_connections=100 $3 >>"$2/log" 2>&1 &
    pid=$!; read -r word; kill -QUIT $pid; wait $pid; [ "$word" = keep ] || rm -rf "$2""#;

/// A private PostgreSQL.
pub(crate) struct Instance {
    dir: PathBuf,
    programs: PathBuf,
    keeper: Option<Child>,
    /// Further options.
    options: String,
}

impl Instance {
    /// The one that all tests of a process share.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Instance> = OnceLock::new();
        SHARED.get_or_init(Self::new)
    }

    /// A new one, running.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("dir").keep();
        let mut instance = Self { dir, programs: programs(), keeper: None, options: String::new() };
        if let Some((user, group)) = other_user() {
            chown(&instance.dir, Some(user), Some(group)).expect("chown");
        }
        let mut initdb = instance.command(&instance.programs.join("initdb"));
        initdb.args(["--no-sync", "--auth=trust", "-U", "crosstalk", "-D"]).arg(instance.dir.join("data"));
        let done = initdb.output().expect("initdb");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        instance.start();
        instance
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.dir);
        if let Some((user, group)) = other_user() {
            command.uid(user).gid(group);
        }
        command
    }

    /// Starts it, again.
    pub(crate) fn start(&mut self) {
        let mut keeper = self.command(Path::new("sh"));
        keeper.args(["-c", KEEPER, "sh"]).arg(&self.programs).arg(&self.dir);
        keeper.arg(&self.options).stdin(Stdio::piped());
        self.keeper = Some(keeper.spawn().expect("started"));
        let begun = Instant::now();
        while self.say("postgres", "SELECT 1").is_err() {
            let log = || std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(60), "PostgreSQL does not start: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it as a power cut would.
    pub(crate) fn stop(&mut self) {
        let mut keeper = self.keeper.take().expect("running");
        keeper.stdin.take().expect("piped").write_all(b"keep\n").expect("told");
        keeper.wait().expect("ended");
    }

    /// Answers at a port of this machine from now on, with a certificate and its key (PEM).
    pub(crate) fn serve(&mut self, port: u16, certificate: &str, key: &str) {
        self.stop();
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let path = self.dir.join("data").join(name);
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode");
            if let Some((user, group)) = other_user() {
                chown(&path, Some(user), Some(group)).expect("chown");
            }
        }
        self.options = format!("-c listen_addresses=127.0.0.1 -p {port} -c ssl=on");
        self.start();
    }

    /// The same without TLS, once it was stopped.
    pub(crate) fn serve_plainly(&mut self) {
        self.options = self.options.replace("ssl=on", "ssl=off");
        self.start();
    }

    /// A new database there: its address.
    pub(crate) fn database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.say("postgres", &format!("CREATE DATABASE {name}")).expect("made");
        self.url(&name)
    }

    fn url(&self, name: &str) -> String {
        let port =
            self.options.split(" -p ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or("5432");
        format!("host={} port={port} user=crosstalk dbname={name}", self.dir.display())
    }

    /// Says something to it.
    pub(crate) fn say(&self, database: &str, text: &str) -> Result<(), tokio_postgres::Error> {
        say(&self.url(database), text)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }
}

/// Says something to the database at an address.
pub(crate) fn say(url: &str, text: &str) -> Result<(), tokio_postgres::Error> {
    ask(url, async |client| client.batch_execute(text).await)
}

/// A number that it answers with.
pub(crate) fn number(url: &str, text: &str) -> u64 {
    let row = ask(url, async |client| client.query_one(text, &[]).await).expect("answered");
    row.get::<_, i64>(0).unsigned_abs()
}

fn ask<T>(
    url: &str,
    what: impl AsyncFnOnce(&tokio_postgres::Client) -> Result<T, tokio_postgres::Error>,
) -> Result<T, tokio_postgres::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
        let task = tokio::spawn(connection);
        let answer = what(&client).await;
        drop(client);
        let _ = task.await;
        answer
    })
}

/// Where a server is: directory and database.
pub(crate) struct Data {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) home: Home,
}

impl Data {
    /// A new one, for tests that run twice, in two modules: in the one that is named so the database is in PostgreSQL.
    pub(crate) fn new(module: &str) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let home = match module.contains("on_postgres") {
            true => home(&Instance::shared().database()),
            false => Home::Own(dir.path().to_owned()),
        };
        Self { dir, home }
    }

    /// A new directory, at a database that is there.
    pub(crate) fn at(home: Home) -> Self {
        Self { dir: tempfile::tempdir().expect("dir"), home }
    }

    pub(crate) fn open(&self) -> Database {
        Database::open(&self.home, &Signs::default()).expect("opened")
    }
}

/// Where a database at an address is, as the settings have it.
pub(crate) fn home(url: &str) -> Home {
    Home::Postgres(Box::new(PostgresSettings::new(url, None, None).expect("settings")))
}

fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").map(|all| all.flatten().collect::<Vec<_>>());
    let found = versions.unwrap_or_default().into_iter().map(|version| version.path().join("bin"));
    found.filter(|path| path.join("postgres").exists()).max().expect(
        "the tests need PostgreSQL: `simulations/test` installs it, or: sudo apt-get install postgresql",
    )
}

/// PostgreSQL does not run as root: whom it runs as then.
fn other_user() -> Option<(u32, u32)> {
    rustix::process::getuid().is_root().then(|| {
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let line = users.lines().find(|line| line.starts_with("postgres:")).unwrap_or("nobody:x:65534:65534");
        let mut ids = line.split(':').skip(2).map(|id| id.parse().unwrap_or(65_534));
        (ids.next().unwrap_or(65_534), ids.next().unwrap_or(65_534))
    })
}
