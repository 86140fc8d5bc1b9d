//! Measurements for the record: CPU of a login, memory of an idle session. A child process plays the clients:
//! `cargo test --release -p crosstalk c2s::tests::measure::node -- --ignored --nocapture`.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use rsasl::prelude::{Mechname, SASLClient, SASLConfig};

use super::*;

const SESSIONS: usize = 500;

/// User and system CPU of this process, in milliseconds; its resident memory in KiB.
fn usage() -> (u64, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (ticks * 10, rss.trim().trim_end_matches(" kB").parse().unwrap())
}

#[test]
#[ignore = "a measurement"]
fn node() {
    for (port, mechanism) in
        [("listen", "SCRAM-SHA-256"), ("listen", "PLAIN"), ("direct", "SCRAM-SHA-256"), ("direct", "PLAIN")]
    {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["c2s::tests::measure::one", "--exact", "--ignored", "--nocapture"])
            .env("CROSSTALK_MEASURE", format!("{port} {mechanism}"))
            .status();
        assert!(status.unwrap().success());
    }
}

/// One row: a fresh process, so that memory of an earlier row does not count.
#[tokio::test]
#[ignore = "called by `node`"]
async fn one() {
    let Ok(what) = std::env::var("CROSSTALK_MEASURE") else { return };
    let (port, mechanism) = what.split_once(' ').unwrap();
    let mut node = TestNode::start(|settings| settings.limits.strangers = SESSIONS).await;
    let (sha1, sha256) = credentials::scram_keys("secret", &[9; 16], credentials::ITERATIONS).unwrap();
    let credentials = Credentials { user: alice(), sha1, sha256 };
    node.directory.apply(LoginChange::Put {
        name: "alice".into(),
        domain: "id.internal".into(),
        credentials,
    });
    let address = if port == "listen" { node.door.listen[0] } else { node.door.direct_tls[0] };
    let certificate = node.dir.path().join("client-tls.pem");
    let run = |count: usize| {
        Command::new(std::env::current_exe().unwrap())
            .args(["c2s::tests::measure::clients", "--exact", "--ignored", "--nocapture"])
            .env("CROSSTALK_MEASURE", format!("{address} {mechanism} {count} {port}"))
            .env("CROSSTALK_CERTIFICATE", &certificate)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut warm = run(20);
    for _ in 0..20 {
        node.authenticated().await;
    }
    drop(warm.stdin.take());
    for _ in 0..20 {
        node.ended().await;
    }
    let (cpu, memory) = usage();
    let mut clients = run(SESSIONS);
    for _ in 0..SESSIONS {
        node.authenticated().await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (cpu_after, memory_after) = usage();
    println!(
        "{port:6} {mechanism:13}: {:.2} ms CPU per login, {:.1} KiB per idle session",
        (cpu_after - cpu) as f64 / SESSIONS as f64,
        (memory_after - memory) as f64 / SESSIONS as f64
    );
    drop(clients.stdin.take());
    for mut child in [warm, clients] {
        child.wait().unwrap();
    }
}

/// Logs in and stays idle until standard input ends.
#[test]
#[ignore = "called by `one`"]
fn clients() {
    let Ok(what) = std::env::var("CROSSTALK_MEASURE") else { return };
    let parts: Vec<&str> = what.split(' ').collect();
    let [address, mechanism, count, port] = parts[..] else { panic!("{what}") };
    let pem = std::fs::read(std::env::var("CROSSTALK_CERTIFICATE").unwrap()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
    let mut sessions: Vec<Box<dyn ReadWrite>> = Vec::new();
    for _ in 0..count.parse().unwrap() {
        let tcp = std::net::TcpStream::connect(address).unwrap();
        tcp.set_nodelay(true).unwrap();
        let mut stream: Box<dyn ReadWrite> = match port {
            "direct" => {
                let name = ServerName::try_from("localhost").unwrap();
                let tls = rustls::ClientConnection::new(config.clone(), name).unwrap();
                Box::new(rustls::StreamOwned::new(tls, tcp))
            }
            _ => Box::new(tcp),
        };
        log_in(&mut *stream, mechanism);
        sessions.push(stream);
    }
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

fn log_in(stream: &mut dyn ReadWrite, mechanism: &str) {
    let exchange = |stream: &mut dyn ReadWrite, send: &str, mark: &str| {
        stream.write_all(send.as_bytes()).unwrap();
        stream.flush().unwrap();
        let (mut seen, mut bytes) = (String::new(), [0; 4096]);
        while !seen.contains(mark) {
            let count = stream.read(&mut bytes).unwrap();
            assert!(count > 0, "{seen}");
            seen.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
        seen
    };
    exchange(stream, OPEN, "</stream:features>");
    let config = SASLConfig::with_credentials(None, "alice".into(), "secret".into()).unwrap();
    let name = Mechname::parse(mechanism.as_bytes()).unwrap();
    let mut session = SASLClient::new(config).start_suggested(&[name]).unwrap();
    let mut message = Vec::new();
    session.step(None, &mut message).unwrap();
    let auth =
        format!("<auth xmlns='{}' mechanism='{mechanism}'>{}</auth>", ns::SASL, STANDARD.encode(&message));
    if mechanism == "PLAIN" {
        exchange(stream, &auth, "<success");
    } else {
        let challenge = exchange(stream, &auth, "</challenge>");
        let data = challenge.split(['>', '<']).nth(2).unwrap();
        message.clear();
        session.step(Some(&STANDARD.decode(data).unwrap()), &mut message).unwrap();
        let response = format!("<response xmlns='{}'>{}</response>", ns::SASL, STANDARD.encode(&message));
        exchange(stream, &response, "</success>");
    }
    exchange(stream, OPEN, "</stream:features>");
}
