//! From a template to the names of files. Values of events are hostile: whatever a header holds, the path stays
//! where the author of the flow put it, and every part of it fits a file system. Does no IO.

use std::hash::{DefaultHasher, Hash, Hasher};

use flow_agent::{Context, Fault};
use flow_plan::Batch;
use flow_plan::ir::Expr;

use crate::sinks::template::{self, Part};

/// Bytes of one value in a path; a longer one is cut and marked with its hash, so that two stay two.
const VALUE_BYTES_MAX: usize = 128;

/// Bytes of one part of a path that has values in it, with room for what is added to names.
const COMPONENT_BYTES_MAX: usize = 180;

/// The file in a path that is a directory.
const FILE_IN_DIRECTORY: &str = "events.log";

/// The `path` setting.
pub struct PathTemplate {
    parts: Vec<Part>,
    /// The path names a directory.
    directory: bool,
}

impl PathTemplate {
    pub fn new(expr: &Expr, context: &Context) -> Result<PathTemplate, Fault> {
        let parts = template::parts(expr, context, "path")?;
        // What the author wrote decides, never a value: `x` stands for it.
        let mut shape = String::new();
        for part in &parts {
            match part {
                Part::Text(text) => shape.push_str(text),
                Part::Hole(hole) => {
                    shape.push_str(if hole.format().is_some_and(|format| format.contains('/')) {
                        "x/x"
                    } else {
                        "x"
                    });
                }
            }
        }
        if shape.is_empty() {
            return Err(Fault::new("the path is empty").setting("path"));
        }
        if shape.contains('\0') {
            return Err(Fault::new("the path has a zero byte in it").setting("path"));
        }
        let last = shape.rsplit('/').next().unwrap_or_default();
        // A dot at the beginning hides a file and is no extension.
        let directory = matches!(last, "" | "." | "..") || !last.chars().skip(1).any(|char| char == '.');
        Ok(PathTemplate { parts, directory })
    }

    /// Every event goes to the same file.
    pub fn is_constant(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// Puts the path of an event into `path`. `Ok(false)`: it is the same as for the event before, and `path`
    /// is left as it was.
    pub fn render(&mut self, batch: &Batch, row: u32, path: &mut String) -> Result<bool, String> {
        let mut changed = path.is_empty();
        for part in &mut self.parts {
            if let Part::Hole(hole) = part {
                // After a failure some holes may have moved on: the next path is put together anew.
                changed |= hole.update(batch, row).inspect_err(|_| path.clear())?;
            }
        }
        if changed {
            path.clear();
            self.assemble(path);
        }
        Ok(changed)
    }

    fn assemble(&self, path: &mut String) {
        let mut component = Component { start: 0, has_value: false };
        for part in &self.parts {
            match part {
                Part::Text(text) => {
                    for piece in text.split_inclusive('/') {
                        component.push(piece, path);
                    }
                }
                Part::Hole(hole) => {
                    let text = String::from_utf8_lossy(hole.text());
                    component.has_value = true;
                    if hole.format().is_some() {
                        for piece in text.split_inclusive('/') {
                            component.has_value = true;
                            component.push(piece, path);
                        }
                    } else {
                        component.push(&clean(&text), path);
                    }
                }
            }
        }
        component.finish(path);
        if self.directory {
            if !path.ends_with('/') {
                path.push('/');
            }
            path.push_str(FILE_IN_DIRECTORY);
        }
    }
}

/// The part of a path after the last `/` so far.
struct Component {
    start: usize,
    has_value: bool,
}

impl Component {
    /// `piece` has a `/` at most at its end.
    fn push(&mut self, piece: &str, path: &mut String) {
        match piece.strip_suffix('/') {
            Some(rest) => {
                path.push_str(rest);
                self.finish(path);
                path.push('/');
                *self = Component { start: path.len(), has_value: false };
            }
            None => path.push_str(piece),
        }
    }

