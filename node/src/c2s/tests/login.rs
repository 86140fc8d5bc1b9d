//! SASL and registration.

use std::time::Duration;

use rsasl::prelude::{Mechname, SASLClient, SASLConfig, State};

use super::*;
use crate::xmpp::{Condition, StanzaError};

fn failure(name: &str) -> String {
    format!("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><{name}/></failure>")
}

/// The text between `<name …>` and `</name>`, decoded.
fn decoded(seen: &str, name: &str) -> Vec<u8> {
    let (_, rest) = seen.split_once(&format!("<{name} xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>")).unwrap();
    STANDARD.decode(rest.split('<').next().unwrap()).unwrap()
}

/// Logs in with SCRAM by rsasl's client; what the node said at last.
async fn scram(client: &mut Client, mechanism: &str, name: &str, password: &str) -> String {
    let config = SASLConfig::with_credentials(None, name.into(), password.into()).unwrap();
    let mechname = Mechname::parse(mechanism.as_bytes()).unwrap();
    let mut session = SASLClient::new(config).start_suggested(&[mechname]).unwrap();
    let mut message = Vec::new();
    session.step(None, &mut message).unwrap();
    client.auth(mechanism, &STANDARD.encode(&message)).await;
    let challenge = client.expect("</challenge>").await;
    message.clear();
    session.step(Some(&decoded(&challenge, "challenge")), &mut message).unwrap();
    client.send(format!("<response xmlns='{}'>{}</response>", ns::SASL, STANDARD.encode(&message))).await;
    let last = client.expect(">").await;
    if last.starts_with("<success") {
        let last = last + &client.expect("</success>").await;
        let state = session.step(Some(&decoded(&last, "success")), &mut Vec::new()).unwrap();
        assert!(matches!(state, State::Finished(_)), "the client knows that the node knows the password");
        return last;
    }
    last + &client.expect("</failure>").await
}

#[tokio::test]
async fn scram_proves_both_sides() {
    let mut node = TestNode::start(|_| {}).await;
    account(&node.directory, "a=,b", "secret", alice());
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-1"] {
        for name in ["alice", "ALICE", "alice@id.internal", "a=,b"] {
            let mut client = node.connect().await;
            client.open().await;
            let seen = scram(&mut client, mechanism, name, "secret").await;
            assert!(seen.starts_with("<success"), "{mechanism} {name}: {seen}");
            client.open().await;
            node.authenticated().await;
            drop(client);
            node.ended().await;
        }
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_look_the_same() {
    let node = TestNode::start(|_| {}).await;
    let (sha1, sha256) = credentials::scram_keys("secret", &[9; 16], credentials::ITERATIONS).unwrap();
    let credentials = Credentials { user: alice(), sha1, sha256 };
    node.directory.apply(LoginChange::Put { name: "bob".into(), domain: "id.internal".into(), credentials });
    let shape = async |name: &str| {
        let mut client = node.connect().await;
        client.open().await;
        client.auth("SCRAM-SHA-256", &STANDARD.encode(format!("n,,n={name},r=abc"))).await;
        let first = String::from_utf8(decoded(&client.expect("</challenge>").await, "challenge")).unwrap();
        let fields: Vec<String> = first.split(',').map(str::to_owned).collect();
        (fields[0].len(), fields[1].clone(), fields[2].clone())
    };
    let (known, unknown) = (shape("bob").await, shape("nobody").await);
    assert_eq!((known.0, known.1.len(), &known.2), (unknown.0, unknown.1.len(), &unknown.2));
    assert_eq!(unknown, shape("nobody").await, "the salt does not change");
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-1"] {
        for name in ["bob", "nobody"] {
            let mut client = node.connect().await;
            client.open().await;
            assert_eq!(scram(&mut client, mechanism, name, "wrong").await, failure("not-authorized"));
        }
    }
    for name in ["bob", "nobody"] {
        let mut client = node.connect().await;
        client.open().await;
        client.plain(name, "wrong").await;
        assert_eq!(client.expect("</failure>").await, failure("not-authorized"));
    }
}

