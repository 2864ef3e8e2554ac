//! What may stand in the dependency tree, read from `cargo tree`.

use std::collections::BTreeSet;
use std::process::Command;

use super::{Verdict, verdict};
use crate::process::{Failure, cargo, read};

/// Drivers, clients and whatever opens a socket: plugins have them, `nvisy-core` has none.
const DRIVERS: &[&str] = &[
    "aws-lc-rs",
    "aws-lc-sys",
    "h2",
    "hyper",
    "hyper-util",
    "indicatif",
    "libsqlite3-sys",
    "mio",
    "object_store",
    "opentelemetry",
    "parquet",
    "pgvector",
    "qdrant-client",
    "reqwest",
    "rig-core",
    "rusqlite",
    "rustls",
    "socket2",
    "sqlite-vec",
    "sqlx",
    "sqlx-core",
    "text-splitter",
    "tiberius",
    "tiktoken-rs",
    "tokio-rustls",
    "tonic",
];

/// The most crates that `nvisy-runtime` may bring without features, itself included.
const RUNTIME_LIMIT: usize = 150;

/// TLS and cryptography beside the one provider, `aws-lc-rs`.
const OTHER_TLS: &[&str] = &["native-tls", "openssl", "openssl-sys", "ring", "rustls-openssl"];

/// One crate at one version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Crate {
    name: String,
    version: String,
}

pub(super) fn core_has_no_driver() -> Verdict {
    let crates = tree(&["-p", "nvisy-core", "--all-features", "-e", "normal,build", "--target", &host()?])?;
    let wrong = named(&crates, DRIVERS);
    let wrong: Vec<String> = wrong.iter().map(|name| format!("nvisy-core depends on {name}")).collect();
    verdict(&wrong, count(crates.len()))
}

pub(super) fn runtime_is_small() -> Verdict {
    let crates =
        tree(&["-p", "nvisy-runtime", "--no-default-features", "-e", "normal", "--target", &host()?])?;
    let size = count(crates.len());
    let twice: BTreeSet<&str> = crates
        .iter()
        .zip(crates.iter().skip(1))
        .filter(|(one, next)| one.name == next.name)
        .map(|(one, _)| one.name.as_str())
        .collect();
    let wrong = (crates.len() > RUNTIME_LIMIT).then(|| {
        let twice: Vec<&str> = twice.into_iter().collect();
        format!(
            "nvisy-runtime without features brings {size}, the limit is {RUNTIME_LIMIT}\n\
             in several versions: {}\n\
             see `cargo tree -p nvisy-runtime -e normal`",
            twice.join(", ")
        )
    });
    verdict(wrong.as_slice(), format!("{size}, at most {RUNTIME_LIMIT}"))
}

pub(super) fn one_tls_provider() -> Verdict {
    let crates = tree(&["--workspace", "--all-features", "-e", "normal,build,dev", "--target", "all"])?;
    let mut wrong: Vec<String> =
        named(&crates, OTHER_TLS).iter().map(|name| format!("{name} is in the tree")).collect();
    let versions: Vec<&str> =
        crates.iter().filter(|c| c.name == "aws-lc-rs").map(|c| c.version.as_str()).collect();
    if versions.len() > 1 {
        wrong.push(format!("aws-lc-rs is in the tree in several versions: {}", versions.join(", ")));
    }
    verdict(&wrong, versions.first().map_or("no TLS".to_owned(), |version| format!("aws-lc-rs {version}")))
}

fn count(crates: usize) -> String {
    format!("{crates} crates")
}

/// Returns those of the names that are among the crates.
fn named<'a>(crates: &BTreeSet<Crate>, names: &[&'a str]) -> Vec<&'a str> {
    names.iter().copied().filter(|name| crates.iter().any(|c| c.name == *name)).collect()
}

fn tree(args: &[&str]) -> Result<BTreeSet<Crate>, Failure> {
    let printed = read(cargo(["tree", "--quiet", "--prefix", "none"]).args(args))?;
    let crates = parse(&printed);
    if crates.is_empty() { Err(Failure::new("`cargo tree` printed no crate")) } else { Ok(crates) }
}

/// Reads the lines of `cargo tree --prefix none`: `name v1.2.3`, then a path, `(proc-macro)` or `(*)`.
fn parse(tree: &str) -> BTreeSet<Crate> {
    let krate = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?.to_owned();
        let version = words.next()?.strip_prefix('v')?.to_owned();
        version.starts_with(|c: char| c.is_ascii_digit()).then_some(Crate { name, version })
    };
    tree.lines().filter_map(krate).collect()
}

/// Returns the triple of this machine.
fn host() -> Result<String, Failure> {
    let version = read(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Failure::new("`rustc -vV` names no host"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tree: &str, expected: &[(&str, &str)]) {
        let found = parse(tree);
        let found: Vec<(&str, &str)> = found.iter().map(|c| (c.name.as_str(), c.version.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_crate_counts_once_for_each_version() {
        check(
            "app v0.1.0 (/a path/app)\n\
             serde v1.0.229\n\
             serde_derive v1.0.229 (proc-macro)\n\
             syn v2.0.119\n\
             \n\
             syn v3.0.9 (*)\n\
             serde v1.0.229 (*)\n",
            &[
                ("app", "0.1.0"),
                ("serde", "1.0.229"),
                ("serde_derive", "1.0.229"),
                ("syn", "2.0.119"),
                ("syn", "3.0.9"),
            ],
        );
    }

    #[test]
    fn lines_that_name_no_crate_are_passed_over() {
        check("[dev-dependencies]\n\nwarning: very odd\n", &[]);
    }

    #[test]
    fn a_name_matches_whole() {
        let crates = parse("hyper-util v0.1.0\nrustls v0.23.0\n");
        assert_eq!(named(&crates, &["hyper", "rustls", "ring"]), ["rustls"]);
    }
}
