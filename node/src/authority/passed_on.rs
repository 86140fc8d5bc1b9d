//! Two processes of one server, one of which keeps the link to other servers: what laptops bring the other goes by it, and
//! when it ends the other goes on.

use crosstalk_overlay::enrol::{self, Ask, Exchange, Exchanged, Letter};
use crosstalk_overlay::id::NodeId;
use crosstalk_overlay::keys::{DeviceKey, NodeKey};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};

use super::Question;
use super::passing;
use super::private::{Instance, home, say as say_to};
use super::tests_on_postgres::lost;
use super::tests_on_postgres::{ALICE, BLOCK, Said, Stage, begin, say, told, user};
use crate::upstream::connection::Event;
use crate::xmpp::Stanza;

/// A process, and what the stock server has heard of it.
struct Process {
    stage: Stage,
    written: Option<mpsc::Receiver<Vec<u8>>>,
}

impl Process {
    fn new(mut stage: Stage, number: u8) -> Self {
        stage.office.node = NodeId::from_bytes([number; 32]);
        stage.office.open_door("stock:5347").expect("opened");
        Self { stage, written: None }
    }

    /// What the task does while nobody asks; whether it has the link then.
    fn works(&mut self) -> bool {
        self.stage.office.maintain();
        self.stage.office.attend();
        self.state() == "down" || self.state() == "up"
    }

    fn state(&self) -> String {
        self.stage.office.component().expect("a door").state
    }

    fn connects(&mut self) {
        let (orders, written) = mpsc::channel(1_024);
        self.stage.office.component_event(Event::Up(orders));
        self.written = Some(written);
    }

    fn hears(&mut self, xml: &str) {
        let stanza = Stanza::read(xml.as_bytes()).expect("a stanza");
        self.stage.office.component_event(Event::Element(stanza.to_element()));
    }

