//! The example plants under `tests/flows` and the library's declarations parse without a word.

use std::path::{Path, PathBuf};

use flow_diag::FileId;
use flow_syntax::ast::{ExternWord, Item, TypeKind};
use flow_syntax::parse_file;

fn flow_files(folder: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            flow_files(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "flow") {
            out.push(path);
        }
    }
    out.sort();
}

#[test]
fn every_example_parses_without_diagnostics() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for folder in ["tests/flows", "examples", "stdlib"] {
        flow_files(&root.join(folder), &mut files);
    }
    assert!(files.len() >= 16, "only {} files found", files.len());
    for path in files {
        let text = std::fs::read_to_string(&path).expect("the file was listed");
        let parsed = parse_file(FileId(0), &text);
        assert_eq!(parsed.diagnostics, [], "{}", path.display());
        assert!(!parsed.value.items.is_empty(), "{}", path.display());
    }
}

const LIBRARY: &str = r#"## Reads lines appended to files.
##
##     source web = tail "/var/log/nginx/*.log" { from: end }
extern source tail(path: glob) {
  from:  one_of<start, end, rename(string)> = saved   ## where a file is first read
  batch: int 1..100_000 = 1_000              ## events per transaction
  ## written above
  wait:  range<duration> = 1s..30s
  roll:  limits? = 1h or 128MiB
  by:    expr<bool>, zk: ref<ensemble>
  map:   fn(string, int) -> list<T>?
  ...: expr<string>
} can replay, confirm sets header.file, header.path

extern fn lower(s: string) -> string
extern fn int(s: string, base: int 2..36 = 10) -> int can fail
extern topic topic { partitions: int 1..1_000 = 1 }
extern runtime runtime { metrics: address? }
extern -> console
"#;

#[test]
fn declarations_of_the_library_are_read() {
    let parsed = parse_file(FileId(0), LIBRARY);
    assert_eq!(parsed.diagnostics, []);
    let [
        Item::Extern(tail),
        Item::Extern(lower),
        Item::Extern(int),
        Item::Extern(topic),
        Item::Extern(runtime),
        Item::Chain(_),
    ] = parsed.value.items.as_slice()
    else {
        panic!("{:#?}", parsed.value.items)
    };
    assert_eq!(
        tail.doc.as_deref(),
        Some(
            "Reads lines appended to files.\n\n    source web = tail \"/var/log/nginx/*.log\" { from: end }"
        )
    );
    assert_eq!(tail.settings.len(), 7);
    assert_eq!(tail.settings[0].doc.as_deref(), Some("where a file is first read"));
    assert!(matches!(&tail.settings[0].ty.kind, TypeKind::OneOf(choices) if choices.len() == 3));
    assert!(tail.settings[1].ty.range.is_some());
    assert_eq!(tail.settings[1].doc.as_deref(), Some("events per transaction"));
    assert_eq!(tail.settings[2].doc.as_deref(), Some("written above"));
    assert!(tail.settings[3].ty.optional);
    assert!(tail.rest.is_some());
    assert_eq!(
        tail.abilities.iter().map(|name| name.text.as_str()).collect::<Vec<_>>(),
        ["replay", "confirm"]
    );
    assert_eq!(tail.sets.iter().map(|name| name.text.as_str()).collect::<Vec<_>>(), ["file", "path"]);
    assert_eq!((lower.word, lower.params.len(), lower.abilities.len()), (ExternWord::Fn, 1, 0));
    assert_eq!(int.abilities[0].text, "fail");
    assert_eq!((topic.word, topic.name.text.as_str()), (ExternWord::Topic, "topic"));
    assert_eq!((runtime.word, runtime.settings.len()), (ExternWord::Runtime, 1));
}

/// A text too long to be read at once is read statement by statement, with the same result.
#[test]
fn a_long_text_is_read_in_pieces() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/flows");
    let mut files = Vec::new();
    flow_files(&root, &mut files);
    let one: String =
        files.iter().map(|path| std::fs::read_to_string(path).expect("listed") + "\n").collect();
    let once = parse_file(FileId(0), &one);
    let times = (300 << 10) / one.len() + 1;
    let parsed = parse_file(FileId(0), &one.repeat(times));
    assert_eq!(parsed.diagnostics, []);
    assert_eq!(parsed.value.items.len(), once.value.items.len() * times);
    assert!(parsed.value.poisoned.is_empty());
}
