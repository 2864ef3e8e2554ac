//! Every feature of every library compiles without the others, and so does each library without any.

use super::{Verdict, verdict};
use crate::process::{Failure, cargo, read, run};

/// What one library is checked with.
#[derive(Debug, PartialEq)]
struct Library {
    name: String,
    features: Vec<String>,
}

pub(super) fn check() -> Verdict {
    let printed = read(&mut cargo([
        "tree",
        "--quiet",
        "--workspace",
        "--all-features",
        "--depth",
        "0",
        "--prefix",
        "none",
        "--format",
        "{p}|{f}",
    ]))?;
    let libraries = parse(&printed);
    if libraries.is_empty() {
        return Err(Failure::new("`cargo tree` printed no library"));
    }
    let mut wrong = Vec::new();
    let mut checked = 0;
    for Library { name, features } in &libraries {
        for feature in std::iter::once(None).chain(features.iter().map(Some)) {
            // Clippy, because it alone makes warnings errors without building the dependencies anew.
            let mut check = cargo(["clippy", "--quiet", "--lib", "-p", name, "--no-default-features"]);
            if let Some(feature) = feature {
                check.args(["--features", feature]);
            }
            check.args(["--", "-D", "warnings"]);
            checked += 1;
            if run(&mut check).is_err() {
                let with =
                    feature.map_or("without features".to_owned(), |f| format!("with feature `{f}` alone"));
                wrong.push(format!("{name} does not compile cleanly {with}"));
            }
        }
    }
    verdict(&wrong, format!("{checked} combinations"))
}

/// Reads the lines `name v0.1.0 (path)|one,two`, and keeps the libraries.
fn parse(tree: &str) -> Vec<Library> {
    let library = |line: &str| {
        let (package, features) = line.split_once('|')?;
        let name = package.split_whitespace().next().filter(|name| name.starts_with("nvisy-"))?;
        let features = features.split(',').filter(|feature| !feature.is_empty()).map(str::to_owned);
        Some(Library { name: name.to_owned(), features: features.collect() })
    };
    tree.lines().filter_map(library).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_with_their_features() {
        let tree = "examples v0.1.0 (/somewhere/examples)|\n\
                    \n\
                    nvisy-core v0.1.0 (/somewhere/nvisy-core)|default,testing\n\
                    nvisy-bare v0.1.0 (/somewhere/nvisy-bare)|\n";
        let library = |name: &str, features: &[&str]| Library {
            name: name.to_owned(),
            features: features.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(parse(tree), [library("nvisy-core", &["default", "testing"]), library("nvisy-bare", &[])]);
    }
}