#[tokio::test]
async fn attempts_that_cannot_succeed_are_answered() {
    let node = TestNode::start(|_| {}).await;
    let encode = |text: &str| STANDARD.encode(text);
    for (mechanism, data, condition) in [
        ("GSSAPI", String::new(), "invalid-mechanism"),
        ("SCRAM-SHA-256-PLUS", encode("n,,n=alice,r=a"), "invalid-mechanism"),
        ("", String::new(), "invalid-mechanism"),
        ("PLAIN", "?".into(), "incorrect-encoding"),
        ("PLAIN", "=".into(), "malformed-request"),
        ("PLAIN", encode("alice"), "malformed-request"),
        ("PLAIN", encode(&"x".repeat(5000)), "malformed-request"),
        ("PLAIN", encode("\0alice\0"), "malformed-request"),
        ("PLAIN", encode("bob@id.internal\0alice\0secret"), "invalid-authzid"),
        ("SCRAM-SHA-256", encode("nonsense"), "malformed-request"),
        ("SCRAM-SHA-256", encode("p=tls-exporter,,n=alice,r=a"), "malformed-request"),
    ] {
        let mut client = node.connect().await;
        client.open().await;
        client.auth(mechanism, &data).await;
        assert_eq!(client.expect("</failure>").await, failure(condition), "{mechanism} {data}");
        client.send("</stream:stream>").await;
        assert_eq!(client.rest().await, "</stream:stream>");
    }
}

