//! Which objects a source reads: one by its path, or those under a prefix that a glob matches.

use globset::{GlobBuilder, GlobMatcher};
use nvisy_core::config::Problem;

/// Which objects are read, out of a source's `path`, `prefix` and `glob`.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    path: Option<String>,
    prefix: String,
    glob: Option<GlobMatcher>,
    levels: Option<usize>,
    suffixes: &'static [&'static str],
    allow_missing: bool,
}

impl Selection {
    /// Reads the settings. `suffixes` are the endings of the format's own names, without
    /// that of a compression: what is read where there is no glob; none for all.
    pub(crate) fn new(
        path: Option<&str>,
        prefix: Option<&str>,
        glob: Option<&str>,
        suffixes: &'static [&'static str],
    ) -> Self {
        let clean = |key: &str| key.strip_prefix("./").unwrap_or(key).to_owned();
        Self {
            path: path.map(clean),
            prefix: prefix.map(clean).unwrap_or_default(),
            // A glob that does not compile was refused by `problems`.
            glob: glob.and_then(|glob| compile(glob).ok()),
            levels: glob.filter(|glob| !glob.contains("**")).map(|glob| glob.matches('/').count()),
            suffixes,
            allow_missing: false,
        }
    }

    /// Says whether there may be nothing where it is looked.
    pub(crate) fn allowing_missing(self, allow_missing: bool) -> Self {
        Self { allow_missing, ..self }
    }

    /// Returns whether there may be nothing where it is looked.
    pub(crate) fn allows_missing(&self) -> bool {
        self.allow_missing
    }

    /// Returns what is wrong with the settings.
    pub(crate) fn problems(path: Option<&str>, prefix: Option<&str>, glob: Option<&str>) -> Vec<Problem> {
        let mut problems = Vec::new();
        if path.is_some() && (prefix.is_some() || glob.is_some()) {
            let problem = Problem::new("path", "`path` names one object, `prefix` and `glob` select several");
            problems.push(problem.with_help("leave out `path`, or the other two"));
        }
        for (name, key) in [("path", path), ("prefix", prefix)] {
            if key.is_some_and(|key| key.starts_with('/') || key.split('/').any(|part| part == "..")) {
                let problem = Problem::new(name, format!("`{name}` leads out of the connection's root"));
                problems.push(problem.with_help("write it relative to the root, without `..`"));
            }
        }
        if let Some(Err(error)) = glob.map(compile) {
            problems.push(Problem::new("glob", format!("`glob` does not read: {error}")));
        }
        problems
    }

    /// Returns the one object's key, if it is one.
    pub(crate) fn exact(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Returns what every key begins with.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns how many directories below that of the prefix the objects lie at the most, where
    /// the glob bounds it: what lies deeper need not be looked at.
    pub(crate) fn levels(&self) -> Option<usize> {
        self.levels
    }

    /// Returns whether the object at `key` is read.
    pub(crate) fn selects(&self, key: &str) -> bool {
        if !key.starts_with(&self.prefix) {
            return false;
        }
        if key == self.prefix {
            return true;
        }
        match &self.glob {
            Some(glob) => {
                let directory = self.prefix.rfind('/').map_or(0, |slash| slash + 1);
                glob.is_match(&key[directory..])
            }
            None if self.suffixes.is_empty() => true,
            None => {
                let name = crate::compression::Compression::strip(key).to_ascii_lowercase();
                self.suffixes.iter().any(|suffix| name.ends_with(suffix))
            }
        }
    }
}

fn compile(glob: &str) -> Result<GlobMatcher, globset::Error> {
    Ok(GlobBuilder::new(glob).literal_separator(true).backslash_escape(true).build()?.compile_matcher())
}

/// Writes the constructors and the setters of `path`, `prefix` and `glob`, and `selection`.
macro_rules! selects {
    ($name:ident, $suffixes:expr) => {
        impl $name {
            /// Reads one object.
            #[must_use]
            pub fn path(path: impl Into<String>) -> Self {
                Self { path: Some(path.into()), ..Self::default() }
            }

            /// Reads the objects whose keys begin with `prefix`.
            #[must_use]
            pub fn prefix(prefix: impl Into<String>) -> Self {
                Self { prefix: Some(prefix.into()), ..Self::default() }
            }

            /// Reads all objects of the store.
            #[must_use]
            pub fn all() -> Self {
                Self::default()
            }

            /// Reads only those that a glob matches, below the prefix's directory.
            #[must_use]
            pub fn glob(mut self, glob: impl Into<String>) -> Self {
                self.glob = Some(glob.into());
                self
            }

            /// Reads nothing where the object, or the directory of the prefix, is missing. Default
            /// that is an error.
            #[must_use]
            pub fn allow_missing(mut self) -> Self {
                self.allow_missing = true;
                self
            }

            pub(crate) fn selection(&self) -> $crate::selection::Selection {
                $crate::selection::Selection::new(
                    self.path.as_deref(),
                    self.prefix.as_deref(),
                    self.glob.as_deref(),
                    $suffixes,
                )
                .allowing_missing(self.allow_missing)
            }

            pub(crate) fn selection_problems(&self) -> Vec<nvisy_core::config::Problem> {
                $crate::selection::Selection::problems(
                    self.path.as_deref(),
                    self.prefix.as_deref(),
                    self.glob.as_deref(),
                )
            }
        }
    };
}

pub(crate) use selects;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(prefix: &str, glob: Option<&str>, key: &str) -> bool {
        Selection::new(None, Some(prefix), glob, &[".jsonl", ".ndjson"]).selects(key)
    }

    #[test]
    fn without_a_glob_the_suffix_decides() {
        assert!(check("tickets/", None, "tickets/a/b.jsonl"));
        assert!(check("tickets/", None, "tickets/b.NDJSON.gz"));
        assert!(!check("tickets/", None, "tickets/README.md"));
        assert!(check("odd.log", None, "odd.log"));
    }

    #[test]
    fn a_glob_is_matched_below_the_directory_of_the_prefix() {
        assert!(check("docs/", Some("*.md"), "docs/a.md"));
        assert!(!check("docs/", Some("*.md"), "docs/deep/a.md"));
        assert!(check("docs/", Some("**/*.md"), "docs/deep/a.md"));
        assert!(check("docs/", Some("**/*.{md,txt}"), "docs/a.txt"));
    }

    #[test]
    fn a_glob_bounds_how_deep_it_is_looked() {
        let levels = |glob| Selection::new(None, None, glob, &[]).levels();
        assert_eq!(levels(None), None);
        assert_eq!(levels(Some("*.md")), Some(0));
        assert_eq!(levels(Some("*/{a,b/c}.md")), Some(2));
        assert_eq!(levels(Some("a/**/b.md")), None);
    }

    #[test]
    fn a_path_beside_a_prefix_and_one_that_leads_out_are_refused() {
        assert_eq!(Selection::problems(Some("a"), Some("b"), None).len(), 1);
        assert_eq!(Selection::problems(Some("../a"), None, None).len(), 1);
        assert_eq!(Selection::problems(None, Some("/etc"), Some("[")).len(), 2);
    }
}
