//! Names of new objects: templates with placeholders.

use nvisy_core::Context;
use nvisy_core::config::Problem;

/// The placeholders of files that hold many items.
pub(crate) const FILE: &[&str] = &["run", "date", "node", "graph", "part"];
/// The placeholders of files that hold one item.
pub(crate) const ITEM: &[&str] = &["run", "date", "node", "graph", "id", "key", "stem"];

/// Returns what is wrong with a template.
pub(crate) fn problems(path: &str, known: &[&str]) -> Vec<Problem> {
    let mut problems = Vec::new();
    if path.is_empty() || path.ends_with('/') {
        problems
            .push(Problem::new("path", "`path` names no file").with_help("write it as `out/{run}.jsonl`"));
    }
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        let problem = Problem::new("path", "`path` leads out of the connection's root");
        problems.push(problem.with_help("write it relative to the root, without `..`"));
    }
    for name in placeholders(path) {
        if !known.contains(&name) {
            let problem = Problem::new("path", format!("there is no placeholder `{{{name}}}`"));
            let list: Vec<String> = known.iter().map(|name| format!("{{{name}}}")).collect();
            problems.push(problem.with_help(format!("there are {}", list.join(", "))));
        }
    }
    problems
}

/// Returns the placeholders of a template.
fn placeholders(path: &str) -> impl Iterator<Item = &str> {
    path.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}

/// Returns whether a template has one of these placeholders.
pub(crate) fn has(path: &str, names: &[&str]) -> bool {
    placeholders(path).any(|placeholder| names.contains(&placeholder))
}

/// Fills in what stays the same during a run.
pub(crate) fn expand(path: &str, context: &Context) -> String {
    let run = context.run().map_or_else(|| "detached".to_owned(), |run| run.to_string());
    fill(path, |placeholder| match placeholder {
        "run" => Some(run.clone()),
        "date" => Some(context.now().format("%Y-%m-%d").to_string()),
        placeholder => of_node(placeholder, context),
    })
}

/// Returns what stands for a placeholder in every run of a node.
fn of_node(placeholder: &str, context: &Context) -> Option<String> {
    let plain = |text: &str| text.replace(['/', '\\', '\0'], "_");
    match placeholder {
        "node" => Some(plain(context.node())),
        "graph" => Some(plain(context.graph())),
        _ => None,
    }
}

/// Returns the directory that the files of every run of a node are in, or are below.
pub(crate) fn directory(path: &str, context: &Context) -> String {
    let known = fill(path, |placeholder| of_node(placeholder, context));
    let end = known.find('{').unwrap_or(known.len());
    known[..end].rsplit_once('/').map_or("", |(directory, _)| directory).trim_end_matches('/').to_owned()
}

/// Fills in placeholders, and leaves those that have no value. What is filled in is not looked
/// through again: the name of an object may hold braces.
pub(crate) fn fill(path: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut filled = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, opened)) = rest.split_once('{') {
        filled.push_str(before);
        let found = opened.split_once('}').and_then(|(name, after)| Some((value(name)?, after)));
        if let Some((value, after)) = found {
            filled.push_str(&value);
            rest = after;
        } else {
            filled.push('{');
            rest = opened;
        }
    }
    filled.push_str(rest);
    filled
}

/// Names the parts of a file that rolls: by `{part}`, or by a number before the suffix.
pub(crate) fn part(path: &str, part: u64) -> String {
    if path.contains("{part}") {
        return path.replace("{part}", &format!("{part:05}"));
    }
    if part == 0 { path.to_owned() } else { numbered(path, part) }
}

/// Puts a number before the suffix.
pub(crate) fn numbered(path: &str, number: u64) -> String {
    let stem = stem(path);
    format!("{stem}-{number}{}", &path[stem.len()..])
}

/// Returns the path without its suffix, and that of a compression.
pub(crate) fn stem(path: &str) -> &str {
    let name = path.rfind('/').map_or(0, |slash| slash + 1);
    let bare = crate::compression::Compression::strip(path);
    match bare.rfind('.') {
        Some(dot) if dot > name => &path[..dot],
        _ => bare,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_numbered_before_the_suffix() {
        assert_eq!(part("a/b.jsonl.gz", 0), "a/b.jsonl.gz");
        assert_eq!(part("a/b.jsonl.gz", 2), "a/b-2.jsonl.gz");
        assert_eq!(part("a.b/c", 1), "a.b/c-1");
        assert_eq!(part(".hidden", 1), ".hidden-1");
        assert_eq!(part("p-{part}.csv", 7), "p-00007.csv");
    }

    #[test]
    fn a_template_names_a_file_with_known_placeholders() {
        assert_eq!(problems("out/{run}-{part}.jsonl", FILE), []);
        assert_eq!(problems("out/", FILE).len(), 1);
        assert_eq!(problems("../{what}.csv", FILE).len(), 2);
        assert!(problems("{id}.md", ITEM).is_empty());
    }

    #[test]
    fn what_is_filled_in_is_not_looked_through_again() {
        let value = |name: &str| (name == "key").then(|| "a{key}.md".to_owned());
        assert_eq!(fill("x/{key}{", value), "x/a{key}.md{");
        assert_eq!(fill("{stem}/{id}", value), "{stem}/{id}");
        assert_eq!(numbered("a{part}/b.md", 3), "a{part}/b-3.md");
    }

    #[test]
    fn the_directory_of_a_node_is_that_of_all_its_runs() {
        let context = Context::new("g", "n", "x");
        assert_eq!(directory("a.jsonl", &context), "");
        assert_eq!(directory("out/a-{part}.jsonl", &context), "out");
        assert_eq!(directory("out/{graph}/{node}/{date}/{part}.jsonl", &context), "out/g/n");
        assert_eq!(directory("out/{run}-{graph}/a.jsonl", &context), "out");
    }

    #[test]
    fn names_of_nodes_make_no_directories() {
        let context = Context::new("g", "a/b", "x");
        assert_eq!(expand("{graph}/{node}/{run}", &context), "g/a_b/detached");
    }
}
