//! How often clients show somebody as here who is not, or do not show somebody who is; and for how long.

use super::super::lived::{cell, curve, sorted};
use super::super::{Axis, Chapter, Line, Pace, Plot, Published, Runs, Shape, Table};
use super::{DRAWN, seconds};

/// Leaving is seen within this time, seconds: 30 (DESIGN.md §6), and what the last frame may have needed on its way.
const PROMISED: f64 = 38.0;

pub(super) fn fill(chapter: &mut Chapter, pace: &Pace<'_>) {
    let lived = pace.lived();
    chapter.cut = lived.cut;
    chapter.title = "Presence error".to_owned();
    chapter.text = vec![
        "Every five seconds of virtual time it is looked at ten clients (all, where there are fewer): who is shown as available, and \
         who is available in truth, which is somebody with a client that is logged in, on a node to which there is a way. A ghost \
         is shown and not there; a missing one is there and not shown."
            .to_owned(),
        "The bound: who vanishes without a word (battery, walk out of reach, closed lid) leaves only silence, so nobody can know before \
         the longest pause that a living peer may make, which here is 30 s; the promise is that no ghost is older than that, 38 s with \
         the last frame's way, or as many times that as there are nodes in between. Whoever says goodbye is gone at once. An error \
         that looks longer by up to the pause between two looks at the same client is rounded up, not broken, and so is one of a \
         client whose own node is off for a while, as nobody looks at it then: a broken promise ends \
         the run and stands in the chapter before."
            .to_owned(),
    ];
    chapter.tables.push(table(&lived.scenarios));
    chapter.plots.push(plot(&lived.scenarios));
    chapter.published = PUBLISHED.to_vec();
}

fn table(all: &[Runs]) -> Table {
    let row = |runs: &Runs| {
        let shown = &runs.figures.shown;
        let share = |count: u64| format!("{:.3}", count as f64 * 100.0 / shown.looks.max(1) as f64);
        let at =
            |lasted: &[u64], percent| cell(&sorted(lasted.iter().map(|millis| seconds(*millis))), percent, 0);
        vec![
            runs.scenario.name.to_owned(),
            shown.looks.to_string(),
            share(shown.ghosts),
            at(&shown.ghosts_lasted, 50),
            at(&shown.ghosts_lasted, 99),
            share(shown.missing),
            at(&shown.missing_lasted, 50),
            at(&shown.missing_lasted, 99),
        ]
    };
    Table {
        name: "errors",
        caption: "What clients show, beside what is so".to_owned(),
        columns: vec![
            "scenario",
            "looks at pairs",
            "ghosts, %",
            "they last, median, s",
            "99th percentile, s",
            "missing, %",
            "they last, median, s",
            "99th percentile, s",
        ],
        rows: all.iter().map(row).collect(),
    }
}

fn plot(all: &[Runs]) -> Plot {
    let line = |runs: &Runs| Line {
        label: runs.scenario.name.replace('_', " "),
        points: curve(&sorted(runs.figures.shown.ghosts_lasted.iter().map(|millis| seconds(*millis)))),
        shape: Shape::Plain,
    };
    let drawn = all.iter().filter(|runs| DRAWN.contains(&runs.scenario.name));
    let mut lines: Vec<Line> = drawn.map(line).filter(|line| !line.points.is_empty()).collect();
    lines.push(Line {
        label: "promised: gone after 38 s".to_owned(),
        points: vec![(PROMISED, 0.0), (PROMISED, 100.0)],
        shape: Shape::Dashed,
    });
    Plot {
        name: "ghosts",
        caption: "How many ghosts are gone after how long".to_owned(),
        x: Axis::linear("seconds after the first look that saw it"),
        y: Axis::linear("ghosts, %"),
        lines,
    }
}

const PUBLISHED: [Published; 3] = [
    Published {
        system: "OLPC, Telepathy Salut on a mesh",
        what: "what was asked of it",
        figure: "who is here and who has left is known within 30 s",
        source: "dev.laptop.org, ticket 5078, A more mesh-friendly presence protocol for salut",
        read: true,
    },
    Published {
        system: "Multicast DNS",
        what: "how long a service is shown that has vanished without a word",
        figure: "up to 75 minutes (its PTR record), 2 minutes (SRV), unless somebody asks earlier",
        source: "RFC 6762 §10",
        read: true,
    },
    Published {
        system: "Jami",
        what: "how long presence counts that is not renewed",
        figure: "10 minutes",
        source: "OpenDHT's and Jami's source",
        read: true,
    },
];
