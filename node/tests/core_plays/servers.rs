//! A laptop and the server processes of its domain, which share a database: it follows the one that answers, and nobody else.

use crate::core_support::link::{cut, join, rest, rest_until};
use crate::core_support::{BEGIN, Client, DOMAIN, Play, home};
use crosstalk::core::admin::{Command, Reply};
use crosstalk::core::enrol::Home;
use crosstalk::core::sync::server::ServerView;
use crosstalk_overlay::enrol::{MAX_PLACES, MAX_SERVERS, ServerAt, Why};
use crosstalk_overlay::keys::AuthorityKey;
use crosstalk_overlay::record::Rotation;

const SECOND: u64 = 1_000;
const PLACE: &str = "/ip4/192.0.2.1/tcp/14774";

/// Two servers, and a laptop of anna that is enrolled with the first.
struct Two {
    servers: [Play; 2],
    laptop: Play,
    client: Client,
}

impl Two {
    fn new() -> Self {
        let first = Play::server();
        let second = Play::beside(&first);
        let laptop = Play::enrolled(1, |_| {});
        let client = laptop.online("anna/desk");
        let two = Self { servers: [first, second], laptop, client };
        two.told(vec![two.at(0), two.at(1)]);
        two
    }

    /// With one whole pass with the first server, the second not being there.
    fn met() -> Self {
        let two = Self::new();
        two.join(0);
        two.wait(3);
        assert_eq!(two.state(), ("up", Some(0), 1));
        two
    }

    fn at(&self, server: usize) -> ServerAt {
        ServerAt::new(self.servers[server].node(), vec![PLACE.to_owned()])
    }

    /// From now on both tell laptops of these, each without itself.
    fn told(&self, servers: Vec<ServerAt>) {
        self.servers.iter().for_each(|server| server.desk(|desk| desk.servers = servers.clone()));
    }

    fn all(&self) -> [&Play; 3] {
        [&self.servers[0], &self.servers[1], &self.laptop]
    }

    fn join(&self, server: usize) {
        join(&self.all(), &self.servers[server], &self.laptop);
    }

    fn cut(&self, server: usize) {
        cut(&self.all(), &self.servers[server], &self.laptop);
    }

    fn wait(&self, seconds: u64) {
        for _ in 0..seconds {
            self.all().iter().for_each(|play| play.wait(SECOND));
            rest(&self.all());
        }
        self.client.forget();
    }

    fn view(&self) -> ServerView {
        let Reply::Status(status) = self.laptop.command(Command::Status) else { panic!("no status") };
        status.servers[0].clone()
    }

    /// How the server stands, which of the two it is, and how many others are known.
    fn state(&self) -> (&'static str, Option<usize>, usize) {
        let view = self.view();
        let which = self.servers.iter().position(|server| server.node().to_hex() == view.node);
        let known = ["up", "down", "refused", "unknown"].into_iter().find(|state| *state == view.state);
        (known.unwrap(), which, view.others)
    }

    fn passes(&self, server: usize) -> usize {
        self.asked(server, "Begin")
    }

    fn asked(&self, server: usize, what: &str) -> usize {
        let count = |(ask, count): (&String, &usize)| if ask.starts_with(what) { *count } else { 0 };
        self.servers[server].desk(|desk| desk.asked.iter().map(count).sum())
    }

    fn adds(&self, contact: &str) {
        self.client.send(&format!(
            "<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='{contact}'/></query></iq>"
        ));
        self.client.forget();
    }
}

impl Drop for Two {
    fn drop(&mut self) {
        self.client.forget();
    }
}

#[test]
fn a_laptop_whose_server_is_killed_goes_to_the_other_and_stays_there() {
    let two = Two::met();
    two.join(1);
    two.wait(1);
    assert_eq!(two.passes(1), 0, "while the one is up nobody moves");
    two.cut(0);
    two.adds("bob@far.example");
    two.wait(12);
    assert_eq!((two.state(), two.view().held), (("up", Some(1), 1), 0));
    assert!(two.asked(1, "Tell") >= 1, "the change is told there");
    // The first is back: nobody moves, also in the looks that follow, and it is known what it was told.
    let before = two.passes(0);
    two.join(0);
    two.wait(11 * 60);
    assert_eq!((two.passes(0), two.state()), (before, ("up", Some(1), 1)));
    // It is durable: after a start the second is asked.
    two.cut(1);
    two.cut(0);
    two.laptop.restart();
    assert_eq!(two.state(), ("unknown", Some(1), 1));
}

