//! The nearest name to a misspelt one.

/// The candidate nearest to `word` by optimal string alignment distance, if it is near enough to be what was
/// meant: at most a third of the longer length, and at least one edit is always allowed for words of three
/// letters and more.
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .filter(|candidate| *candidate != word)
        .map(|candidate| (strsim::osa_distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| {
            let length = word.chars().count().max(candidate.chars().count());
            let allowed = if length >= 3 { (length / 3).max(1) } else { 0 };
            *distance <= allowed
        })
        .min_by_key(|(distance, candidate)| (*distance, candidate.len(), *candidate))
        .map(|(_, candidate)| candidate)
}
