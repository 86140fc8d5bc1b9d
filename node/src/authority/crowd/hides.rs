//! Who is blocked under an address that only a contact list has is shown nothing by the server.

use super::Measured;
use super::laptop::Laptop;
use super::pupils::enrol;

const OLD: &str = "nickname@old.example";

/// Whether pupil 1 is shown pupil 0, who shows itself anew before that or not.
fn is_shown(server: &mut Measured, [shows, sees]: &mut [Laptop; 2], anew: bool) -> bool {
    server.machine.set(server.machine.mono() + 1_000);
    shows.pass(server).expect("let in");
    if anew {
        shows.look(server);
    }
    sees.pass(server).expect("let in");
    sees.look(server);
    sees.seen().contains(&shows.user.id())
}

#[test]
fn who_is_blocked_by_the_address_of_the_list_is_not_shown_anything() {
    for mut server in Measured::both() {
        let now = server.wall();
        let mut both = [0, 1].map(|user| Laptop::new(user, 0, now));
        let certificates = [0, 1].map(|user: usize| both[user].certificate.clone());
        for (user, laptop) in both.iter_mut().enumerate() {
            laptop.befriend(user, (1 - user, &certificates[1 - user]), now - 9);
        }
        both.iter().enumerate().for_each(|(user, laptop)| enrol(&server.stage.office, laptop, user, now));
        both[1].pass(&mut server).expect("let in");
        both[0].list(OLD, 1, now - 5);
        assert!(is_shown(&mut server, &mut both, true), "nobody is blocked");
        both[1].sees.clear();
        // What was shown before is hidden in the moment of the block, and what is shown after it.
        both[0].block("old.example", now);
        assert!(!is_shown(&mut server, &mut both, false));
        assert!(!is_shown(&mut server, &mut both, true));
        both[0].unblock("old.example", now + 1);
        both[0].tells_again(&mut server, |entry| matches!(entry, crate::core::sync::entry::Entry::Block(_)));
        assert!(is_shown(&mut server, &mut both, false));
        both[1].sees.clear();
        // The contact comes to an address that is blocked; and the same after a restart of the laptop of who hides.
        both[0].block("nickname@elsewhere.example", now + 2);
        assert!(is_shown(&mut server, &mut both, false));
        both[1].sees.clear();
        both[0].list("nickname@elsewhere.example", 1, now + 3);
        assert!(!is_shown(&mut server, &mut both, true));
    }
}