/// "Down" is said once all were asked, and whichever is met then is asked at once.
#[test]
fn the_server_is_down_when_none_of_them_answers() {
    let two = Two::met();
    two.cut(0);
    two.wait(60);
    assert_eq!(two.state(), ("up", Some(0), 1), "the other is still being asked");
    two.wait(40);
    assert_eq!(two.state(), ("down", Some(0), 1));
    two.join(1);
    two.wait(2);
    assert_eq!(two.state(), ("up", Some(1), 1));
    two.cut(1);
    two.wait(120);
    two.join(0);
    two.wait(2);
    assert_eq!(two.state(), ("up", Some(0), 1));
}

#[test]
fn what_another_server_refuses_says_nothing_of_the_home() {
    let two = Two::met();
    two.servers[1].desk(|desk| desk.refuses = Some(Why::Password));
    two.join(1);
    two.cut(0);
    two.wait(60);
    assert!(two.asked(1, "Begin") >= 1, "it was asked");
    assert_eq!(two.state(), ("down", Some(0), 1));
    two.join(0);
    two.wait(2);
    assert_eq!(two.state(), ("up", Some(0), 1));
    // What the home refuses is the domain's word; but that it has no database is not.
    for (why, state) in [(Why::Disabled, ("refused", Some(0), 1)), (Why::Trouble, ("up", Some(1), 1))] {
        two.servers[1].desk(|desk| desk.refuses = None);
        two.servers[0].desk(|desk| desk.refuses = Some(why));
        two.adds(&format!("{why:?}@far.example").to_lowercase());
        two.wait(5);
        assert_eq!(two.state(), state, "{why:?}");
        two.servers[0].desk(|desk| desk.refuses = None);
        two.wait(11 * 60);
    }
}

#[test]
fn a_server_that_nobody_has_told_of_is_never_asked() {
    let two = Two::new();
    two.told(vec![two.at(0)]);
    two.join(0);
    two.join(1);
    two.wait(2);
    assert_eq!(two.state(), ("up", Some(0), 0));
    two.cut(0);
    two.wait(120);
    assert_eq!((two.passes(1), two.state()), (0, ("down", Some(0), 0)));
}

#[test]
fn the_list_is_bounded_and_a_new_one_takes_its_place() {
    let two = Two::new();
    let many = (1..=20_u8).map(|n| ServerAt { node: vec![n; 32], places: vec![PLACE.to_owned(); 20] });
    let list: Vec<ServerAt> = many.collect();
    assert!(list[0].places.len() > MAX_PLACES);
    two.told(list);
    two.join(0);
    two.wait(3);
    assert_eq!(two.state().2, MAX_SERVERS);
    // Said once; a look that has nothing new is as short as it was.
    let after = |two: &Two| {
        two.wait(5 * 60 + 10);
        two.view().received
    };
    let known = after(&two);
    two.told(vec![two.at(1)]);
    two.wait(5 * 60 + 10);
    assert_eq!(two.state(), ("up", Some(0), 1));
    assert_eq!(after(&two), known);
    two.told(Vec::new());
    two.wait(5 * 60 + 10);
    assert_eq!(two.state(), ("up", Some(0), 0));
    assert_eq!(after(&two), known, "one server alone costs no byte more");
}

/// Wherever the first server is killed while a pass goes on: the pass begins anew at the other, and all is there, once.
#[test]
fn a_server_that_is_killed_in_the_middle_of_a_pass_loses_and_doubles_nothing() {
    for frames in 0..12 {
        let two = Two::met();
        two.join(1);
        for contact in 0..6 {
            two.adds(&format!("c{contact}@far.example"));
        }
        two.all().iter().for_each(|play| play.wait(SECOND));
        rest_until(&two.all(), frames);
        two.cut(0);
        two.wait(15);
        assert_eq!((two.state(), two.view().held), (("up", Some(1), 1), 0), "{frames}");
        let Reply::Contacts(contacts) = two.laptop.command(Command::Contacts("anna".to_owned())) else {
            panic!("no contacts")
        };
        assert_eq!(contacts.len(), 6, "{frames}");
        // A second laptop has them from the database that both share.
        let other = Play::enrolled(2, |_| {});
        let client = other.online("anna/desk");
        let both = [&two.servers[0], &other];
        join(&both, both[0], &other);
        for _ in 0..3 {
            rest(&both);
            other.wait(2 * SECOND);
        }
        let Reply::Contacts(there) = other.command(Command::Contacts("anna".to_owned())) else {
            panic!("no contacts")
        };
        assert_eq!(there.len(), 6, "{frames}");
        client.forget();
    }
}

