//! What a contender says of each row, in a form in which all can be compared.

use std::hash::{DefaultHasher, Hash, Hasher};

/// A row that is left.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    pub batch: usize,
    pub row: u32,
    /// Where it goes; 0 when there is only one place.
    pub route: usize,
    /// Milliseconds since 1970 UTC.
    pub time_ms: Option<i64>,
    pub fields: Vec<Vec<u8>>,
}

pub fn hash(answers: &[Answer]) -> u64 {
    let mut hasher = DefaultHasher::new();
    answers.hash(&mut hasher);
    hasher.finish()
}

/// The first place where two differ, in words.
pub fn difference(left: &[Answer], right: &[Answer]) -> Option<String> {
    if left == right {
        return None;
    }
    let first = (0..).find(|&index| left.get(index) != right.get(index))?;
    let show = |answer: Option<&Answer>| match answer {
        None => "no more rows".to_owned(),
        Some(answer) => {
            let fields: Vec<_> = answer.fields.iter().map(|field| String::from_utf8_lossy(field)).collect();
            let Answer { batch, row, route, time_ms, .. } = answer;
            format!("row {row} of batch {batch}: route {route}, time {time_ms:?}, fields {fields:?}")
        }
    };
    Some(format!("{}\n{}", show(left.get(first)), show(right.get(first))))
}