#[tokio::test]
async fn the_own_address_may_be_named_and_the_data_come_later() {
    let mut node = TestNode::start(|_| {}).await;
    let mut client = node.connect().await;
    client.open().await;
    client.auth("PLAIN", "").await;
    client.expect("<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    let data = STANDARD.encode("alice@id.internal\0alice\0secret");
    client.send(format!("<response xmlns='{}'>{data}</response>", ns::SASL)).await;
    client.expect("<success").await;
    client.open().await;
    node.authenticated().await;
}

#[tokio::test]
async fn an_attempt_may_be_aborted_and_repeated() {
    let mut node = TestNode::start(|_| {}).await;
    let mut client = node.connect().await;
    client.open().await;
    client.auth("SCRAM-SHA-1", "").await;
    client.expect("xmpp-sasl'/>").await;
    client.send(format!("<abort xmlns='{}'/>", ns::SASL)).await;
    assert_eq!(client.expect("</failure>").await, failure("aborted"));
    client.plain("alice", "wrong").await;
    assert_eq!(client.expect("</failure>").await, failure("not-authorized"));
    client.plain("alice", "secret").await;
    client.expect("<success").await;
    client.open().await;
    node.authenticated().await;
}

#[tokio::test]
async fn the_third_failure_ends_the_stream() {
    let node = TestNode::start(|_| {}).await;
    let mut client = node.connect().await;
    client.open().await;
    for _ in 0..3 {
        client.plain("alice", "wrong").await;
        client.expect("</failure>").await;
    }
    assert!(client.rest().await.contains("<policy-violation "));
}

#[tokio::test]
async fn guessing_slows_down_that_account_from_that_address_only() {
    let mut node = TestNode::start(|_| {}).await;
    account(&node.directory, "bob", "secret", alice());
    let far: SocketAddr = "[2001:db8::7]:4000".parse().unwrap();
    for _ in 0..6 {
        node.inside.failures().failed(far.ip(), "alice@id.internal", node.inside.now());
    }
    let start = tokio::time::Instant::now();
    let mut slow = node.connect_from(far).await;
    slow.open().await;
    let mut slow = slow.starttls(&node).await;
    slow.open().await;
    slow.plain("alice", "secret").await;
    node.log_in().await;
    let mut other = node.connect_from(far).await;
    other.open().await;
    let mut other = other.starttls(&node).await;
    other.open().await;
    other.plain("bob", "secret").await;
    other.expect("<success").await;
    assert!(slow.seen.is_empty());
    slow.expect("<success").await;
    assert!(start.elapsed() >= Duration::from_secs(8), "the last one alone waited");
}

#[tokio::test]
async fn a_removed_account_cannot_log_in() {
    let node = TestNode::start(|_| {}).await;
    node.directory.apply(LoginChange::Remove { name: "alice".into(), domain: "id.internal".into() });
    let mut client = node.connect().await;
    client.open().await;
    client.plain("alice", "secret").await;
    assert_eq!(client.expect("</failure>").await, failure("not-authorized"));
}

#[tokio::test]
async fn an_account_belongs_to_one_domain() {
    let node = TestNode::start(|_| {}).await;
    let mut client = node.connect().await;
    client.send(OPEN.replace("id.internal", "office.example")).await;
    client.expect("</stream:features>").await;
    client.plain("alice", "secret").await;
    assert_eq!(client.expect("</failure>").await, failure("not-authorized"));
}

#[tokio::test]
async fn a_client_may_send_on_without_waiting() {
    let mut node = TestNode::start(|_| {}).await;
    let mut client = node.connect().await;
    let auth = STANDARD.encode("\0alice\0secret");
    let all =
        format!("{OPEN}<auth xmlns='{}' mechanism='PLAIN'>{auth}</auth>{OPEN}<presence/><iq/>", ns::SASL);
    client.send(&all).await;
    node.authenticated().await;
    assert_eq!(node.elements().await.len(), 2);
    client.expect("<bind").await;
}

const GET: &str = "<iq type='get' id='r1' to='id.internal'><query xmlns='jabber:iq:register'/></iq>";
const SET: &str = "<iq type='set' id='r2'><query xmlns='jabber:iq:register'><username>carol</username>\
                   <password>pass</password></query></iq>";

#[tokio::test]
async fn registration_is_possible_where_it_is_on() {
    let (sender, mut requests) = mpsc::channel(1);
    let node = TestNode::start(|settings| settings.register = Some(sender.clone())).await;
    let mut client = node.connect().await;
    assert!(client.open().await.contains("<register xmlns='http://jabber.org/features/iq-register'/>"));
    client.send(GET).await;
    let form = client.expect("</iq>").await;
    assert!(form.contains("type='result'") && form.contains("<username/><password/>"), "{form}");
    for answer in [Err(StanzaError::plain(Condition::Conflict)), Ok(())] {
        client.send(SET).await;
        let request = timeout(PATIENCE, requests.recv()).await.unwrap().unwrap();
        assert_eq!((request.name.as_str(), request.domain.as_str()), ("carol", "id.internal"));
        assert_eq!(request.password.as_str(), "pass");
        request.reply.send(answer.clone()).unwrap();
        let seen = client.expect(if answer.is_ok() { "id='r2' type='result'/>" } else { "</iq>" }).await;
        assert_eq!(seen.contains("<conflict "), answer.is_err(), "{seen}");
    }
    client.send(SET.replace("carol", "")).await;
    assert!(client.expect("</iq>").await.contains("<not-acceptable "));
    client.send(SET).await;
    drop(timeout(PATIENCE, requests.recv()).await.unwrap());
    assert!(client.expect("</iq>").await.contains("<internal-server-error "));
}

#[tokio::test]
async fn registration_is_refused_elsewhere() {
    let (sender, _requests) = mpsc::channel(1);
    let off = TestNode::start(|_| {}).await;
    let on = TestNode::start(|settings| settings.register = Some(sender.clone())).await;
    for mut client in [off.connect().await, on.connect_from("192.0.2.7:4000".parse().unwrap()).await] {
        assert!(!client.open().await.contains("register"));
        for request in [GET, SET] {
            client.send(request).await;
            assert!(client.expect("</iq>").await.contains("<service-unavailable "));
        }
    }
}

/// Only a password that was right is told.
#[tokio::test]
async fn a_login_with_the_password_itself_is_told() {
    let (logins, mut told) = mpsc::channel(4);
    let node = TestNode::start(|settings| settings.plain_logins = Some(logins.clone())).await;
    let mut client = node.connect().await;
    client.open().await;
    client.plain("alice", "wrong").await;
    client.expect("</failure>").await;
    assert!(told.try_recv().is_err());
    client.plain("alice", "secret").await;
    client.expect("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    let login = timeout(PATIENCE, told.recv()).await.unwrap().unwrap();
    assert_eq!((login.user, login.password.reveal()), (alice(), "secret"));
}
