//! The explain pages of the codes that the parser gives: the wrong example gives exactly that code, the right one
//! nothing.

use flow_diag::{Code, FileId, all_codes};
use flow_syntax::parse_file;

/// Codes below F0100 are the parser's; of the values it gives these.
const OF_VALUES: [Code; 3] = [Code::F0203, Code::F0204, Code::F0219];

/// The text of the first ```flow block behind a heading.
fn example<'p>(page: &'p str, heading: &str) -> Option<&'p str> {
    let section = &page[page.find(heading)? + heading.len()..];
    let block = &section[section.find("```flow\n")? + "```flow\n".len()..];
    Some(&block[..block.find("```")?])
}

#[test]
fn the_examples_of_the_pages_give_what_they_say() {
    let mut wrong = String::new();
    for entry in all_codes() {
        let ours = entry.name < "F0100" || OF_VALUES.contains(&entry.code);
        // bytes that are no text cannot stand on a page, and two hundred brackets should not
        if !ours || matches!(entry.code, Code::F0023 | Code::F0024) {
            continue;
        }
        let codes = |text: &str| {
            let mut codes: Vec<Code> =
                parse_file(FileId(0), text).diagnostics.iter().map(|d| d.code).collect();
            codes.dedup();
            codes
        };
        match example(entry.page, "## Wrong").map(codes) {
            Some(codes) if codes == [entry.code] => {}
            found => wrong += &format!("{} wrong: {found:?}\n", entry.name),
        }
        match example(entry.page, "## Right").map(codes) {
            Some(codes) if codes.is_empty() => {}
            found => wrong += &format!("{} right: {found:?}\n", entry.name),
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
