//! "Did you mean": the nearest of the names that there are.

/// Returns the name that is nearest to `name`, if one is near.
pub(super) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    let limit = (length / 3).clamp(1, 3);
    // Where the lengths differ by more, so do the letters.
    let known = known.into_iter().filter(|known| known.chars().count().abs_diff(length) <= limit);
    let near = known.map(|known| (distance(&name.to_lowercase(), &known.to_lowercase()), known));
    near.filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// How many letters have to be put in, taken out, replaced or exchanged with the next.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = [vec![0; b.len() + 1], (0..=b.len()).collect(), vec![0; b.len() + 1]];
    for i in 1..=a.len() {
        rows[2][0] = i;
        for j in 1..=b.len() {
            let replaced = rows[1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[1][j] + 1).min(rows[2][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[0][j - 2] + 1);
            }
            rows[2][j] = least;
        }
        rows.rotate_left(1);
    }
    rows[1][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognized() {
        let known = ["document", "row", "meta"];
        assert_eq!(did_you_mean("documnet", known), Some("document"));
        assert_eq!(did_you_mean("rwo", known), Some("row"));
        assert_eq!(did_you_mean("price", known), None);
    }
}
