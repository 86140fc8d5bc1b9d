//! The page: one HTML file with style and plots in it, without scripts, fonts or pictures from elsewhere. *Pure.*

use super::chapter::{Chapter, Table};

const STYLE: &str = "body{font:16px/1.5 sans-serif;color:#111;background:#fff;max-width:60em;margin:0 auto;padding:1em}\
    h1,h2{line-height:1.2}h2{margin-top:2em;border-top:1px solid #999;padding-top:1em}\
    figure{margin:1.5em 0;overflow-x:auto}svg{max-width:100%;height:auto}figcaption,caption{color:#333;text-align:left}\
    table{border-collapse:collapse;font-size:14px}th,td{border-bottom:1px solid #bbb;padding:.25em .6em;text-align:left;\
    vertical-align:top}th{background:#eee}td.n{text-align:right;font-variant-numeric:tabular-nums}.cut{font-weight:bold}";

/// The page with these chapters; `made`: how, and on what.
pub(super) fn page(chapters: &[Chapter], made: &str, interrupted: bool) -> String {
    let contents: String = chapters
        .iter()
        .map(|chapter| format!("<li><a href=\"#{}\">{}</a></li>", chapter.name, escaped(&chapter.title)))
        .collect();
    let stopped = if interrupted {
        "<p class=\"cut\">Stopped before it was complete: this is what was computed until then.</p>"
    } else {
        ""
    };
    let chapters: String = chapters.iter().map(section).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>CrossTalk: report</title>\
         <style>{STYLE}</style></head><body>\n<h1>CrossTalk: report</h1>\n{stopped}\
         <p>Computed by crosstalk-report {} {}. What is in virtual time does not depend on the machine; what was measured on real ones says \
         on which. Each table and each plot is a file of its own beside this page.</p>\n\
         <ul>{contents}</ul>\n{chapters}</body></html>\n",
        env!("CARGO_PKG_VERSION"),
        escaped(made),
    )
}

fn section(chapter: &Chapter) -> String {
    let cut = if chapter.cut {
        "<p class=\"cut\">This chapter was ended before it was complete: there was no more time for it.</p>"
    } else {
        ""
    };
    let text: String = chapter.text.iter().map(|text| format!("<p>{}</p>\n", escaped(text))).collect();
    let plots: String = chapter
        .plots
        .iter()
        .map(|plot| {
            let caption = escaped(&plot.caption);
            format!("<figure>{}<figcaption>{caption}</figcaption></figure>\n", plot.svg())
        })
        .collect();
    let tables: String = chapter.tables.iter().map(table).collect();
    format!(
        "<section id=\"{}\"><h2>{}</h2>\n{cut}{text}{plots}{tables}{}</section>\n",
        chapter.name,
        escaped(&chapter.title),
        published(chapter)
    )
}

fn table(table: &Table) -> String {
    let columns: String =
        table.columns.iter().map(|column| format!("<th scope=\"col\">{}</th>", escaped(column))).collect();
    let row = |row: &Vec<String>| format!("<tr>{}</tr>\n", row.iter().map(|it| cell(it)).collect::<String>());
    let rows: String = table.rows.iter().map(row).collect();
    format!(
        "<figure><table><caption>{}</caption><thead><tr>{columns}</tr></thead><tbody>\n{rows}</tbody></table></figure>\n",
        escaped(&table.caption)
    )
}

fn cell(text: &str) -> String {
    let class = if text == "–" || text.parse::<f64>().is_ok() { " class=\"n\"" } else { "" };
    format!("<td{class}>{}</td>", escaped(text))
}

fn published(chapter: &Chapter) -> String {
    if chapter.published.is_empty() {
        return String::new();
    }
    let rows = chapter.published.iter();
    table(&Table {
        caption: "Published by others, for comparison; networks, loads and definitions differ. What was not read in its source for this \
                  report is quoted from memory"
            .to_owned(),
        columns: vec!["system", "what", "figure", "source", "read there"],
        rows: rows
            .map(|it| {
                let read = if it.read { "yes" } else { "no: from memory" };
                [it.system, it.what, it.figure, it.source, read].map(str::to_owned).into()
            })
            .collect(),
        ..Table::default()
    })
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Axis, Line, Plot, Shape};

    #[test]
    fn a_page_needs_nothing_from_elsewhere_and_shows_signs_as_they_are() {
        let lines =
            vec![Line { label: "one & two".to_owned(), points: vec![(1.0, 2.0)], shape: Shape::Joined }];
        let plot = Plot {
            name: "plot",
            caption: "a < b".to_owned(),
            x: Axis::linear("x"),
            y: Axis::linear("y"),
            lines,
        };
        let table = Table { columns: vec!["<i>"], rows: vec![vec!["1.5".to_owned()]], ..Table::default() };
        let chapter = Chapter {
            title: "<script>".to_owned(),
            plots: vec![plot],
            tables: vec![table],
            ..Chapter::new("it")
        };
        let page = page(&[chapter], "within 5 minutes", true);
        for lacks in ["<script", "src=", "url(", "<i>", "@import", "<link"] {
            assert!(!page.contains(lacks), "{lacks}");
        }
        let links = page.matches("href=").count();
        assert_eq!(links, page.matches("href=\"#").count());
        for has in
            ["&lt;script&gt;", "a &lt; b", "one &amp; two", "&lt;i&gt;", "class=\"n\">1.5<", "Stopped before"]
        {
            assert!(page.contains(has), "{has} in {page}");
        }
    }
}