    /// What it has written to the stock server, which sends pings back as it handles them.
    fn said(&mut self) -> String {
        let mut all = String::new();
        while let Some(Ok(bytes)) = self.written.as_mut().map(mpsc::Receiver::try_recv) {
            let text = String::from_utf8(bytes).expect("text");
            if let Some(begin) = text.find("<iq") {
                self.hears(&text[begin..]);
            }
            all.push_str(&text);
        }
        all
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A process that leads, of a server with one user; and another one beside it.
fn leading(url: &str) -> (Process, Stage) {
    let mut stage = Stage::at(home(url));
    stage.enrolled("alice", 3);
    let beside = stage.beside();
    let mut first = Process::new(stage, 1);
    until("nobody leads", || first.works());
    (first, beside)
}

fn letter(number: u64) -> Letter {
    let text = format!(
        "<message from='{ALICE}/desk' to='romeo@stock.example' type='chat' id='m{number}'><body>m{number}</body></message>"
    );
    Letter { number, stanza: text.into_bytes(), ..Letter::default() }
}

fn message(body: &str) -> String {
    format!(
        "<message from='romeo@stock.example/o' to='{ALICE}' type='chat' id='{body}'><body>{body}</body></message>"
    )
}

/// What a laptop at the one that has no link gets, while the one that has goes on.
fn exchanged(at: &mut Process, other: &mut Process, laptop: NodeId, ask: Exchange) -> Exchanged {
    assert!(at.stage.office.passes_on(laptop, 7, &Ask::Exchange(ask).to_bytes()), "it is passed on");
    let mut answers = Vec::new();
    until("no answer", || {
        other.works();
        at.works();
        answers.extend(at.stage.office.outside_answers());
        !answers.is_empty()
    });
    let (node, request, answer) = answers.remove(0);
    assert_eq!((node, request, answers.len()), (laptop, 7, 0));
    match Said::from_bytes(&answer).expect("an answer") {
        Said::Exchanged(exchanged) => exchanged,
        other => panic!("{other:?}"),
    }
}

fn session(at: &mut Process, laptop: &NodeKey) -> u64 {
    session_of(at, laptop, 3, ALICE)
}

fn session_of(at: &mut Process, laptop: &NodeKey, user: u8, address: &str) -> u64 {
    match say(&mut at.stage, laptop, &begin(user, address, laptop)) {
        Said::Begun(begun) => {
            assert!(begun.upstream, "there is a door");
            begun.session
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_one_process_is_brought_goes_by_the_one_that_leads_and_nothing_is_lost_when_that_dies() {
    let (laptop, url) = (NodeKey::from_seed([5; 32]), Instance::shared().database());
    let (mut first, beside) = leading(&url);
    let mut second = Process::new(beside, 2);
    assert!(!second.works() && second.state() == "elsewhere");
    first.connects();
    let at_second = session(&mut second, &laptop);
    let ask = Exchange { session: at_second, fresh: true, letters: vec![letter(1)], ..Exchange::default() };
    let answer = exchanged(&mut second, &mut first, laptop.id(), ask);
    assert_eq!((answer.taken, answer.up), (1, true));
    let said = first.said();
    assert!(said.contains("<body>m1</body>"), "{said}");
    // What comes is told to the process that has the laptop, and fetched by it.
    first.hears(&message("r1"));
    let mut news = Vec::new();
    until("no news", || {
        first.works();
        second.works();
        news.extend(second.stage.office.outside_news());
        !news.is_empty()
    });
    assert_eq!((news, first.stage.office.outside_news()), (vec![laptop.id()], Vec::new()));
    let ask = Exchange { session: at_second, queue: answer.queue, ..Exchange::default() };
    let answer = exchanged(&mut second, &mut first, laptop.id(), ask);
    let bodies = |answer: &Exchanged| {
        let all = answer.letters.iter().map(|letter| String::from_utf8_lossy(&letter.stanza).into_owned());
        all.collect::<String>().matches("<body>").count()
    };
    assert_eq!((bodies(&answer), answer.letters[0].number), (1, 1));
    // A block that is told to the one is passed to the other, and is in nobody's way.
    first.hears(&format!("<presence from='romeo@stock.example' to='{ALICE}' type='subscribe'/>"));
    first.said();
    let block = told(at_second, 0x83, &user(3), BLOCK);
    assert!(matches!(say(&mut second.stage, &laptop, &block), Said::Statements(_)));
    // The laptop writes, the leader takes it in, and dies before it is out.
    let ask = Exchange {
        session: at_second,
        queue: answer.queue,
        come: 1,
        letters: vec![letter(2)],
        ..Exchange::default()
    };
    assert_eq!(exchanged(&mut second, &mut first, laptop.id(), ask).taken, 2);
    first.hears(&message("r2"));
    drop(first);
    until("nobody leads", || second.works());
    second.connects();
    let said = second.said();
    assert!(said.contains("<body>m2</body>") && !said.contains("<body>m1</body>"), "{said}");
    // Its answer was lost: the same again, and not twice.
    let ask = Exchange {
        session: at_second,
        queue: answer.queue,
        come: 1,
        letters: vec![letter(2)],
        ..Exchange::default()
    };
    let Said::Exchanged(answer) = say(&mut second.stage, &laptop, &Ask::Exchange(ask)) else {
        panic!("refused")
    };
    assert_eq!((answer.taken, bodies(&answer), answer.anew), (2, 1, true));
    assert!(!second.said().contains("<body>m2</body>"));
}

/// Where two believe that they lead, which they do not while the lock is what it is, the one that came first writes nothing.
#[test]
fn who_led_before_takes_nothing_in() {
    let url = Instance::shared().database();
    let (mut first, beside) = leading(&url);
    first.connects();
    first.hears(&message("r1"));
    assert_eq!(first.stage.office.component().expect("a door").waiting, 1);
    beside.office.database.rest();
    let epoch = passing::lead(&beside.office.database, NodeId::from_bytes([2; 32])).expect("written");
    assert_eq!(epoch, 2);
    first.hears(&message("r2"));
    let said = first.said();
    assert!(said.contains("resource-constraint") && said.contains("id='r2'"), "{said}");
    // It reads anew what there is, and leads by a number of its own.
    until("nobody leads", || first.works());
    assert_eq!(first.stage.office.component().expect("a door").waiting, 1);
    first.connects();
    first.hears(&message("r3"));
    assert_eq!(first.stage.office.component().expect("a door").waiting, 2);
}

/// Nobody leads: whoever asks is told to come again, in time.
#[test]
fn nothing_waits_for_ever() {
    let (laptop, url) = (NodeKey::from_seed([5; 32]), Instance::shared().database());
    let (_first, beside) = leading(&url);
    let mut second = Process::new(beside, 2);
    let at_second = session(&mut second, &laptop);
    let ask = Ask::Exchange(Exchange { session: at_second, ..Exchange::default() }).to_bytes();
    let begun = Instant::now();
    assert!(second.stage.office.passes_on(laptop.id(), 9, &ask));
    let mut answers = Vec::new();
    until("no answer", || {
        second.stage.office.attend();
        answers.extend(second.stage.office.outside_answers());
        !answers.is_empty()
    });
    assert!(
        begun.elapsed() > Duration::from_secs(5)
            && matches!(Said::from_bytes(&answers[0].2), Some(Said::Refused(_)))
    );
    // Nor does what was passed, if nobody ever reads it: and nobody carries it out later.
    let left = passing::questions(&second.stage.office.database).expect("read").len();
    assert_eq!(left, 0);
}

/// A session is whose the database says, at each process: also where another one has revoked its device meanwhile.
#[test]
fn a_laptop_that_one_process_revokes_is_sent_away_by_the_other() {
    let (laptop, url) = (NodeKey::from_seed([5; 32]), Instance::shared().database());
    let (mut first, beside) = leading(&url);
    let mut second = Process::new(beside, 2);
    let at_second = session(&mut second, &laptop);
    let told = lost::tells(&mut second.stage, &laptop, at_second, &lost::record(3, 0x83));
    assert!(matches!(told, Said::Statements(_)));
    let ask = Ask::Exchange(Exchange { session: at_second, ..Exchange::default() });
    let compare = Ask::Compare(enrol::Compare { session: at_second, buckets: vec![0] });
    assert!(second.stage.office.passes_on(laptop.id(), 8, &ask.to_bytes()), "it is its user's");
    let device = DeviceKey::from_seed([0x83; 32]).id().to_hex();
    let revoked = first.stage.done(Question::RevokeDevice { name: "alice".to_owned(), device });
    assert_eq!(revoked.len(), 1);
    assert!(!second.stage.office.passes_on(laptop.id(), 9, &ask.to_bytes()), "not at the door");
    for ask in [ask, compare] {
        let said = say(&mut second.stage, &laptop, &ask);
        assert!(matches!(said, Said::Refused(_)), "{said:?}");
    }
}

/// Of what several laptops ask by another process one cannot be carried out: it is refused, and the others have their answers.
#[test]
fn a_question_that_fails_spoils_no_others() {
    let (of_alice, of_bob) = (NodeKey::from_seed([5; 32]), NodeKey::from_seed([6; 32]));
    let url = Instance::shared().database();
    let mut stage = Stage::at(home(&url));
    stage.enrolled("alice", 3);
    stage.enrolled("bob", 4);
    let beside = stage.beside();
    let mut first = Process::new(stage, 1);
    until("nobody leads", || first.works());
    first.connects();
    let mut second = Process::new(beside, 2);
    let sessions =
        [session(&mut second, &of_alice), session_of(&mut second, &of_bob, 4, "bob@school.example")];
    // What is kept of Alice is not what anybody writes.
    let key = crate::core::hex(&crosstalk_storage::tree::upstream::of_user(user(3).as_bytes()));
    say_to(&url, &format!("INSERT INTO crosstalk.\"outside\" VALUES ('\\x{key}', '\\xffff')"))
        .expect("written");
    for (laptop, session) in [&of_alice, &of_bob].into_iter().zip(sessions) {
        let ask = Ask::Exchange(Exchange { session, fresh: true, ..Exchange::default() });
        assert!(second.stage.office.passes_on(laptop.id(), 7, &ask.to_bytes()));
    }
    let mut answers = Vec::new();
    until("no answers", || {
        first.works();
        second.works();
        answers.extend(second.stage.office.outside_answers());
        answers.len() == 2
    });
    let answer = |of: &NodeKey| {
        let (_, _, answer) = answers.iter().find(|(node, ..)| *node == of.id()).expect("answered");
        Said::from_bytes(answer).expect("an answer")
    };
    assert!(matches!(answer(&of_alice), Said::Refused(_)) && matches!(answer(&of_bob), Said::Exchanged(_)));
}

/// An answer that was read stays where it stands until that commit is durable which takes it away: it comes when the database
/// writes again.
#[test]
fn an_answer_is_not_lost_with_the_commit_that_takes_its_row_away() {
    let (laptop, url) = (NodeKey::from_seed([5; 32]), Instance::shared().database());
    let (mut first, beside) = leading(&url);
    let mut second = Process::new(beside, 2);
    first.connects();
    let at_second = session(&mut second, &laptop);
    let ask = Exchange { session: at_second, fresh: true, letters: vec![letter(1)], ..Exchange::default() };
    assert!(second.stage.office.passes_on(laptop.id(), 7, &Ask::Exchange(ask).to_bytes()));
    until("it is not answered", || {
        first.works();
        passing::questions(&first.stage.office.database).expect("read").is_empty()
    });
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'not now'; END $$ LANGUAGE plpgsql; \
                  CREATE TRIGGER refuse BEFORE DELETE ON crosstalk.\"passed\" EXECUTE FUNCTION refuse()";
    say_to(&url, refuse).expect("refuses");
    for _ in 0..3 {
        std::thread::sleep(passing::LOOK);
        second.works();
        assert!(second.stage.office.outside_answers().is_empty(), "it would come twice");
    }
    say_to(&url, "DROP TRIGGER refuse ON crosstalk.\"passed\"").expect("takes it back");
    let mut answers = Vec::new();
    until("no answer", || {
        second.works();
        answers.extend(second.stage.office.outside_answers());
        !answers.is_empty()
    });
    let (node, request, answer) = answers.remove(0);
    assert_eq!((node, request, answers.len()), (laptop.id(), 7, 0));
    assert!(matches!(Said::from_bytes(&answer), Some(Said::Exchanged(said)) if said.taken == 1));
}

/// A process whose settings name no stock server may come first: it leaves the link to one that can keep it.
#[test]
fn who_has_no_way_outside_does_not_keep_the_link() {
    let url = Instance::shared().database();
    let mut without = Stage::at(home(&url));
    without.enrolled("alice", 3);
    without.office.maintain();
    assert!(without.office.database.signs().leads());
    let mut with = Process::new(without.beside(), 2);
    until("nobody keeps the link", || {
        without.office.maintain();
        without.office.attend();
        with.works()
    });
    assert!(without.office.database.signs().leads() && !with.stage.office.database.signs().leads());
    with.connects();
    with.hears(&message("r1"));
    assert_eq!(with.stage.office.component().expect("a door").waiting, 1);
}

/// What was kept of a user is deleted by a process that has no link: the one that has counts it no longer.
#[test]
fn a_user_who_is_reset_elsewhere_leaves_room() {
    let url = Instance::shared().database();
    let (mut first, mut beside) = leading(&url);
    first.connects();
    for body in ["r1", "r2"] {
        first.hears(&message(body));
    }
    let waiting = |first: &Process| first.stage.office.component().expect("a door").waiting;
    assert_eq!(waiting(&first), 2);
    beside.done(Question::ResetUser { name: "alice".to_owned() });
    until("it is not told", || {
        first.works();
        first.stage.office.component_event(Event::Tick);
        waiting(&first) == 0
    });
    first.hears(&message("r3"));
    assert_eq!(waiting(&first), 0, "nobody has that name");
}
