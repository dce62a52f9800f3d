//! The batch kernels beside what does the same row by row, over 1,024 lines of a combined access log (200 KB: the
//! second cache). Contenders take turns within each round, and the medians of the rounds are printed, so that a busy
//! machine disturbs all of them alike. Run with `cargo bench -p flow-jit --bench kernels`.

use std::hint::black_box;
use std::time::Instant;

use flow_jit::automaton::ByteSet;
use flow_jit::kernels::{Bitmaps, Classifier, Isa, Prefilter, RowBits};
use flow_plan::batch::Columns;
use flow_plan::settings::RegexSetting;
use memchr::memmem::Finder;
use regex::bytes::Regex;

const ROWS: usize = 1_024;
const ROUNDS: usize = 301;
/// Length of every line, in bytes.
const LINE: usize = 196;

type Contender<'a> = (String, Box<dyn FnMut() -> usize + 'a>);

fn main() {
    let columns = columns();
    classes(&columns);
    lines(&columns);
    for (pattern, needles) in [
        ("GET /health|kube-probe", &["GET /health", "kube-probe"][..]),
        ("^(.*GET /health.*|.*kube-probe.*)$", &["GET /health", "kube-probe"]),
        ("kube-probe", &["kube-probe"]),
        ("Firefox", &["Firefox"]),
        ("(?i:bot|crawler|spider)", &[]),
        ("/static/|/assets/|\\.(?:css|js|png|jpg)[? ]", &[]),
        ("/login|/logout|/oauth/|/admin|\\.php", &[]),
    ] {
        search(&columns, pattern, needles);
    }
}

/// Lines that end in a newline, as a source reads them: one row in 16 is a health check, one a probe.
fn columns() -> Columns {
    let mut columns = Columns::default();
    for n in 0..ROWS {
        let path =
            if n % 16 == 3 { "/health".into() } else { format!("/catalogue/items/{n}?page={}", n % 17) };
        let agent =
            if n % 16 == 9 { "kube-probe/1.30" } else { "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0" };
        let mut line = format!(
            "203.0.113.{} - frank [23/Nov/2026:10:{:02}:{:02} +0000] \"GET {path} HTTP/1.1\" {} {} \
             \"https://shop.example/start?session=",
            n % 250,
            n / 60 % 60,
            n % 60,
            [200, 200, 200, 304, 404, 500][n % 6],
            1_000 + n,
        );
        while line.len() + agent.len() + 5 < LINE {
            line.push(char::from(b'a' + (line.len() * n % 26) as u8));
        }
        line.push_str(&format!("\" \"{agent}\""));
        let row = columns.push(line.as_bytes(), 0).expect("room");
        columns.bodies[row as usize].len = line.len() as u32;
        columns.arena.push(b"\n").expect("room");
    }
    columns
}

/// Runs the contenders in turn and prints the medians, per row and as throughput. All have to give the same number.
fn race(title: &str, bytes: usize, mut contenders: Vec<Contender>) {
    println!("{title}");
    let mut times = vec![Vec::with_capacity(ROUNDS); contenders.len()];
    let expected = contenders[0].1();
    for _ in 0..ROUNDS {
        for ((name, run), times) in contenders.iter_mut().zip(&mut times) {
            let start = Instant::now();
            let result = black_box(run());
            times.push(start.elapsed().as_nanos() as f64);
            assert_eq!(result, expected, "{name} gives another answer");
        }
    }
    for ((name, _), times) in contenders.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        let ns = times[ROUNDS / 2];
        println!("  {name:<34} {:>8.1} ns/row {:>8.2} GB/s", ns / ROWS as f64, bytes as f64 / ns);
    }
}

