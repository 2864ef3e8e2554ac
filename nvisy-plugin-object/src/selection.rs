//! Which objects a source reads: one by its path, or those under a prefix that a glob matches.

use globset::{GlobBuilder, GlobMatcher};
use nvisy_core::config::Problem;

use crate::compression::Compression;

/// Which objects are read, out of a source's `path`, `prefix` and `glob`.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    path: Option<String>,
    prefix: String,
    glob: Option<GlobMatcher>,
    bounds: Bounds,
    suffixes: &'static [&'static str],
    uncompressed: bool,
    allow_missing: bool,
}

/// Where it need not be looked, below the directory of a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// What every key begins with, or all of a directory's path that does.
    pub(crate) within: String,
    /// How many directories below that of the prefix the objects lie at the most.
    pub(crate) levels: Option<usize>,
}

impl Bounds {
    fn of(prefix: &str, glob: Option<&str>) -> Self {
        let Some(glob) = glob else { return Self::default() };
        let levels = if glob.contains("**") { None } else { Some(glob.matches('/').count()) };
        // What stands before the first part of the glob that is no plain name, and names directories.
        let plain = glob.find(['*', '?', '[', '{', '\\']).unwrap_or(glob.len());
        let directories = glob[..plain].rfind('/').map_or("", |slash| &glob[..=slash]);
        let directory = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
        Self { within: format!("{directory}{directories}"), levels }
    }

    /// Returns whether something at `key` is to be looked at, or something in it.
    pub(crate) fn reach(&self, key: &str) -> bool {
        leads_to(key, &self.within)
    }
}

/// Returns whether a key begins with a prefix, or is a directory on the way to it.
pub(crate) fn leads_to(key: &str, prefix: &str) -> bool {
    key.starts_with(prefix) || prefix.strip_prefix(key).is_some_and(|rest| rest.starts_with('/'))
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
        let prefix = prefix.map(clean).unwrap_or_default();
        Self {
            path: path.map(clean),
            bounds: Bounds::of(&prefix, glob),
            prefix,
            // A glob that does not compile was refused by `problems`.
            glob: glob.and_then(|glob| compile(glob).ok()),
            suffixes,
            uncompressed: false,
            allow_missing: false,
        }
    }

    /// Says whether there may be nothing where it is looked.
    pub(crate) fn allowing_missing(self, allow_missing: bool) -> Self {
        Self { allow_missing, ..self }
    }

    /// Says that no object has a compression of its own.
    pub(crate) fn uncompressed(self, uncompressed: bool) -> Self {
        Self { uncompressed, ..self }
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

    /// Returns where objects may lie, as far as the glob bounds it: what lies elsewhere need not be
    /// looked at.
    pub(crate) fn bounds(&self) -> &Bounds {
        &self.bounds
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
                let bare = if self.uncompressed { key } else { Compression::strip(key) };
                let name = bare.to_ascii_lowercase();
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
        $crate::selection::selects!($name, $suffixes, false);
    };
    // A format that compresses what is in an object.
    ($name:ident, $suffixes:expr, uncompressed) => {
        $crate::selection::selects!($name, $suffixes, true);
    };
    ($name:ident, $suffixes:expr, $uncompressed:literal) => {
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
                .uncompressed($uncompressed)
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
    fn a_glob_bounds_where_it_is_looked() {
        let check = |prefix, glob, within: &str, levels| {
            let selection = Selection::new(None, prefix, glob, &[]);
            assert_eq!(*selection.bounds(), Bounds { within: within.to_owned(), levels }, "{glob:?}");
        };
        check(None, None, "", None);
        check(None, Some("*.md"), "", Some(0));
        check(None, Some("*/{a,b/c}.md"), "", Some(2));
        check(None, Some("a/**/b.md"), "a/", None);
        check(Some("./x/y"), Some("a/b/c*/d.md"), "x/a/b/", Some(3));
        check(None, Some("a/b.md"), "a/", Some(1));
        check(None, Some("a\\*/b.md"), "", Some(1));
        let bounds = Bounds { within: "x/a/".to_owned(), levels: None };
        let looks = ["x", "x/a", "x/a/b", "x/ab", "y", "x/a.md"].map(|key| bounds.reach(key));
        assert_eq!(looks, [true, true, true, false, false, false]);
    }

    #[test]
    fn a_name_of_a_compression_is_that_of_a_text_alone() {
        let select = |uncompressed| {
            let selection = Selection::new(None, None, None, &[".x"]).uncompressed(uncompressed);
            [selection.selects("a.x"), selection.selects("a.x.gz")]
        };
        assert_eq!((select(false), select(true)), ([true, true], [true, false]));
    }

    #[test]
    fn a_path_beside_a_prefix_and_one_that_leads_out_are_refused() {
        assert_eq!(Selection::problems(Some("a"), Some("b"), None).len(), 1);
        assert_eq!(Selection::problems(Some("../a"), None, None).len(), 1);
        assert_eq!(Selection::problems(None, Some("/etc"), Some("[")).len(), 2);
    }
}
