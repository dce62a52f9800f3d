//! strftime forms: which codes exist, and how often a text made with them changes.

use flow_diag::{Code, Diagnostic, Span};

/// The codes that formatting a time knows.
const CODES: &str = "%AaBbCcDdeFfGgHhIjklMmNnPpQRrSsTtUuVvWwXxYyZz";

/// F0307 for a code that formatting does not know. `span` is where the text of the format stands.
pub(crate) fn check_time_format(format: &str, span: Span, diagnostics: &mut Vec<Diagnostic>) {
    let mut chars = format.char_indices().peekable();
    while let Some((start, char)) = chars.next() {
        if char != '%' {
            continue;
        }
        let mut code = None;
        let mut end = start + 1;
        for (at, next) in chars.by_ref() {
            end = at + next.len_utf8();
            // flags, widths, `%.3f`, `%:z`
            let modifier = matches!(next, '-' | '_' | '0'..='9' | '^' | '#' | '.' | ':');
            if !modifier {
                code = Some(next);
                break;
            }
        }
        if code.is_some_and(|code| CODES.contains(code)) {
            continue;
        }
        let fits = span.end - span.start == format.len() as u32;
        let at = if fits {
            Span { start: span.start + start as u32, end: span.start + end as u32, ..span }
        } else {
            span
        };
        let written = format.get(start..end).unwrap_or("%");
        diagnostics.push(
            Diagnostic::new(Code::F0307, at, format!("unknown time format `{written}`"))
                .label("not a code")
                .help("%Y year  %m month  %d day  %H hour  %M minute  %S second  %F date  %T time  %z zone  %% a percent sign"),
        );
    }
}

/// The text changes every second or more often.
pub(crate) fn finer_than_a_minute(format: &str) -> bool {
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        rest = &rest[at + 1..];
        let code = rest
            .trim_start_matches(['-', '_', '.', ':', '^', '#'])
            .trim_start_matches(|c: char| c.is_ascii_digit());
        if code.starts_with(['S', 'T', 's', 'f', 'N', 'X', 'r', 'c']) {
            return true;
        }
        if rest.starts_with('%') {
            rest = &rest[1..];
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use flow_diag::FileId;

    use super::*;

    #[test]
    fn unknown_codes_are_pointed_at() {
        let mut diagnostics = Vec::new();
        check_time_format("%Y-%q", Span::new(FileId(0), 100, 105), &mut diagnostics);
        assert_eq!(diagnostics.len(), 1);
        assert_eq!((diagnostics[0].primary.span.start, diagnostics[0].primary.span.end), (103, 105));
    }

    #[test]
    fn usual_forms_are_fine() {
        let mut diagnostics = Vec::new();
        for format in ["%Y/%m/%d/%H", "%d/%b/%Y:%H:%M:%S %z", "%FT%T%.3fZ", "%-d %:z 100%%"] {
            check_time_format(format, Span::new(FileId(0), 0, format.len()), &mut diagnostics);
        }
        assert_eq!(diagnostics, []);
    }

    #[test]
    fn seconds_are_finer_than_a_minute() {
        assert!(finer_than_a_minute("%H%M%S"));
        assert!(finer_than_a_minute("%FT%TZ"));
        assert!(!finer_than_a_minute("%Y-%m-%d %H:%M 100%%S"));
    }
}
