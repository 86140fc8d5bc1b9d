//! What commands print: lines, JSON, tables. A reader that went away (`| head`) is no error.

use std::io::{IsTerminal as _, Write};

use serde::Serialize;

/// One line on stdout.
pub fn line(text: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    let _ = out
        .write_all(text.as_ref().as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
}

/// One line on stderr.
pub fn complain(text: impl AsRef<str>) {
    let mut out = std::io::stderr().lock();
    let _ = out.write_all(text.as_ref().as_bytes()).and_then(|()| out.write_all(b"\n"));
}

/// One line on stderr that says how far something is, written over again and again. Where no person looks there is none.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
}

impl Progress {
    /// Shown at a terminal, unless a program reads the answer.
    pub fn new(json: bool) -> Self {
        Self { shown: !json && std::io::stderr().is_terminal() }
    }

    /// Whether there is somebody to look.
    pub fn is_shown(&self) -> bool {
        self.shown
    }

    /// In place of what stood there.
    pub fn say(&self, text: &str) {
        self.write(&format!("\r{text}\x1b[K"));
    }

    /// The line stays as it is.
    pub fn end(&self) {
        self.write("\n");
    }

    fn write(&self, text: &str) {
        if self.shown {
            let mut out = std::io::stderr().lock();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }
}

/// A value as JSON on stdout, one line.
pub fn json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => line(text),
        Err(error) => complain(format!("cannot be written as JSON: {error}")),
    }
}

/// Rows under headings, in columns; nothing but `empty` if there are no rows.
pub fn table(headings: &[&str], rows: &[Vec<String>], empty: &str) {
    if rows.is_empty() {
        return line(empty);
    }
    line(layout(headings, rows).trim_end());
}

fn layout(headings: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(headings.get(column).map(|heading| heading.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    let mut row_of = |cells: &mut dyn Iterator<Item = &str>| {
        let row: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(row.join("  ").trim_end());
        text.push('\n');
    };
    row_of(&mut headings.iter().copied());
    rows.iter().for_each(|row| row_of(&mut row.iter().map(String::as_str)));
    text
}

/// Text of others without what could steer a terminal or turn its reading direction.
pub fn plain(text: &str) -> String {
    let steers = |sign: char| {
        sign.is_control()
            || matches!(sign, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|sign| if steers(sign) { '\u{fffd}' } else { sign }).collect()
}

/// A duration in milliseconds, for people: its two largest units at most.
pub fn age(millis: u64) -> String {
    let seconds = millis / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match () {
        () if days >= 2 => format!("{days} days"),
        () if hours >= 1 => format!("{hours} h {} min", minutes % 60),
        () if minutes >= 1 => format!("{minutes} min"),
        () => format!("{seconds} s"),
    }
}

/// How long ago a Unix time in milliseconds was.
pub fn ago(then: u64, now: u64) -> String {
    format!("{} ago", age(now.saturating_sub(then)))
}

/// ` since` then, for the middle of a sentence; nothing for 0, which is never.
pub fn since(then: u64, now: u64) -> String {
    if then == 0 { String::new() } else { format!(" since {}", ago(then, now)) }
}

/// How long it is until a Unix time in milliseconds, rounded: what was to count seven days ends in seven days, and not in six.
pub fn until(then: u64, now: u64) -> String {
    let Some(left) = then.checked_sub(now).filter(|left| *left > 0) else {
        return format!("{} ago", age(now - then));
    };
    let half_of_the_smallest_unit = match left {
        0..60_000 => 500,
        60_000..171_000_000 => 30_000,
        _ => 43_200_000,
    };
    format!("in {}", age(left + half_of_the_smallest_unit))
}

/// How much is done, of how much: `1,200 of 5,003`.
pub fn done_of((done, all): (usize, usize)) -> String {
    format!("{} of {}", grouped(done), grouped(all))
}

/// A number with a comma before each three digits.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let comma = |at: usize| at > 0 && (digits.len() - at).is_multiple_of(3);
    let signs =
        digits.char_indices().flat_map(|(at, digit)| comma(at).then_some(',').into_iter().chain([digit]));
    signs.collect()
}

/// A number of bytes, for people.
pub fn bytes(count: u64) -> String {
    match count {
        0..10_240 => format!("{count} B"),
        10_240..10_485_760 => format!("{} KiB", count >> 10),
        10_485_760..10_737_418_240 => format!("{} MiB", count >> 20),
        _ => format!("{} GiB", count >> 30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["juliet".to_owned(), "yes".to_owned()], vec!["zoë".to_owned(), "no".to_owned()]];
        assert_eq!(layout(&["NAME", "SHOWN"], &rows), "NAME    SHOWN\njuliet  yes\nzoë     no\n");
    }

    #[test]
    fn large_numbers_can_be_read() {
        assert_eq!(done_of((999, 1_000)), "999 of 1,000");
        assert_eq!(done_of((0, 1_234_567)), "0 of 1,234,567");
        assert_eq!(done_of((12_345, 123_456)), "12,345 of 123,456");
    }

    #[test]
    fn nothing_of_others_steers_the_terminal() {
        assert_eq!(plain("a\u{1b}[31mb\u{202e}c\n"), "a\u{fffd}[31mb\u{fffd}c\u{fffd}");
    }

    #[test]
    fn ages_are_short() {
        assert_eq!(age(999), "0 s");
        assert_eq!(age(61_000), "1 min");
        assert_eq!(age(3_700_000), "1 h 1 min");
        assert_eq!(age(400 * 86_400_000), "400 days");
        assert_eq!(until(5_000, 1_000), "in 4 s");
        assert_eq!(until(1_000, 62_000), "1 min ago");
        assert_eq!(until(7 * 86_400_000 - 1, 0), "in 7 days");
        assert_eq!(until(7 * 86_400_000 - 43_200_001, 0), "in 6 days");
        assert_eq!(until(2 * 86_400_000 - 1, 0), "in 2 days");
        assert_eq!(until(2 * 3_600_000 - 1, 0), "in 2 h 0 min");
        assert_eq!(bytes(300 << 20), "300 MiB");
    }
}
