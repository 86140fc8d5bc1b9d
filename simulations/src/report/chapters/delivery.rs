//! Whether all messages came, once; and how soon after it was possible at all.

use super::super::lived::{cell, curve, sorted};
use super::super::{Axis, Chapter, Line, Pace, Plot, Published, Runs, Shape, Table};
use super::{DRAWN, seconds};

pub(super) fn fill(chapter: &mut Chapter, pace: &Pace<'_>) {
    let lived = pace.lived();
    chapter.cut = lived.cut;
    chapter.title = "Delivery".to_owned();
    let sum = |of: fn(&Runs) -> u64| lived.scenarios.iter().map(of).sum::<u64>();
    chapter.text = vec![
        format!(
            "In the runs of the scenarios {} messages were for {} clients, and {} came. What a node had no room for is refused and its \
             sender told ({}); it is not lost. A message comes again only where a session was lost for good, in which case XMPP \
             cannot tell ({} times). A run is cut when a promise is broken, so what had not come by then counts as missing.",
            sum(|runs| runs.messages),
            sum(|runs| runs.figures.trips.len() as u64),
            sum(Runs::came),
            sum(|runs| runs.figures.refused),
            sum(|runs| runs.figures.repeated),
        ),
        "The bound: a message can come at the earliest when there has been a way, link by link and carried in between, if everybody \
         who meets somebody is told everything at once and keeps it (epidemic routing). It is computed for each message from who was \
         in reach of whom. The plot shows how long after that moment it came: what is left is this program, its people's chat \
         programs that are not logged in, and disks and radios that fail."
            .to_owned(),
    ];
    chapter.tables.push(table(&lived.scenarios));
    chapter.plots.push(plot(&lived.scenarios));
    chapter.published = PUBLISHED.to_vec();
}

/// By how much messages came later than they could have, seconds.
fn late(runs: &Runs) -> Vec<f64> {
    let trips = runs.figures.trips.iter();
    sorted(trips.filter_map(|trip| Some(seconds(trip.got?.saturating_sub(trip.possible?)))))
}

fn table(all: &[Runs]) -> Table {
    let row = |runs: &Runs| {
        let late = late(runs);
        let at = |percent| cell(&late, percent, 2);
        let trips = runs.figures.trips.len() as u64;
        vec![
            runs.scenario.name.to_owned(),
            trips.to_string(),
            runs.came().to_string(),
            (trips - runs.came()).to_string(),
            runs.figures.refused.to_string(),
            runs.figures.repeated.to_string(),
            at(50),
            at(95),
            at(99),
            at(100),
        ]
    };
    Table {
        name: "messages",
        caption: "Messages, counted at each client that they are for; and how much later they came than was possible".to_owned(),
        columns: vec![
            "scenario",
            "for clients",
            "came",
            "did not come (refused ones too)",
            "refused",
            "came again",
            "later than possible, median, s",
            "95th percentile, s",
            "99th percentile, s",
            "most, s",
        ],
        rows: all.iter().map(row).collect(),
    }
}

fn plot(all: &[Runs]) -> Plot {
    let line = |runs: &Runs| Line {
        label: runs.scenario.name.replace('_', " "),
        points: curve(&late(runs)).into_iter().map(|(late, share)| (late.max(0.001), share)).collect(),
        shape: Shape::Plain,
    };
    Plot {
        name: "late",
        caption: "How many messages came within how long after it was possible for them to come".to_owned(),
        x: Axis::logarithmic("seconds after it was possible"),
        y: Axis::linear("messages, %"),
        lines: all.iter().filter(|runs| DRAWN.contains(&runs.scenario.name)).map(line).collect(),
    }
}

const PUBLISHED: [Published; 4] = [
    Published {
        system: "Epidemic routing",
        what: "delivery among people who walk about",
        figure: "100 % of all messages in their simulations, where buffers are large enough and there is time",
        source: "Vahdat, Becker, Epidemic Routing for Partially-Connected Ad Hoc Networks, Duke University CS-200006, 2000",
        read: true,
    },
    Published {
        system: "ejabberd",
        what: "messages kept for somebody who is away",
        figure: "100, then the sender gets an error (mod_offline, access_max_user_messages)",
        source: "docs.ejabberd.im, Configuration, Modules, mod_offline",
        read: true,
    },
    Published {
        system: "Briar",
        what: "how long a contact that was added waits for the other",
        figure: "two days",
        source: "code.briarproject.org, Briar's source, pending contacts",
        read: true,
    },
    Published {
        system: "OpenDHT (Jami)",
        what: "how long a contact request is kept",
        figure: "seven days",
        source: "OpenDHT's source, TrustRequest",
        read: true,
    },
];
