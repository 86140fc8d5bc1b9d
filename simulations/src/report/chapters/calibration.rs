//! The model beside real swarms of the same size, and what differs.

use super::super::{Chapter, Pace, Table};
use super::modelled;
use crate::scale::{CROWDS, Compared, DIFFERENCES, calibrated, compare};

pub(super) fn fill(chapter: &mut Chapter, pace: &Pace<'_>) {
    chapter.title = "The model beside real swarms".to_owned();
    chapter.text = vec![
        "Whole nodes in one process, over a network in its memory (simulations/test crowd), beside the model of as many. Where \
         there is churn, half of the nodes are replaced within three hours. What differs:"
            .to_owned(),
    ];
    chapter.text.extend(DIFFERENCES.iter().map(|line| format!("– {line}.")));
    let mut rows = Vec::new();
    for crowd in CROWDS {
        let Some(figures) = modelled(calibrated(crowd), pace) else {
            chapter.cut = true;
            break;
        };
        rows.push(row(&compare(*crowd, &figures)));
    }
    chapter.tables.push(Table {
        name: "crowds",
        caption: "Look-ups that show their path".to_owned(),
        columns: vec![
            "nodes",
            "churn",
            "found, real, %",
            "found, model, %",
            "hops, real",
            "hops, model",
            "nodes asked, real",
            "nodes asked, model",
            "real figures from",
        ],
        rows,
    });
}

fn row(crowd: &Compared) -> Vec<String> {
    let measured = &crowd.measured;
    vec![
        measured.nodes.to_string(),
        if measured.churn { "yes" } else { "no" }.to_owned(),
        format!("{:.1}", measured.success * 100.0),
        format!("{:.1}", crowd.success * 100.0),
        measured.hops.map_or_else(|| "1 to 3".to_owned(), |hops| format!("{hops:.2}")),
        format!("{:.2}", crowd.hops),
        format!("{:.1}", measured.asked),
        format!("{:.1}", crowd.asked),
        measured.source.to_owned(),
    ]
}