    fn finish(&mut self, path: &mut String) {
        if !self.has_value {
            return;
        }
        match &path[self.start..] {
            "" | "." => path.replace_range(self.start.., "_"),
            ".." => path.replace_range(self.start.., "__"),
            long if long.len() > COMPONENT_BYTES_MAX => {
                let short = shorten(long, COMPONENT_BYTES_MAX);
                path.replace_range(self.start.., &short);
            }
            _ => {}
        }
    }
}

/// A value as part of a name.
fn clean(value: &str) -> String {
    if value.is_empty() {
        return "_".to_owned();
    }
    let clean: String = value
        .chars()
        .map(|char| match char {
            '/' | '\\' | char::REPLACEMENT_CHARACTER => '_',
            char if char.is_control() => '_',
            char => char,
        })
        .collect();
    if clean.len() > VALUE_BYTES_MAX { shorten(&clean, VALUE_BYTES_MAX) } else { clean }
}

/// The beginning of a text and a hash of the whole, together at most `bytes_max` bytes; what looks like an
/// extension at its end is kept.
fn shorten(text: &str, bytes_max: usize) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let extension = match text.rfind('.') {
        Some(dot) if text.len() - dot <= 16 => &text[dot..],
        _ => "",
    };
    let hash = format!("~{:08x}", hasher.finish() as u32);
    let mut end = bytes_max - hash.len() - extension.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{hash}{extension}", &text[..end])
}

/// `dir/web.log` as `dir/web.STAMP.log`, with `.gz` or `.zst` behind it; `count` above 0 tells files of one
/// second apart.
pub fn rolled_name(path: &str, stamp: &str, count: u32, codec_extension: &str) -> String {
    let (directory, name) = match path.rfind('/') {
        Some(slash) => path.split_at(slash + 1),
        None => ("", path),
    };
    let name = name.strip_suffix(codec_extension).unwrap_or(name);
    let (stem, extension) = match name.rfind('.') {
        Some(dot) if dot > 0 => name.split_at(dot),
        _ => (name, ""),
    };
    let count = if count == 0 { String::new() } else { format!("-{count:03}") };
    format!("{directory}{stem}.{stamp}{count}{extension}{codec_extension}")
}

