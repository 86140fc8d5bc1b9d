//! Commands when no node runs: they open the store themselves, and what they change is there afterwards.

mod cli_common;

use cli_common::{Home, mode};

#[test]
fn an_account_is_made_shown_listed_and_removed() {
    let home = Home::new();
    let made = home.json("account add Juliet --password-stdin --nickname Jule", "wherefore\n");
    assert_eq!(made["login"], "juliet@id.internal");
    assert!(
        made["recovery_code"].as_str().is_some_and(|code| code.len() == 34) && made["password"].is_null()
    );

    let shown = home.json("account show juliet", "");
    assert_eq!((&shown["nickname"], &shown["xid"]), (&"Jule".into(), &made["xid"]));
    assert!(shown["jid"].as_str().is_some_and(|jid| jid.ends_with("@id.internal") && jid.starts_with("00")));
    let text = home.good("account show juliet", "");
    for word in
        ["juliet@id.internal", "Gajim", "Dino", "Profanity", "mcabber", "Pidgin", "Psi+", "xmpp:", "█"]
    {
        assert!(text.contains(word), "{word}: {text}");
    }

    home.good("account nickname juliet Giulietta", "");
    home.good("account hide juliet", "");
    let listed = home.json("account list", "");
    assert_eq!((&listed[0]["nickname"], &listed[0]["visible"]), (&"Giulietta".into(), &false.into()));

    home.bad("account remove juliet", "", 2);
    let keys = |home: &Home| std::fs::read_dir(home.path("keys")).expect("dir").count();
    assert_eq!(keys(&home), 2);
    home.good("account remove juliet --yes", "");
    assert_eq!(keys(&home), 1, "only the node key is left");
    assert_eq!(home.json("account list", ""), serde_json::json!([]));
}

#[test]
fn nothing_secret_is_readable_by_others() {
    let home = Home::new();
    home.good("account add juliet --password-stdin", "wherefore\n");
    assert_eq!(mode(&home.path("keys")), 0o700);
    for entry in std::fs::read_dir(home.path("keys")).expect("dir") {
        assert_eq!(mode(&entry.expect("entry").path()), 0o600);
    }
    assert_eq!(mode(&home.path("store")) & 0o077, 0);
}

#[test]
fn a_password_is_made_when_none_is_given() {
    let home = Home::new();
    let made = home.json("account add juliet", "");
    assert!(made["password"].as_str().is_some_and(|password| password.len() == 23), "{made}");
}

#[test]
fn refusals_say_what_to_do() {
    let home = Home::new();
    let said = home.bad("account list", "", 5);
    assert!(said.contains("no node in"), "{said}");
    home.good("account add juliet --password-stdin", "wherefore\n");
    let said = home.bad("account add juliet --password-stdin", "other\n", 4);
    assert!(said.contains("juliet is taken"), "{said}");
    let said = home.bad("account show romeo", "", 4);
    assert!(said.contains("account list"), "{said}");
    home.bad("account add a@b --password-stdin", "x\n", 4);
    home.bad(&format!("account add 00{} --password-stdin", "a".repeat(64)), "x\n", 4);
    home.bad("account add romeo --password-stdin", "\n", 4);
    home.bad("account add romeo --password-stdin", "", 2);
    home.bad("account frobnicate", "", 2);
    let json = home.bad("account show romeo --json", "", 4);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["exit"], 4);
}

#[test]
fn the_recovery_code_opens_the_user_key_and_a_wrong_one_does_not() {
    let home = Home::new();
    let made = home.json("account add juliet --password-stdin", "wherefore\n");
    let code = made["recovery_code"].as_str().expect("a code").replace('-', " ").to_lowercase();
    let said = home.bad("account password juliet --password-stdin --recovery-stdin", "new\nAAAA-BBBB\n", 4);
    assert!(said.contains("does not open"), "{said}");
    let lines = format!("new\n{code}\n");
    let changed = home.json("account password juliet --password-stdin --recovery-stdin", &lines);
    assert_eq!(changed["resealed"], true);
    let changed = home.json("account password juliet --password-stdin", "newer\n");
    assert_eq!(changed["resealed"], false);
}

#[test]
fn settings_are_checked_with_line_and_nearest_key() {
    let home = Home::new();
    home.settings("[overlay]\n\nprot = 1\n");
    let said = home.bad("config check", "", 3);
    assert!(said.contains("crosstalk.toml:3:") && said.contains("`port`"), "{said}");
    home.settings("");
    home.good("config check", "");
    assert!(home.good("config example", "").contains("#port = 14774"));
}

#[test]
fn exposed_keys_are_refused_with_the_remedy() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    home.good("account add juliet --password-stdin", "wherefore\n");
    let path = home.path("keys/node.key");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    let said = home.bad("account list", "", 5);
    assert!(said.contains("chmod 600"), "{said}");
    let report = home.run("doctor", "");
    assert_eq!(report.status.code(), Some(8));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    home.good("doctor", "");
}

#[test]
fn a_node_of_its_own_domain_keeps_it() {
    let home = Home::new();
    let settings = std::fs::read_to_string(home.path("crosstalk.toml")).expect("settings");
    home.settings(&format!("domain = \"office.example\"\n{settings}"));
    let made = home.json("account add juliet --password-stdin", "wherefore\n");
    assert_eq!(made["login"], "juliet@office.example");
    assert!(made["name_until"].as_u64().is_some(), "{made}");
    assert_eq!(mode(&home.path("keys/authority.key")), 0o600);
    home.settings(&settings);
    assert_eq!(home.json("account add romeo", "")["login"], "romeo@office.example");
    home.settings(&format!("domain = \"other.example\"\n{settings}"));
    let said = home.bad("account list", "", 3);
    assert!(said.contains("office.example"), "{said}");
}

#[test]
fn accounts_without_a_domain_cannot_get_one() {
    let home = Home::new();
    home.good("account add juliet --password-stdin", "wherefore\n");
    home.settings("domain = \"office.example\"\n");
    let said = home.bad("account list", "", 3);
    assert!(said.contains("juliet"), "{said}");
}
