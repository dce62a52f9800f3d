//! Machine code and the reference evaluator give the same answers: for random programs as people write them, for
//! every example of every function, and for every flow that runs.

#[path = "support/checking.rs"]
#[allow(dead_code, reason = "only a part of it is needed")]
mod checking;
#[path = "support/logs.rs"]
#[allow(dead_code, reason = "only its random numbers are needed")]
mod logs;
#[path = "support/process.rs"]
#[allow(dead_code, reason = "only a part of it is needed")]
mod process;
#[path = "support/same/mod.rs"]
#[allow(dead_code, reason = "only a part of it is needed")]
mod same;

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use flow_plan::batch::Columns;
use flow_plan::{Batch, Plan};
use logs::Random;
use proptest::prelude::*;
use same::{Seen, mutate};

/// What many runs have shown together.
#[derive(Default)]
struct Sums {
    texts: usize,
    programs: usize,
    parts: usize,
    native: usize,
    rows: usize,
    out: usize,
    failed: usize,
}

impl Sums {
    fn add(&mut self, seen: &Seen) {
        self.texts += 1;
        self.programs += usize::from(seen.checked);
        self.parts += seen.parts;
        self.native += seen.native;
        self.rows += seen.rows;
        self.out += seen.out;
        self.failed += seen.failed;
    }

    /// A test whose programs are no programs, or are not compiled, or do nothing, says nothing.
    fn check(&self) {
        let Sums { texts, programs, parts, native, rows, out, failed } = self;
        println!(
            "{texts} texts, {programs} programs, {native} of {parts} parts native; {rows} rows, {out} came out, {failed} failed"
        );
        assert!(programs * 10 >= texts * 8, "only {programs} of {texts} texts are programs");
        assert!(native * 10 >= parts * 8, "only {native} of {parts} parts are machine code");
        assert!(*out > 0 && *failed > 0, "{out} rows came out, {failed} failed");
    }
}

