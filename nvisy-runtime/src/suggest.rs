//! "Did you mean": the nearest of the names that there are.

/// Returns the candidate nearest to a word, if it is near enough to have been meant.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 48;
    let word: Vec<char> = word.chars().take(LONGEST + 1).collect();
    if word.len() > LONGEST {
        return None;
    }
    let bound = (word.len() / 3).max(1);
    let candidates: Vec<&str> =
        candidates.into_iter().filter(|candidate| candidate.len() <= LONGEST).collect();
    let near = candidates.iter().filter(|candidate| candidate.chars().count().abs_diff(word.len()) <= bound);
    let near = near
        .filter_map(|candidate| distance(&word, candidate, bound).map(|distance| (distance, *candidate)))
        .min();
    near.map(|(_, candidate)| candidate).or_else(|| the_one_that_begins_alike(&word, &candidates))
}

/// Returns the only candidate that begins with most of a word, as `deduplicate` does with that of
/// `dedupe`.
fn the_one_that_begins_alike<'a>(word: &[char], candidates: &[&'a str]) -> Option<&'a str> {
    const ALIKE: usize = 4;
    let alike = |candidate: &&&str| {
        let same = word.iter().zip(candidate.chars()).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count();
        // Where a name has a place before it, that tells nothing.
        let place = word.iter().rposition(|char| *char == '/').map_or(0, |slash| slash + 1);
        same >= place + ALIKE && same * 3 >= word.len() * 2
    };
    let mut alike = candidates.iter().filter(alike);
    alike.next().filter(|_| alike.next().is_none()).copied()
}

/// Returns "did you mean" as help, if something is near.
pub(crate) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, candidates).map(|candidate| format!("did you mean \"{candidate}\"?"))
}

/// Returns the word and the choices that serde names in "unknown variant `x`, expected one of
/// `a`, `b`".
pub(crate) fn unknown_variant(message: &str) -> Option<(&str, Vec<String>)> {
    let rest = message.strip_prefix("unknown variant `")?;
    let (word, _) = rest.rsplit_once("`, expected ")?;
    Some((word, known_fields(&rest[word.len()..])?))
}

/// Returns the fields that serde names in "unknown field `x`, expected one of `a`, `b`".
pub(crate) fn known_fields(message: &str) -> Option<Vec<String>> {
    let (_, expected) = message.split_once(", expected ")?;
    Some(expected.split('`').skip(1).step_by(2).map(str::to_owned).collect())
}

/// The optimal-string-alignment distance (Levenshtein's with swaps of neighbours), unless it
/// is above `bound`.
fn distance(word: &[char], other: &str, bound: usize) -> Option<usize> {
    let other: Vec<char> = other.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in word.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let same = usize::from(!a.eq_ignore_ascii_case(b));
            let mut best = (last[j] + same).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && word[i - 1] == *b {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().filter(|distance| *distance <= bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(word: &str, candidates: &[&str], expected: Option<&str>) {
        assert_eq!(nearest(word, candidates.iter().copied()), expected, "{word}");
    }

    #[test]
    fn the_nearest_name_is_found_if_it_is_near() {
        check("vectros", &["vectors", "docs"], Some("vectors"));
        check("Docs", &["vectors", "docs"], Some("docs"));
        check("stor", &["store", "story"], Some("store"));
        check("anything", &["vectors", "docs"], None);
        check("a", &["b"], Some("b"));
        check("", &["vectors"], None);
        check("documnet", &["document", "row", "meta"], Some("document"));
        check("rwo", &["document", "row", "meta"], Some("row"));
    }

    #[test]
    fn a_name_that_begins_alike_is_meant_if_it_is_the_only_one() {
        check("dedupe", &["deduplicate", "filter"], Some("deduplicate"));
        check("dedupe", &["deduplicate", "deduplicator"], None);
        check("object/xml", &["object/jsonl"], None);
        check("vector/pinecone", &["vector/sqlite"], None);
        check("agg", &["aggregate"], None);
    }
}
