//! How many copies, put again how often, are found while nodes come and go, and what they cost.

use super::super::{Axis, Chapter, Line, Pace, Plot, Shape, Table};
use super::{may_go_on, modelled};
use crate::scale::{Figures, Replication, Sessions, Setting};

const NODES: u32 = 1_000;
const HOUR: u64 = 3_600_000;
const COPIES: [usize; 6] = [1, 2, 4, 8, 12, 16];
const MINUTE: u64 = 60_000;
/// After which a holder puts a record again; the owner does as the overlay is set.
const PACES: [u64; 3] = [HOUR, 30 * MINUTE, 4 * HOUR];
/// What success has to reach.
const GOAL: f64 = 0.999;

struct Tried {
    sessions: &'static str,
    replication: Replication,
    figures: Figures,
}

pub(super) fn fill(chapter: &mut Chapter, pace: &Pace<'_>) {
    let mut tried = Vec::new();
    // As the overlay is set first, in case that there is no time for more.
    'all: for replicate in PACES {
        for (name, sessions) in [("two hours", Sessions::PUBLISHED), ("a lesson", Sessions::LESSONS)] {
            for copies in COPIES {
                let replication = Replication { copies, replicate, ..Replication::default() };
                let setting = Setting {
                    replication,
                    records: 200,
                    lookups: 5_000,
                    letters: 0,
                    ..Setting::new(NODES, 4 * HOUR, sessions)
                };
                let figures = may_go_on(pace).then(|| modelled(setting, pace)).flatten();
                let Some(figures) = figures else {
                    chapter.cut = true;
                    break 'all;
                };
                tried.push(Tried { sessions: name, replication, figures });
            }
        }
    }
    chapter.title = "Copies while nodes come and go".to_owned();
    chapter.text = text(&tried);
    chapter.plots = vec![plot(&tried)];
    chapter.tables.push(table(&tried));
}

fn text(tried: &[Tried]) -> Vec<String> {
    let usual = Replication::default();
    let mut text = vec![format!(
        "{NODES} nodes for four hours; 5,000 look-ups of 200 records. Sessions of two hours: half of them end within that time, and \
         a node is here half of its time (as in IPFS). Of a lesson: half end within 30 minutes, and a node is here a fifth of its \
         time. The overlay keeps {} copies, puts a record again after an hour, and its owner does after twelve hours. The goal is that \
         {} % of look-ups find the record.",
        usual.copies,
        GOAL * 100.0,
    )];
    for name in ["two hours", "a lesson"] {
        let enough = tried.iter().filter(|it| it.sessions == name && it.figures.success >= GOAL);
        let least = enough.min_by(|a, b| a.figures.record_upkeep.total_cmp(&b.figures.record_upkeep));
        let chosen = tried.iter().find(|it| it.sessions == name && it.replication == usual);
        if let Some(chosen) = chosen {
            text.push(format!(
                "Sessions of {name}: as the overlay is set, {:.3} % are found, for {:.1} questions an hour and record.",
                chosen.figures.success * 100.0,
                chosen.figures.record_upkeep,
            ));
        }
        let any = tried.iter().any(|it| it.sessions == name);
        if least.is_none() && any {
            text.push("None of those tried reaches the goal there.".to_owned());
        }
        if let Some(least) = least {
            text.push(format!(
                "The cheapest of those tried that reaches the goal there: {} copies, put again after {} minutes; {:.3} %, {:.1} \
                 questions an hour and record.",
                least.replication.copies,
                least.replication.replicate / MINUTE,
                least.figures.success * 100.0,
                least.figures.record_upkeep,
            ));
        }
    }
    text
}

fn plot(tried: &[Tried]) -> Plot {
    let mut lines: Vec<Line> = Vec::new();
    for it in tried {
        let label = format!("{}, again after {} min", it.sessions, it.replication.replicate / MINUTE);
        let point = (it.replication.copies as f64, (1.0 - it.figures.success) * 100.0);
        match lines.iter_mut().find(|line| line.label == label) {
            Some(line) => line.points.push(point),
            None => lines.push(Line { label, points: vec![point], shape: Shape::Joined }),
        }
    }
    let bound = COPIES.iter().map(|copies| (*copies as f64, (1.0 - GOAL) * 100.0)).collect();
    lines.push(Line { label: "the goal: below 0.1 %".to_owned(), points: bound, shape: Shape::Dashed });
    Plot {
        name: "copies",
        caption: "Look-ups that found nothing; where none failed there is no mark".to_owned(),
        x: Axis::linear("copies of a record"),
        y: Axis::logarithmic("look-ups in vain, %"),
        lines,
    }
}

fn table(tried: &[Tried]) -> Table {
    let row = |it: &Tried| {
        vec![
            it.sessions.to_owned(),
            it.replication.copies.to_string(),
            (it.replication.replicate / MINUTE).to_string(),
            format!("{:.3}", it.figures.success * 100.0),
            format!("{:.1}", it.figures.record_copies.mean),
            format!("{:.1}", it.figures.record_upkeep),
            format!("{:.1}", it.figures.asked.mean),
        ]
    };
    Table {
        name: "copies",
        caption: "What was tried".to_owned(),
        columns: vec![
            "sessions of",
            "copies",
            "put again by holders, min",
            "found, %",
            "copies that are here, mean",
            "questions an hour and record",
            "nodes asked in a look-up, mean",
        ],
        rows: tried.iter().map(row).collect(),
    }
}