/// Whole programs from bytes, `PROPTEST_CASES` of them.
#[test]
fn random_programs_as_people_write_them_give_the_same() {
    const CASES: u32 = 24;
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let sums = RefCell::new(Sums::default());
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let bytes = proptest::collection::vec(any::<u8>(), 400..mutate::INPUT_BYTES_MAX);
    let outcome = runner.run(&bytes, |data| {
        sums.borrow_mut().add(&same::check(&data));
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    sums.borrow().check();
}

/// The inputs that `soak` has kept, and some neighbours of them.
#[test]
fn the_corpus_and_its_neighbours_give_the_same() {
    const NEIGHBOURS: u64 = 24;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let mut corpus: Vec<Vec<u8>> =
        fs::read_dir(folder).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
    corpus.sort();
    assert!(corpus.len() >= 20, "{} inputs", corpus.len());
    let mut sums = Sums::default();
    corpus.iter().for_each(|data| sums.add(&same::check(data)));
    let mut random = Random::new(corpus.len() as u64);
    for _ in 0..NEIGHBOURS {
        let [one, other] = [0; 2].map(|_: u8| random.below(corpus.len() as u64) as usize);
        sums.add(&same::check(&mutate::mutated(&corpus[one], &corpus[other], &mut random)));
    }
    sums.check();
}

/// Examples of functions in one program; each is a step, so that one that the reference has to run hides no other.
const EXAMPLES_PER_PROGRAM: usize = 24;

/// A condition of the documentation, its text literals in headers: nothing can be computed before an event comes.
struct Example {
    shown: String,
    expression: String,
    fails: bool,
    texts: Vec<String>,
}

/// The example with all text literals (or the first one only: some places want a constant) in headers.
fn example(shown: &str, all: bool) -> Option<Example> {
    let fails = shown.trim_end().strip_suffix(" fails");
    let (mut expression, mut texts) = (String::new(), Vec::new());
    let mut left = fails.unwrap_or(shown);
    while let Some(start) = left.find(['"', '/', '\'']) {
        let (before, rest) = left.split_at(start);
        expression += before;
        let quote = rest.chars().next()?;
        let mut end = None;
        let mut escaped = false;
        for (at, char) in rest.char_indices().skip(1) {
            match char {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                _ if char == quote => {
                    end = Some(at + 1);
                    break;
                }
                _ => {}
            }
        }
        // A division, a raw text or a regex stays.
        let literal = &rest[..end.unwrap_or(1)];
        let plain = literal.len() >= 2 && quote == '"' && !literal.contains(['\\', '$']);
        if plain && (all || texts.is_empty()) {
            let _ = write!(expression, "(header.t{} ?? \"\")", texts.len());
            texts.push(literal[1..literal.len() - 1].to_owned());
        } else {
            expression += literal;
        }
        left = &rest[literal.len()..];
    }
    expression += left;
    (!texts.is_empty()).then(|| Example {
        shown: shown.to_owned(),
        expression,
        fails: fails.is_some(),
        texts,
    })
}

impl Example {
    /// The step that puts what it finds into `header.aN`.
    fn step(&self, number: usize, first_text: usize) -> String {
        let mut expression = self.expression.clone();
        for at in (0..self.texts.len()).rev() {
            expression =
                expression.replace(&format!("header.t{at} "), &format!("header.t{} ", first_text + at));
        }
        if self.fails {
            format!("interceptor s{number} {{ header.a{number} = to_json({expression}) else \"fails\" }}\n")
        } else {
            format!("interceptor s{number} {{ header.a{number} = text({expression}) }}\n")
        }
    }
}

fn flow_of(examples: &[Example]) -> (String, Vec<String>) {
    let (mut text, mut chain, mut texts) =
        (String::from("source web = http \":1\"\n"), String::from("web"), Vec::new());
    for (number, example) in examples.iter().enumerate() {
        text += &example.step(number, texts.len());
        texts.extend(example.texts.iter().cloned());
        let _ = write!(chain, " -> s{number}");
    }
    (text + &chain + " -> console\n", texts)
}

#[test]
fn examples_of_functions_are_true_as_machine_code() {
    let library = checking::library();
    let mut examples = Vec::new();
    for one in library.externs.iter().filter(|one| one.word == flow_syntax::ast::ExternWord::Fn) {
        let lines = one.doc.as_deref().unwrap_or("").lines().filter_map(|line| line.strip_prefix("    "));
        for line in lines {
            let both = [example(line, true), example(line, false)];
            let differ = both[0].as_ref().is_some_and(|example| example.texts.len() > 1);
            examples.extend(both.into_iter().take(1 + usize::from(differ)).flatten());
        }
    }
    let found = examples.len();
    // Where a constant is wanted, or a function is not in this build, there is nothing to run.
    examples.retain(|example| same::plan("example.flow", &flow_of(std::slice::from_ref(example)).0).is_ok());
    assert!(examples.len() * 10 >= found * 7, "only {} of {found} examples can be run", examples.len());
    assert!(examples.len() > 200, "{} examples", examples.len());
    let (mut parts, mut native) = (0, 0);
    for examples in examples.chunks(EXAMPLES_PER_PROGRAM) {
        let (text, texts) = flow_of(examples);
        let plan = same::plan("example.flow", &text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        let batch = |_| {
            let mut columns = Columns { source: "web".into(), ..Columns::default() };
            columns.push(b"", same::NOW_MS).unwrap();
            for (number, text) in texts.iter().enumerate() {
                columns.set_header_named(0, &format!("t{number}"), text.as_bytes(), &plan.slots).unwrap();
            }
            (Batch::new(columns), false)
        };
        let seen = same::compare(&plan, &plan.agents[0].programs[0], 1, batch, &text);
        assert_eq!((seen.out, seen.failed), (1, 0), "{:?}\n{text}", seen.shapes);
        for (number, example) in examples.iter().enumerate() {
            let name = format!("a{number}");
            let answer = seen.answers[0].iter().find(|(header, _)| *header == name).map(|(_, value)| value);
            let right: &[u8] = if example.fails { b"fails" } else { b"true" };
            assert_eq!(answer.map(Vec::as_slice), Some(right), "{}", example.shown);
        }
        (parts, native) = (parts + seen.parts, native + seen.native);
    }
    println!("{} of {found} examples, {native} of {parts} steps native", examples.len());
    assert!(native * 10 >= parts * 9, "only {native} of {parts} steps are machine code");
}

fn files_below(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" {
                files_below(&path, ending, found);
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

/// Texts of programs with the file they are from: files of the language, and what the pages show.
fn flows() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut paths, mut pages) = (Vec::new(), Vec::new());
    files_below(root, ".flow", &mut paths);
    files_below(root, ".md", &mut pages);
    let read = |path: &PathBuf| (path.display().to_string(), fs::read_to_string(path).unwrap());
    let mut flows: Vec<(String, String)> = paths.iter().map(read).collect();
    for (name, page) in pages.iter().map(read) {
        let blocks = page.split("```flow\n").skip(1).filter_map(|block| block.split("```").next());
        flows.extend(blocks.map(|block| (name.clone(), block.to_owned())));
    }
    flows
}

/// Some events for any program: lines of all examples, hostile ones, headers now and then.
fn events(plan: &Plan) -> Batch {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    let mut columns = Columns { source: "web".into(), ..Columns::default() };
    let files = ["access.log", "app.jsonl", "syslog.log"].map(|name| fs::read(root.join(name)).unwrap());
    let lines = files.iter().flat_map(|file| file.split(|byte| *byte == b'\n').take(40));
    let hostile: [&[u8]; 5] = [b"", b"\0\0", b"\xff\xfe{", "é \u{10ffff}".as_bytes(), b"{\"id\": 1e400}"];
    for line in lines.chain(hostile) {
        columns.push(line, same::NOW_MS).unwrap();
    }
    let mut random = Random::new(3);
    for slot in &plan.slots {
        for row in 0..columns.bodies.len() as u32 {
            if random.below(3) == 0 {
                let value = random.pick(&["200", "503", "error", "a", "", "paris", "é", "{\"a\": 1}"]);
                columns.set_header_named(row, slot, value.as_bytes(), &plan.slots).unwrap();
            }
        }
    }
    Batch::new(columns)
}

/// What gives another answer at each run.
const BY_CHANCE: [&str; 4] = ["uuid", "sample", "random", "throttle"];

#[test]
fn every_flow_of_the_project_gives_the_same() {
    let (mut sums, mut programs) = (Sums::default(), 0);
    for (name, text) in flows() {
        if BY_CHANCE.iter().any(|word| text.contains(word)) {
            continue;
        }
        let Ok(plan) = same::plan(&name, &text) else { continue };
        for program in plan.agents.iter().flat_map(|agent| &agent.programs) {
            programs += 1;
            let shown = format!("{name}: {}\n{text}", program.name);
            sums.add(&same::compare(&plan, program, 1, |_| (events(&plan), false), &shown));
        }
    }
    println!("{programs} programs");
    assert!(programs > 40, "{programs} programs");
    sums.check();
}

/// Everything that the examples write, with and without machine code.
#[test]
fn examples_write_the_same_without_machine_code() {
    for example in ["quickstart", "json_lines"] {
        let [native, reference] = [&[] as &[&str], &["--no-jit"]].map(|options| {
            let home = tempfile::tempdir().unwrap();
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
            let examples = home.path().join("examples");
            fs::create_dir_all(examples.join("data")).unwrap();
            for file in ["data/access.log", "data/app.jsonl", "quickstart.flow", "json_lines.flow"] {
                fs::copy(root.join(file), examples.join(file)).unwrap();
            }
            let mut command = process::flowc(home.path());
            command.current_dir(home.path()).arg("run").arg(format!("examples/{example}.flow")).args(options);
            let output = process::finish(&mut command);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let mut written = Vec::new();
            files_below(&examples.join("out"), "", &mut written);
            let mut written: Vec<_> = written
                .iter()
                .map(|path| (path.file_name().unwrap().to_owned(), fs::read(path).unwrap()))
                .collect();
            written.sort();
            written
        });
        assert!(native.len() >= 2, "{} files", native.len());
        assert!(native == reference, "{example} wrote different files");
    }
}
