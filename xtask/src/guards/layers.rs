//! Who may name whom in the code, found by scanning its text.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Verdict, verdict};
use crate::process::{Failure, root};

/// A word that a part of the code does not use.
struct Rule {
    /// A folder, or a module with its folder: `graph` is `graph.rs` and `graph/`.
    part: &'static str,
    except: &'static [&'static str],
    word: &'static str,
    because: &'static str,
}

const RULES: &[Rule] = &[
    Rule { part: "nvisy-core/src", except: &[], word: "tokio::spawn", because: "nvisy-core starts no task" },
    Rule { part: "nvisy-core/src", except: &[], word: "task::spawn", because: "nvisy-core starts no task" },
    Rule {
        part: "nvisy-runtime/src",
        except: &["nvisy-runtime/src/plugins.rs"],
        word: "nvisy_plugin_*",
        because: "only plugins.rs names plugin crates",
    },
    Rule {
        part: "nvisy-runtime/src/graph",
        except: &[],
        word: "compiler",
        because: "the graph knows nothing of the compiler",
    },
    Rule {
        part: "nvisy-runtime/src/compiler",
        except: &[],
        word: "engine",
        because: "the compiler knows nothing of the engine",
    },
    Rule {
        part: "nvisy-runtime/src/compiler",
        except: &[],
        word: ".await",
        because: "the compiler never awaits",
    },
];

/// The manifests that may name plugin crates, beside those of the plugins themselves.
const MANIFESTS: &[&str] = &["Cargo.toml", "nvisy-runtime/Cargo.toml"];

pub(super) fn check() -> Verdict {
    let root = root();
    let mut wrong = Vec::new();
    let mut scanned = 0;
    for rule in RULES {
        let files = rust_files(&root.join(rule.part))?;
        if files.is_empty() {
            wrong.push(format!("{}: has no file any more, but {}", rule.part, rule.because));
        }
        for file in files {
            let shown = file.strip_prefix(&root).unwrap_or(&file).to_string_lossy().replace('\\', "/");
            if rule.except.contains(&shown.as_str()) {
                continue;
            }
            scanned += 1;
            for line in mentions(&read(&file)?, rule.word) {
                wrong.push(format!("{shown}:{line}: `{}`, but {}", rule.word, rule.because));
            }
        }
    }
    for entry in fs::read_dir(&root).map_err(|error| unreadable(&root, &error))?.flatten() {
        let folder = entry.file_name().to_string_lossy().into_owned();
        let manifest = format!("{folder}/Cargo.toml");
        let path = root.join(&manifest);
        if folder.starts_with("nvisy-") && path.is_file() && !MANIFESTS.contains(&manifest.as_str()) {
            for line in dependencies_on_plugins(&read(&path)?) {
                wrong.push(format!("{manifest}:{line}: depends on a plugin, but only nvisy-runtime does"));
            }
        }
    }
    verdict(&wrong, format!("{} rules over {scanned} files", RULES.len()))
}

/// Returns the Rust files of a module or folder; none where it does not exist.
fn rust_files(part: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    let file = part.with_extension("rs");
    if file.is_file() {
        files.push(file);
    }
    let mut folders = Vec::from_iter(part.is_dir().then(|| part.to_path_buf()));
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| unreadable(&folder, &error))? {
            let path = entry.map_err(|error| unreadable(&folder, &error))?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

/// Returns the lines whose code has the word; a star at its end stands for more of the same word.
fn mentions(text: &str, word: &str) -> Vec<usize> {
    let (word, open) = word.strip_suffix('*').map_or((word, false), |word| (word, true));
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    let starts_inside = word.starts_with(inside);
    let has = |line: &str| {
        let line = code(line);
        line.match_indices(word).any(|(at, _)| {
            let before = line[..at].chars().next_back().is_some_and(inside);
            let after = line[at + word.len()..].chars().next().is_some_and(inside);
            !(starts_inside && before) && (open || !after)
        })
    };
    (1..).zip(text.lines()).filter(|(_, line)| has(line)).map(|(number, _)| number).collect()
}

/// Returns a line without its comment and without what its string literals say.
fn code(line: &str) -> String {
    let mut kept = String::with_capacity(line.len());
    let mut in_string = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if in_string => drop(chars.next()),
            '"' => in_string = !in_string,
            '/' if !in_string && chars.peek() == Some(&'/') => break,
            _ if in_string => {}
            c => kept.push(c),
        }
    }
    kept
}

/// Returns the lines of a manifest that name a plugin crate as a dependency.
fn dependencies_on_plugins(manifest: &str) -> Vec<usize> {
    let depends = |line: &str| line.trim_start().starts_with("nvisy-plugin-");
    (1..).zip(manifest.lines()).filter(|(_, line)| depends(line)).map(|(number, _)| number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, word: &str, lines: &[usize]) {
        assert_eq!(mentions(text, word), lines, "{word} in {text:?}");
    }

    #[test]
    fn a_word_is_found_whole_and_in_code_only() {
        check("use crate::compiler::Plan;", "compiler", &[1]);
        check("/// See the compiler.\nfn x() {} // compiler", "compiler", &[]);
        check("error(\"the \\\"compiler\\\" says\"); compiler_of(x)", "compiler", &[]);
        check("let url = \"a//b\"; compiler()", "compiler", &[1]);
    }

    #[test]
    fn an_await_is_found_after_a_call() {
        check("let a = b.await;\nx().await?;\nfn awaited() {}", ".await", &[1, 2]);
    }

    #[test]
    fn a_star_stands_for_the_rest_of_a_word() {
        check("pub use nvisy_plugin_sql as sql;", "nvisy_plugin_*", &[1]);
        check("use tokio::task::spawn_blocking;", "task::spawn", &[]);
    }

    #[test]
    fn a_plugin_crate_is_found_as_a_dependency() {
        let manifest = "name = \"nvisy-plugin-ai\"\n[dependencies]\nnvisy-core.workspace = true\nnvisy-plugin-sql = \"0\"\n";
        assert_eq!(dependencies_on_plugins(manifest), [4]);
    }
}
