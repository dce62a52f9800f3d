//! How long the compiler takes: parse and check of a plant of 2,000 lines, and formatting it.

#[path = "../support/checking.rs"]
#[allow(dead_code, reason = "only a part of it is measured")]
mod checking;
#[path = "../support/plant.rs"]
mod plant;

use checking::{Texts, check, library};

fn main() {
    divan::main();
}

#[divan::bench]
fn parse_2000_lines(bencher: divan::Bencher) {
    let text = plant::plant(2_000);
    let mut files = flow_diag::Files::new();
    let file = files.add("plant.flow", text.as_str());
    bencher.bench(|| flow_syntax::parse_file(file, &text));
}

#[divan::bench]
fn parse_and_check_2000_lines(bencher: divan::Bencher) {
    let text = plant::plant(2_000);
    let library = library();
    let result = check(&library, "plant.flow", &text, Texts::default());
    assert!(result.checked.plan.is_some(), "{}", result.shown());
    bencher.bench(|| check(&library, "plant.flow", &text, Texts::default()));
}

#[divan::bench]
fn format_2000_lines(bencher: divan::Bencher) {
    let text = plant::plant(2_000);
    bencher.bench(|| flow_syntax::format(&text));
}

#[divan::bench]
fn read_the_library(bencher: divan::Bencher) {
    bencher.bench(library);
}
