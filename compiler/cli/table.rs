//! Rows for people: columns of equal width, and text from elsewhere made harmless for a terminal.

/// Rows in columns as wide as their widest cell; the last one is not filled up. Columns of numbers stand right.
pub fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.max().unwrap_or(0).max(titles[column].len())
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let number = |cell: &str| cell == "-" || cell.bytes().all(|byte| byte.is_ascii_digit());
    let right: Vec<bool> = (0..titles.len())
        .map(|column| rows.iter().all(|row| row.get(column).is_none_or(|cell| number(cell))))
        .collect();
    let titles: Vec<String> = titles.iter().map(|title| (*title).to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&titles).chain(rows) {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            if column > 0 {
                line.push_str("  ");
            }
            let width = widths[column];
            match right[column] && !rows.is_empty() {
                true => line.push_str(&format!("{cell:>width$}")),
                false => line.push_str(&format!("{cell:width$}")),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Bytes as text that no terminal obeys: control characters and what is no UTF-8 as `\x1b`.
pub fn harmless(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                // Also those that turn the direction of writing.
                char if char.is_control()
                    || matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
                {
                    text.push_str(&format!("\\u{{{:x}}}", char as u32));
                }
                char => text.push(char),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_words_left() {
        let rows = vec![vec!["a".into(), "7".into()], vec!["long".into(), "123".into()]];
        assert_eq!(table(&["name", "n"], &rows), "name    n\na       7\nlong  123\n");
    }

    #[test]
    fn no_byte_reaches_the_terminal_as_a_command() {
        assert_eq!(harmless(b"a\x1b[2J\n\xffb\xe2\x80\xae"), "a\\u{1b}[2J\\n\\xffb\\u{202e}");
    }
}