/// `dir/web.STAMP.log` as `dir/web.STAMP+1.log`, for a name that is taken.
pub fn numbered(path: &str, count: u32) -> String {
    let name_start = path.rfind('/').map_or(0, |slash| slash + 1);
    // Before the extension, and before that of the compression.
    let name = &path[name_start..];
    let stem = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(name);
    let dot = stem.rfind('.').filter(|&dot| dot > 0).unwrap_or(stem.len());
    format!("{}{}+{count}{}", &path[..name_start], &name[..dot], &name[dot..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::files::tests::{context, path_of_header, path_setting};
    use flow_plan::batch::{Columns, Slot};

    fn paths(template: serde_json::Value, values: &[&[u8]]) -> Vec<String> {
        let expr: Expr = serde_json::from_value(template).unwrap();
        let mut template = PathTemplate::new(&expr, &context(std::path::Path::new("/state"))).unwrap();
        let mut columns = Columns::default();
        for value in values {
            let row = columns.push(b"x", 1_700_000_000_000).unwrap();
            let range = columns.arena.push(value).unwrap();
            columns.set_header(row, Slot(0), range);
        }
        let batch = Batch::new(columns);
        let mut path = String::new();
        batch
            .rows
            .iter()
            .map(|&row| {
                template.render(&batch, row, &mut path).unwrap();
                path.clone()
            })
            .collect()
    }

    #[test]
    fn a_value_cannot_leave_its_place() {
        let hostile: [&[u8]; 7] =
            [b"../../etc/passwd", b"..", b".", b"", b"a/b", b"\xff\0\n", "x".repeat(5000).leak().as_bytes()];
        for path in paths(path_of_header("/data/", "/x.log"), &hostile) {
            let value = path.strip_prefix("/data/").and_then(|rest| rest.strip_suffix("/x.log")).unwrap();
            assert!(!value.is_empty() && value != "." && value != ".." && !value.contains('/'), "{path}");
            assert!(value.len() <= COMPONENT_BYTES_MAX, "{path}");
        }
        for path in paths(path_of_header("/data/.", ""), &[b".", b"./x"]) {
            assert!(path == "/data/__/events.log" || path == "/data/.._x/events.log", "{path}");
        }
    }

    #[test]
    fn after_an_event_that_has_no_path_the_next_one_has_its_own() {
        let broken = serde_json::json!({"if": {
            "condition": {"compare": {"op": "eq", "left": {"header": 0}, "right": {"const": {"text": "bad"}}}},
            "then": {"neg": {"value": {"header": 0}, "origin": 0}},
            "otherwise": {"const": {"text": "k"}},
        }});
        let template: Expr = serde_json::from_value(serde_json::json!({"template": [
            {"text": "/data/"}, {"expr": {"value": {"header": 0}, "format": null}}, {"text": "/"},
            {"expr": {"value": "body", "format": null}}, {"expr": {"value": broken, "format": null}},
        ]}))
        .unwrap();
        let mut template = PathTemplate::new(&template, &context(std::path::Path::new("/state"))).unwrap();
        let mut columns = Columns::default();
        for (name, body) in [("a", "1"), ("bad", "2"), ("c", "2")] {
            let row = columns.push(body.as_bytes(), 0).unwrap();
            let range = columns.arena.push(name.as_bytes()).unwrap();
            columns.set_header(row, Slot(0), range);
        }
        let batch = Batch::new(columns);
        let mut path = String::new();
        assert_eq!(template.render(&batch, 0, &mut path), Ok(true));
        assert_eq!(path, "/data/a/1k/events.log");
        assert!(template.render(&batch, 1, &mut path).is_err());
        assert_eq!(template.render(&batch, 2, &mut path), Ok(true));
        assert_eq!(path, "/data/c/2k/events.log");
        assert_eq!(template.render(&batch, 2, &mut path), Ok(false));
    }

    #[test]
    fn long_values_that_differ_stay_apart() {
        let (one, two) = ("y".repeat(400) + "1", "y".repeat(400) + "2");
        let paths =
            paths(path_of_header("/data/", ".log"), &[one.as_bytes(), two.as_bytes(), one.as_bytes()]);
        assert_ne!(paths[0], paths[1]);
        assert_eq!(paths[0], paths[2]);
    }

    #[test]
    fn a_path_without_extension_is_a_directory() {
        for (path, wanted) in [
            ("/data/syslog", "/data/syslog/events.log"),
            ("/data.d/", "/data.d/events.log"),
            ("/data/.hidden", "/data/.hidden/events.log"),
            ("/data/x.log", "/data/x.log"),
            ("x.log", "x.log"),
        ] {
            assert_eq!(paths(path_setting(path), &[b"v"]), [wanted]);
        }
        // The value has a dot, but the author wrote none.
        assert_eq!(paths(path_of_header("/data/", ""), &[b"a.b"]), ["/data/a.b/events.log"]);
    }

    #[test]
    fn the_slashes_of_a_time_format_are_the_authors() {
        let template = serde_json::json!({"template": [
            {"text": "/data/"}, {"expr": {"value": "time", "format": "%Y/%m"}}, {"text": "/x.log"}
        ]});
        assert_eq!(paths(template, &[b"v"]), ["/data/2023/11/x.log"]);
    }

    #[test]
    fn rolled_names_keep_the_extension() {
        assert_eq!(rolled_name("/d/web.log", "T", 0, ""), "/d/web.T.log");
        assert_eq!(rolled_name("/d/web.log", "T", 2, ".gz"), "/d/web.T-002.log.gz");
        assert_eq!(rolled_name("/d/web.log.gz", "T", 0, ".gz"), "/d/web.T.log.gz");
        assert_eq!(rolled_name("2026.d/web", "T", 0, ""), "2026.d/web.T");
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_value_the_path_keeps_its_shape(value in proptest::collection::vec(0_u8.., 0..600)) {
            let wanted = ["", "data", "", "x.log"];
            let path = paths(path_of_header("/data/v", "/x.log"), &[&value]).remove(0);
            let parts: Vec<&str> = path.split('/').collect();
            proptest::prop_assert_eq!(parts.len(), wanted.len());
            for (part, wanted) in parts.iter().zip(wanted) {
                proptest::prop_assert!(wanted.is_empty() || *part == wanted);
                proptest::prop_assert!(part.len() <= COMPONENT_BYTES_MAX && *part != "." && *part != "..");
                proptest::prop_assert!(!part.contains(char::is_control));
            }
        }
    }
}
