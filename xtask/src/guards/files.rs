//! No file under version control names the machine that it was written on or the registry that it used.

use std::collections::BTreeSet;
use std::process::Command;
use std::{env, fs};

use super::{Verdict, verdict};
use crate::process::{read, root};

/// Folders of somebody's machine, in pieces so that this file passes its own check.
const MACHINE_PATHS: &[&str] =
    &[concat!("/", "work"), concat!("/", "root"), concat!("/", "home"), concat!("/", "Users")];

/// The hosts that package clients fetch from; a file that names one decides for its reader.
const REGISTRY_HOSTS: &[&str] = &[
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("files.", "pythonhosted.org"),
    concat!("registry.", "npmjs.org"),
    concat!("proxy.", "golang.org"),
];

/// Hosts that a page may link to.
const PUBLIC_HOSTS: &[&str] = &["crates.io", "docs.rs", "github.com", "pypi.org"];

pub(super) fn check() -> Verdict {
    let mut hosts: BTreeSet<String> = REGISTRY_HOSTS.iter().map(ToString::to_string).collect();
    hosts.extend(configured_hosts());
    let tracked = read(Command::new("git").args(["ls-files", "-z"]).current_dir(root()))?;
    let mut wrong = Vec::new();
    let mut scanned = 0;
    for path in tracked.split('\0').filter(|path| !path.is_empty()) {
        // A file that is listed but deleted, or that is no text, has no lines to check.
        let Ok(text) = fs::read_to_string(root().join(path)) else { continue };
        scanned += 1;
        for (line, reason) in scan(&text, &hosts) {
            wrong.push(format!("{path}:{line}: {reason}"));
        }
    }
    verdict(&wrong, format!("{scanned} files"))
}

/// Returns what is wrong, with its line.
fn scan(text: &str, hosts: &BTreeSet<String>) -> Vec<(usize, String)> {
    let mut wrong = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for path in MACHINE_PATHS.iter().filter(|path| names_path(line, path)) {
            wrong.push((number, format!("names the machine path `{path}`")));
        }
        // The host itself is not repeated: the message may end up in a file too.
        if hosts.iter().any(|host| line.contains(host.as_str())) {
            wrong.push((number, "names the host of a registry".to_owned()));
        }
        let source = line.trim().strip_prefix("source = ");
        if source
            .is_some_and(|source| source.contains("registry+") && !source.contains("//github.com/rust-lang/"))
        {
            wrong.push((number, "takes a crate from another registry than the public one".to_owned()));
        }
    }
    wrong
}

/// Tells whether a line holds a path from the root of a file system: `{path}` is no part of a longer one.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + path.len()..].chars().next();
        let continues = |c: char| c.is_alphanumeric() || "_-.~})]*/$".contains(c);
        !before.is_some_and(continues) && !after.is_some_and(|c| c.is_alphanumeric() || "_-.".contains(c))
    })
}

/// Returns the hosts that this machine's package clients are pointed at.
fn configured_hosts() -> BTreeSet<String> {
    let variable = |name: &str| {
        let name = name.to_ascii_uppercase();
        name.ends_with("INDEX_URL") || name.ends_with("_INDEX") || name.ends_with("REGISTRY")
    };
    let mut texts: Vec<String> = env::vars_os()
        .filter(|(name, _)| variable(&name.to_string_lossy()))
        .map(|(_, value)| value.to_string_lossy().into_owned())
        .collect();
    if let Some(home) = env::var_os("CARGO_HOME")
        .map(std::path::PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".cargo")))
    {
        texts.extend(fs::read_to_string(home.join("config.toml")));
    }
    texts.iter().flat_map(|text| url_hosts(text)).collect()
}

/// Returns the hosts of the addresses in a text, without those that anyone may link to.
fn url_hosts(text: &str) -> Vec<String> {
    let host = |rest: &str| {
        let authority = rest.split(|c: char| c.is_whitespace() || "/\"'?#".contains(c)).next()?;
        let host = authority.rsplit('@').next()?.split(':').next()?;
        (host.contains('.') && !PUBLIC_HOSTS.contains(&host)).then(|| host.to_owned())
    };
    text.split("://").skip(1).filter_map(host).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, problems: usize) {
        let hosts = REGISTRY_HOSTS.iter().chain(&["mirror.example"]).map(ToString::to_string).collect();
        assert_eq!(scan(line, &hosts).len(), problems, "{line}");
    }

    #[test]
    fn paths_from_the_root_of_a_machine_are_found() {
        for path in MACHINE_PATHS {
            check(&format!("cd {path}"), 1);
            check(&format!("open(\"{path}/x.csv\")"), 1);
            check(&format!("see src{path}/mod and $HOME{path}"), 0);
            check(&format!("a{path}, {path}ers"), 0);
        }
    }

    #[test]
    fn registries_are_found() {
        check("index = \"https://mirror.example/index\"", 1);
        check(concat!("https://static.", "crates.io/crates/x"), 1);
        check("source = \"registry+https://elsewhere.example/index\"", 1);
        check("source = \"registry+https://github.com/rust-lang/crates.io-index\"", 0);
        check("see https://crates.io/crates/arrow", 0);
    }

    #[test]
    fn a_host_is_read_from_an_address_without_user_and_port() {
        let text =
            "a = \"sparse+https://user:word@mirror.example:8443/x\" # https://docs.rs/y http://localhost:1";
        assert_eq!(url_hosts(text), ["mirror.example"]);
    }
}
