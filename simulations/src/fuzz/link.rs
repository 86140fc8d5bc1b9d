//! Owns the targets for what the link says: TXT records and the names and addresses of people.

use crosstalk::accounts::{names, secrets};
use crosstalk_link_local::clean;
use crosstalk_link_local::instance::{Instance, MAX_INSTANCE};
use crosstalk_link_local::txt::{Advert, MAX_UNKNOWN};
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::record::domain_of;
use jid::Jid;

use super::bounded;

/// Bytes of a string in a TXT record at most (RFC 1035 §3.3).
const MAX_STRING: usize = 255;

/// A TXT record of XEP-0174.
pub fn txt(data: &[u8]) {
    let data = bounded(data);
    let advert = Advert::parse(data);
    let record = advert.to_record();
    assert_eq!(Advert::parse(&record), advert);
    assert!(advert.unknown.len() <= MAX_UNKNOWN);
    let texts = [
        &advert.nick,
        &advert.first,
        &advert.last,
        &advert.email,
        &advert.jid,
        &advert.msg,
        &advert.node,
        &advert.ver,
        &advert.hash,
        &advert.ext,
        &advert.vc,
    ];
    assert!(texts.iter().all(|text| text.as_ref().is_none_or(|text| text.len() <= MAX_STRING)));
    let mut rest = record.as_slice();
    while let Some((length, strings)) = rest.split_first() {
        rest = strings.get(usize::from(*length)..).unwrap_or_else(|| unreachable!("a string that is cut"));
    }
    for shown in [advert.name(), advert.msg].into_iter().flatten() {
        check_shown(&shown);
    }
}

/// What can be shown stays as it is when it is made safe to show again.
fn check_shown(text: &str) {
    for (safe, most) in
        [(clean::nickname as fn(&str) -> String, clean::MAX_NICKNAME), (clean::status, clean::MAX_STATUS)]
    {
        let shown = safe(text);
        assert!(shown.chars().count() <= most && !shown.chars().any(char::is_control), "{shown:?}");
        assert_eq!(safe(&shown), shown);
    }
}

/// Instance names, JIDs, XIDs, account names, nicknames, recovery codes.
pub fn address(data: &[u8]) {
    let data = bounded(data);
    if let Ok(instance) = Instance::from_label(data) {
        check_instance(&instance);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    check_shown(text);
    let (nickname, machine) = text.split_once('\n').unwrap_or((text, ""));
    check_instance(&Instance::compose(nickname, machine));
    if let Some(instance) = Instance::from_jid(text) {
        assert_eq!(instance.to_jid(), text);
    }
    if let Ok(jid) = Jid::new(text) {
        assert_eq!(Jid::new(jid.as_str()).ok().as_ref(), Some(&jid), "a JID whose normal form is another");
    }
    if let Some(user) = UserId::from_xid(text) {
        assert_eq!(user.xid(), text);
    }
    if let Some(domain) = domain_of(text) {
        assert!(text.ends_with(domain) && !domain.is_empty());
    }
    if let Ok(name) = names::account_name(text) {
        assert_eq!(names::account_name(&name).as_ref(), Ok(&name));
    }
    if let Ok(nickname) = names::nickname(text) {
        assert_eq!(names::nickname(&nickname).as_ref(), Ok(&nickname));
    }
    let code = secrets::normal_recovery_code(text);
    assert_eq!(secrets::normal_recovery_code(&code), code);
    assert!(names::account_name(&names::name_of_person(Some(text))).is_ok());
}

fn check_instance(instance: &Instance) {
    assert!((1..=MAX_INSTANCE).contains(&instance.as_str().len()), "{instance:?}");
    let jid = instance.to_jid();
    assert_eq!(Instance::from_jid(&jid).as_ref(), Some(instance));
    assert!(instance.is_at(&jid) && instance.is_at(&jid.to_lowercase()));
    check_shown(&instance.nickname());
    let mut last = instance.clone();
    for _ in 0..3 {
        let next = last.next();
        assert_ne!(next, last, "taken names are tried again");
        assert_eq!(Instance::new(next.as_str()).as_ref(), Ok(&next));
        last = next;
    }
}