/// A letter to an address outside that waits while its server is killed goes out by the other, once.
#[test]
fn letters_to_the_outside_follow_to_the_other_server() {
    for frames in [1, 2, 3, 4, 1_000] {
        let two = Two::new();
        let user = two.laptop.user("anna");
        two.servers[0].desk(|desk| desk.open_door("anna", user));
        two.servers[0].door(|desk, now| desk.stock(true, now));
        two.join(0);
        two.wait(3);
        two.join(1);
        assert_eq!(two.view().outside.map(|outside| outside.state).as_deref(), Some("up"));
        let got = |server: usize| {
            let got = two.servers[server].door(|desk, _| desk.stock_got());
            got.into_iter().filter(|text| text.contains("<body>")).count()
        };
        two.client.send("<message to='romeo@stock.example' id='l' type='chat'><body>l</body></message>");
        rest_until(&two.all(), frames);
        let by_first = got(0);
        two.cut(0);
        // Its process is gone, and the other one keeps the link.
        two.servers[0].desk(|desk| desk.door = None);
        two.servers[1].desk(|desk| desk.open_door("anna", user));
        two.servers[1].door(|desk, now| desk.stock(true, now));
        two.wait(20);
        assert_eq!(two.state(), ("up", Some(1), 1), "{frames}");
        let view = two.view().outside.expect("a way");
        assert_eq!((view.state.as_str(), view.held), ("up", 0), "{frames}");
        // What had left, and whose ping had not come back, goes once more with the same id.
        let by_second = got(1);
        assert!(by_first + by_second == 1 || frames < 1_000 && by_first == 1 && by_second <= 1, "{frames}");
    }
}

/// Its server is lost with its node: a person says where the domain's server is now. Whoever has not the domain's key is not it.
#[test]
fn a_laptop_is_told_of_a_server_in_place_of_a_lost_one() {
    let two = Two::new();
    two.told(vec![two.at(0)]);
    two.join(0);
    two.wait(3);
    two.adds("bob@far.example");
    two.wait(3);
    two.cut(0);
    two.adds("carl@far.example");
    two.join(1);
    two.wait(120);
    assert_eq!((two.state(), two.passes(1)), (("down", Some(0), 0), 0));
    let user = two.laptop.user("anna");
    let server = *two.servers[1].node().as_bytes();
    let other = AuthorityKey::from_seed([8; 32]).id();
    let forged = Home { server, authority: *other.as_bytes(), ..home() };
    let reply = two.laptop.command(Command::ChangeServer { user, home: forged });
    assert!(matches!(&reply, Reply::Refused(why) if why.to_string().contains("another key")), "{reply:?}");
    two.wait(30);
    assert_eq!((two.state().1, two.passes(1)), (Some(0), 0), "nothing was changed");
    // A rotation that the domain's key has not signed leads nowhere.
    let key = AuthorityKey::from_seed([7; 32]);
    let rotation = Rotation::issue(&key, &AuthorityKey::from_seed([8; 32]), DOMAIN, BEGIN).unwrap();
    let rotations = vec![rotation.bytes().to_vec()];
    let forged = Home { server, authority: *other.as_bytes(), rotations, ..home() };
    let reply = two.laptop.command(Command::ChangeServer { user, home: forged });
    assert!(matches!(reply, Reply::Refused(_)), "{reply:?}");
    // By one that it has signed the key is followed.
    let next = AuthorityKey::from_seed([6; 32]);
    let rotation = Rotation::issue(&AuthorityKey::from_seed([9; 32]), &next, DOMAIN, BEGIN).unwrap();
    let rotations = vec![rotation.bytes().to_vec()];
    let moved = Home { server, authority: *next.id().as_bytes(), rotations, ..home() };
    let reply = two.laptop.command(Command::ChangeServer { user, home: moved });
    assert!(matches!(reply, Reply::Account(_)), "{reply:?}");
    two.wait(5);
    assert_eq!((two.state(), two.view().held), (("up", Some(1), 1), 0));
    let Reply::Contacts(contacts) = two.laptop.command(Command::Contacts("anna".to_owned())) else {
        panic!("no contacts")
    };
    assert_eq!(contacts.len(), 2);
}

/// The same while the lost one is still being asked: what becomes of that question is nothing to the new one.
#[test]
fn a_question_to_a_lost_server_ends_with_it() {
    let two = Two::new();
    two.told(vec![two.at(0)]);
    two.join(0);
    two.wait(3);
    two.cut(0);
    two.adds("bob@far.example");
    two.wait(10);
    two.join(1);
    let server = *two.servers[1].node().as_bytes();
    let reply = two
        .laptop
        .command(Command::ChangeServer { user: two.laptop.user("anna"), home: Home { server, ..home() } });
    assert!(matches!(reply, Reply::Account(_)), "{reply:?}");
    for _ in 0..20 {
        two.wait(3);
        assert_eq!(two.state(), ("up", Some(1), 1));
    }
}
