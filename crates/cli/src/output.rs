//! Printing: lines, JSON, tables and colours.

use std::io::{self, IsTerminal, Write};

/// Prints one line.
pub(crate) fn line(text: impl AsRef<str>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_ref().as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Says something beside the data, on standard error.
pub(crate) fn note(text: impl AsRef<str>) -> io::Result<()> {
    writeln!(io::stderr(), "{}", text.as_ref())
}

/// Whether to colour what goes to standard output.
#[expect(clippy::disallowed_methods, reason = "NO_COLOR is a convention of terminals and no setting of ours")]
pub(crate) fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// How wide a line on standard output may be; none where it is no terminal.
pub(crate) fn width() -> Option<usize> {
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&out).ok()?;
    (size.ws_col > 0).then_some(size.ws_col.into())
}

/// A table with a heading, its columns as wide as they must be.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heading.iter().map(|text| text.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let heading: Vec<String> = heading.iter().map(|text| (*text).to_owned()).collect();
    for row in std::iter::once(&heading).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let padding = width - cell.chars().count();
            line.push_str(&printable(cell));
            line.push_str(&" ".repeat(padding + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The text without what could steer the terminal: what a station sends is shown, never obeyed. Marks that turn the
/// direction of writing would show a line's end before its beginning.
pub(crate) fn printable(text: &str) -> String {
    let turns =
        |one| matches!(one, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let steers = |one: char| one.is_control() || turns(one) || matches!(one, '\u{2028}' | '\u{2029}');
    text.chars().map(|one| if steers(one) { '\u{fffd}' } else { one }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![vec!["CP1".to_owned(), "é".to_owned()], vec!["LONGER".to_owned(), "x".to_owned()]];
        assert_eq!(table(&["ID", "STATE"], &rows), "ID      STATE\nCP1     é\nLONGER  x\n");
    }

    #[test]
    fn a_station_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
        assert_eq!(printable("\u{202e}001PC \u{2067}x"), "\u{fffd}001PC \u{fffd}x");
    }
}
