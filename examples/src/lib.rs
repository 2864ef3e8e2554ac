//! What the examples share: where their files are, and how answers are printed.
#![expect(clippy::print_stdout, reason = "examples print")]

use std::fs;
use std::path::{Path, PathBuf};

use nvisy_runtime::nvisy_core::lineage::{Inputs, Record};
use nvisy_runtime::plugins::vector::Hit;

/// The code of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// Returns the root of this project.
#[must_use]
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// Returns the folder of the examples' own data.
#[must_use]
pub fn data() -> PathBuf {
    root().join("examples/data")
}

/// Returns an empty folder below `target/` that an example may fill.
///
/// # Errors
///
/// What keeps the folder from being emptied or made.
pub fn output(example: &str) -> std::io::Result<PathBuf> {
    let folder = root().join("target/examples").join(example);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Returns a path as one would type it here.
#[must_use]
pub fn from_here(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}

/// Prints an answer: under the question each passage with its score, its file and which bytes of
/// it, how it begins, and its lineage: the steps that made it of the object that was read.
pub fn print_answer(question: &str, hits: &[Hit]) {
    println!("{question}");
    if hits.is_empty() {
        println!("  nothing found");
    }
    for (rank, hit) in (1..).zip(hits) {
        let bytes = hit.byte_range.clone().unwrap_or_default();
        let file = hit.source_uri.as_deref().unwrap_or("?");
        let file = from_here(Path::new(file.strip_prefix("file://").unwrap_or(file)));
        println!("  {rank}. {:.2}  {file}, bytes {}..{}", hit.score, bytes.start, bytes.end);
        println!("     \"{}\"", beginning(hit.text.as_deref().unwrap_or_default(), 92));
        println!("     {}", lineage(&hit.lineage));
    }
    println!();
}

/// Returns the steps of a lineage on one line, the object that was read first.
#[must_use]
pub fn lineage(records: &[Record]) -> String {
    let mut steps = Vec::new();
    for record in records {
        if let Inputs::Source { position, .. } = &record.inputs {
            steps.push(position.to_string());
        }
        steps.push(format!("{} ({})", record.node, record.operation));
    }
    steps.join(" → ")
}

/// Returns how a text begins, on one line.
#[must_use]
pub fn beginning(text: &str, characters: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line,
    }
}

/// Returns the lines that differ: `-` before those of `old`, `+` before those of `new`.
#[must_use]
pub fn changed_lines<'a>(old: &'a str, new: &'a str) -> Vec<(char, &'a str)> {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    // The longest run of lines that both have, from each pair of places on.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            let skipped = common[i + 1][j].max(common[i][j + 1]);
            common[i][j] = if old[i] == new[j] { common[i + 1][j + 1] + 1 } else { skipped };
        }
    }
    let (mut i, mut j, mut changed) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            changed.push(('-', old[i]));
            i += 1;
        } else {
            changed.push(('+', new[j]));
            j += 1;
        }
    }
    changed
}