fn classes(columns: &Columns) {
    let sets = [
        ByteSet::from_iter(*b" \n"),
        ByteSet::from_iter(*b"\"\n"),
        ByteSet::range(b'0', b'9').complement(),
        ByteSet::from_iter(*b"]\n"),
        ByteSet::range(b'a', b'z').union(ByteSet::range(0xc0, 0xdf)),
    ];
    let padded = columns.arena.padded();
    for count in [1, 3, 4, 5] {
        let contenders = [Isa::detect(), Isa::PORTABLE].map(|isa| -> Contender {
            let classifier = Classifier::new(&sets[..count]).expect("few classes");
            let mut bitmaps = Bitmaps::default();
            let run = move || {
                classifier.classify(padded, 0..columns.arena.len(), isa, &mut bitmaps);
                usize::from(bitmaps.has(0, 12).is_some())
            };
            (format!("{isa:?}"), Box::new(run))
        });
        race(&format!("bitmaps of {count} classes"), columns.arena.len(), contenders.into());
    }
}

/// Finding all line ends of a read buffer.
fn lines(columns: &Columns) {
    let text = columns.arena.bytes();
    let mut ends: Vec<u32> = Vec::with_capacity(ROWS);
    let mut ends_of_bits = ends.clone();
    let newline = Classifier::new(&[ByteSet::byte(b'\n')]).expect("one class");
    let mut bitmaps = Bitmaps::default();
    let contenders: Vec<Contender> = vec![
        (
            "memchr_iter".into(),
            Box::new(|| {
                ends.clear();
                ends.extend(memchr::memchr_iter(b'\n', text).map(|at| at as u32));
                ends.len()
            }),
        ),
        (
            "bitmap, then its ones".into(),
            Box::new(|| {
                ends_of_bits.clear();
                newline.classify(columns.arena.padded(), 0..text.len(), Isa::detect(), &mut bitmaps);
                for (at, word) in bitmaps.words(0).iter().enumerate() {
                    let mut word = *word;
                    while word != 0 {
                        ends_of_bits.push((at * 64) as u32 + word.trailing_zeros());
                        word &= word - 1;
                    }
                }
                ends_of_bits.len()
            }),
        ),
    ];
    race("line ends", text.len(), contenders);
}

fn search(columns: &Columns, pattern: &str, needles: &[&str]) {
    let setting = RegexSetting { pattern: pattern.into(), flags: String::new() };
    let rows: Vec<u32> = (0..ROWS as u32).collect();
    let regex = Regex::new(pattern).expect("a regex");
    let body = |row: u32| columns.arena.get(columns.bodies[row as usize]).unwrap_or(&[]);
    let mut contenders: Vec<Contender> = vec![(
        "regex is_match by row".into(),
        Box::new(|| rows.iter().filter(|&&row| regex.is_match(body(row))).count()),
    )];
    for isa in [Isa::detect(), Isa::PORTABLE] {
        let Some(prefilter) = Prefilter::with_isa(&[&setting], isa) else {
            println!("{pattern}: no prefilter");
            continue;
        };
        let (rows, mut hits) = (&rows, RowBits::default());
        let name = format!("{isa:?}{}", if prefilter.is_exact() { ", exact" } else { "" });
        let run = move || {
            prefilter.candidates(columns.arena.padded(), &columns.bodies, rows, &mut hits);
            hits.count()
        };
        contenders.push((name, Box::new(run)));
    }
    if !needles.is_empty() {
        let finders: Vec<Finder> = needles.iter().map(Finder::new).collect();
        let by_row = {
            let (finders, rows) = (finders.clone(), &rows);
            move || {
                rows.iter()
                    .filter(|&&row| finders.iter().any(|finder| finder.find(body(row)).is_some()))
                    .count()
            }
        };
        contenders.push((format!("memmem by row, {}", needles.len()), Box::new(by_row)));
        let mut hits = RowBits::default();
        let whole = move || {
            hits.reset(ROWS);
            for finder in &finders {
                for at in finder.find_iter(columns.arena.bytes()) {
                    hits.set(columns.bodies.partition_point(|body| body.start as usize <= at) - 1);
                }
            }
            hits.count()
        };
        contenders.push((format!("memmem over the batch, {}", needles.len()), Box::new(whole)));
    }
    race(&format!("/{pattern}/"), columns.bodies.iter().map(|body| body.len as usize).sum(), contenders);
}
