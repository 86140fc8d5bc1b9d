//! The domain's key is handed over: laptops follow, passwords stay what they were, whoever dies in between goes on.

use crosstalk_overlay::enrol::{Answer as Said, Ask, Find, Found, Why};
use crosstalk_overlay::id::AuthorityId;
use crosstalk_overlay::keys::NodeKey;

use super::{ALICE, DAY, Data, PASSWORD, Stage, begin, certificate, key, node, say, why};
use crate::accounts::key_dir::KeyDir;
use crate::authority::{Answer, Authority, Question, StartError, keys_of};

fn rotate(stage: &mut Stage) -> AuthorityId {
    match stage.office.answer(Question::RotateKey) {
        Answer::Rotated { authority, rotation } => {
            assert!(!rotation.is_empty());
            AuthorityId::from_hex(&authority).expect("an id")
        }
        other => panic!("{other:?}"),
    }
}

fn found(stage: &mut Stage) -> Found {
    match stage.ask(1, &Ask::Find(Find { domain: "school.example".into() })) {
        Said::Found(found) => found,
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_are_signed_by_the_new_key_and_passwords_count_as_before() {
    let laptop = NodeKey::from_seed([5; 32]);
    let mut stage = Stage::new();
    let old = stage.enrolled("alice", 3);
    let open = stage.invite("bob", DAY);
    let new = rotate(&mut stage);
    let newest = rotate(&mut stage);
    assert!(key().id() != new && new != newest);
    // What a laptop is told leads from whichever key it has pinned to the one that signs now, and to the first.
    let said = found(&mut stage);
    assert_eq!(said.authority, newest.as_bytes());
    for pinned in [key().id(), new, newest] {
        let keys = keys_of(pinned, &said.rotations, "school.example").expect("they hang together");
        assert_eq!((keys.current(), keys.first()), (newest, key().id()));
    }
    assert!(keys_of(AuthorityId::from_bytes([9; 32]), &said.rotations, "school.example").is_none());
    assert!(keys_of(newest, &said.rotations, "office.example").is_none());
    // The password was registered with the first key, and goes on to be.
    let again = stage.log_in(2, ALICE, PASSWORD).expect("the same password");
    let (before, after) = (certificate(&old.name).expect("one"), certificate(&again.name).expect("one"));
    assert_eq!((before.authority, after.authority), (key().id(), newest));
    assert!(after.serial > before.serial && after.user == before.user);
    // A laptop that has pinned an older key gets what leads to the new one with its new name.
    let Ask::Begin(mut ask) = begin(3, ALICE, &laptop) else { panic!("other") };
    ask.authority = key().id().as_bytes().to_vec();
    let Said::Begun(begun) = say(&mut stage, &laptop, &Ask::Begin(ask.clone())) else { panic!("refused") };
    assert_eq!((begun.rotations.len(), begun.name.is_empty()), (2, false));
    (ask.authority, ask.serial) = (newest.as_bytes().to_vec(), after.serial);
    let Said::Begun(begun) = say(&mut stage, &laptop, &Ask::Begin(ask)) else { panic!("refused") };
    assert!(begun.rotations.is_empty() && begun.name.is_empty());
    // An invitation from before goes on to count.
    assert_eq!(open.authority, key().id());
    assert!(stage.told().contains(&("key handed over".to_owned(), String::new())));
    let mut many = 2;
    let text = loop {
        match stage.office.answer(Question::RotateKey) {
            Answer::Rotated { .. } => many += 1,
            Answer::Refused(text) => break text,
            other => panic!("{other:?}"),
        }
    };
    assert!(many == 16 && text.contains("enrolled anew"), "{many} {text}");
    assert_eq!(
        why(&stage.ask(3, &Ask::Register(crosstalk_overlay::enrol::Register::default()))),
        Why::NoInvitation
    );
}

/// Killed after any step of it, the next start has one key: the one of the database.
#[test]
fn a_power_cut_while_it_is_handed_over_leaves_one_key() {
    let data = Data::new(module_path!());
    let keys = KeyDir::open(data.dir.path()).expect("keys");
    let open = || {
        Authority::open(data.home.clone(), keys.clone(), node(0), None, None, false)
            .map(|(authority, _)| authority)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    let ask = |authority: &Authority, question| runtime.block_on(authority.ask(question));
    let served = |authority: &Authority| authority.domain().map(|(_, key)| key).expect("a domain");
    let first = open().expect("none yet");
    ask(&first, Question::Init { domain: "school.example".into() });
    let (old, file) = (served(&first), keys.authority_files()[0].clone());
    let old_bytes = std::fs::read(&file).expect("a key");
    // The next key was made, and nothing more.
    runtime.block_on(first.close());
    keys.next_authority_key().expect("made");
    let second = open().expect("starts");
    assert_eq!(served(&second), old);
    let Answer::Rotated { authority, .. } = ask(&second, Question::RotateKey) else { panic!("refused") };
    runtime.block_on(second.close());
    let new_bytes = std::fs::read(&file).expect("a key");
    assert!(new_bytes != old_bytes && !keys.has_next_authority_key());
    // The database has it, and the file not yet.
    std::fs::rename(&file, file.with_file_name("authority.next.key")).expect("moved");
    std::fs::write(&file, &old_bytes).expect("as before");
    let third = open().expect("starts");
    assert_eq!((served(&third).to_hex(), third.rotations().len()), (authority, 1));
    assert_eq!(std::fs::read(&file).expect("a key"), new_bytes);
    runtime.block_on(third.close());
    // The old key alone is not enough.
    std::fs::write(&file, &old_bytes).expect("an old copy");
    assert!(matches!(open(), Err(StartError::OtherKey(_))));
    let copy = tempfile::tempdir().expect("dir");
    std::fs::write(copy.path().join("authority.key"), &new_bytes).expect("a copy");
    std::fs::copy(&keys.authority_files()[1], copy.path().join("enrolment.key")).expect("a copy");
    for name in ["authority.key", "enrolment.key"] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(copy.path().join(name), mode).expect("chmod");
    }
    let [authority, enrolment] = KeyDir::read_authority(copy.path()).expect("read");
    keys.put_authority(&authority, &enrolment).expect("put back");
    runtime.block_on(open().expect("starts").close());
}
