//! PostgreSQL over real TLS: what its certificate has to be.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::database::{Database, DatabaseError, Home, PostgresSettings};
use super::private::Instance;
use super::standing::Signs;

/// Who signs certificates, and that as PEM.
fn signer(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let pem = params.self_signed(&key).expect("signed").pem();
    (Issuer::new(params, key), pem)
}

fn port() -> u16 {
    // Below those that the system gives to whoever connects.
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).expect("small");
    (first..32_000).find(free).expect("a free port")
}

#[test]
fn only_the_right_certificate_for_the_right_name_is_believed() {
    let ((school, root), (_, other_root)) = (signer("ca of the school"), signer("somebody else"));
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["db.school.example".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &school).expect("signed");
    let (mut postgres, port) = (Instance::new(), port());
    postgres.serve(port, &certificate.pem(), &key.serialize_pem());
    postgres.say("postgres", "CREATE DATABASE school").expect("made");
    let dir = tempfile::tempdir().expect("dir");
    let write = |name: &str, pem: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, pem).expect("written");
        path
    };
    let (right, wrong) = (write("right.pem", &root), write("wrong.pem", &other_root));
    let open = |host: &str, ca: &Path| {
        let url = format!(
            "host={host} hostaddr=127.0.0.1 port={port} user=crosstalk dbname=school sslmode=verify-full"
        );
        let settings = PostgresSettings::new(&url, None, Some(ca)).expect("settings");
        let database =
            Database::open(&Home::Postgres(Box::new(settings)), &Signs::default()).expect("opened");
        database.domain().map(|_| ())
    };
    open("db.school.example", &right).expect("believed");
    let refused = |host: &str, ca: &Path| match open(host, ca) {
        Err(DatabaseError::Away(why)) => why,
        other => panic!("{other:?}"),
    };
    let why = refused("db.school.example", &wrong);
    assert!(why.contains("not signed by any of those in `database_ca`"), "{why}");
    let why = refused("db.elsewhere.example", &right);
    assert!(why.contains("not for db.elsewhere.example"), "{why}");
    // A server without TLS gets nothing said to it.
    postgres.stop();
    postgres.serve_plainly();
    let why = refused("db.school.example", &right);
    assert!(why.contains("TLS") || why.contains("ssl"), "{why}");
}
