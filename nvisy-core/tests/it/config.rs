//! Configs are read from JSON: what does not belong is named with its path, and a secret that
//! is written out is not repeated.

#![allow(dead_code, reason = "configs are read, and compared by their problems alone")]

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use nvisy_core::SecretRef;
use nvisy_core::config::{Problem, parse};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Outer {
    name: String,
    inner: Inner,
    list: Vec<Inner>,
    map: BTreeMap<String, Inner>,
    choice: Option<Choice>,
    calls: Option<NonZeroUsize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Inner {
    size: u32,
    secret: Option<SecretRef>,
    deeper: Option<Box<Self>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Choice {
    Plain(Inner),
    Named { size: u32 },
}

fn problems(value: &Value) -> Vec<(String, &'static str)> {
    let problems = parse::<Outer>(value).unwrap_err();
    problems.into_iter().map(|problem| (problem.path, problem.code)).collect()
}

#[test]
fn unknown_fields_are_named_at_every_depth_and_all_at_once() {
    let value = json!({
        "naem": "x",
        "inner": {"sise": 1, "deeper": {"deeper": {"depth": 3}}},
        "list": [{}, {"other": null}],
        "map": {"a": {"b": {}}},
        "choice": {"named": {"size": 1, "colour": "red"}},
    });
    let mut found = problems(&value);
    found.sort();
    let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    let expected =
        ["choice.colour", "inner.deeper.deeper.depth", "inner.sise", "list.1.other", "map.a.b", "naem"];
    assert!(found.iter().all(|(_, code)| *code == Problem::UNKNOWN_FIELD), "{found:?}");
    let last = |path: &str| path.rsplit(['.', ']']).next().unwrap_or_default().to_owned();
    assert_eq!(paths.iter().map(|p| last(p)).collect::<Vec<_>>(), expected.map(last), "{paths:?}");
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_its_path() {
    for (value, path) in [
        (json!({"inner": {"size": "big"}}), "inner.size"),
        (json!({"inner": {"size": -1}}), "inner.size"),
        (json!({"list": [{"size": 1}, {"size": 1.5}]}), "list[1].size"),
        (json!({"map": {"a": 5}}), "map.a"),
        (json!({"choice": "unknown"}), "choice"),
        (json!(5), ""),
    ] {
        let found = problems(&value);
        assert_eq!(found.last().map(|(path, _)| path.as_str()), Some(path), "{value}: {found:?}");
        assert!(found.iter().any(|(_, code)| *code == Problem::INVALID), "{value}: {found:?}");
    }
}

#[test]
fn zero_where_there_has_to_be_something_is_refused_in_words() {
    let problems = parse::<Outer>(&json!({"calls": 0})).unwrap_err();
    assert_eq!(problems, [Problem::new("calls", "expected at least 1, found 0")]);
}

#[test]
fn a_secret_that_is_written_out_is_refused_and_not_repeated() {
    for literal in
        [json!("hunter2"), json!(77_112_233), json!(-77_112_233), json!(771.12233), json!(["hunter2"])]
    {
        for value in [
            json!({"inner": {"secret": literal}}),
            json!({"list": [{"deeper": {"secret": literal}}]}),
            json!({"map": {"a": {"secret": literal}}}),
            json!({"choice": {"plain": {"secret": literal}}}),
        ] {
            let problems = parse::<Outer>(&value).unwrap_err();
            let shown = format!("{problems:?}");
            assert!(!shown.contains("hunter2") && !shown.contains("7711"), "{shown}");
            assert!(!shown.contains("771.1"), "{shown}");
            let last = problems.last().unwrap();
            assert!(last.path.ends_with("secret"), "{shown}");
            assert_eq!(last.code, Problem::LITERAL_SECRET, "{shown}");
        }
    }
}

#[test]
fn a_reference_to_a_secret_is_read() {
    let outer: Outer = parse(&json!({"inner": {"secret": {"secret": "KEY"}}})).unwrap();
    assert_eq!(outer.inner.secret.map(|secret| secret.name().to_owned()).as_deref(), Some("KEY"));
    for bad in [json!({"secret": ""}), json!({}), json!({"name": "KEY"}), json!({"secret": "KEY", "more": 1})]
    {
        assert!(parse::<Outer>(&json!({"inner": {"secret": bad}})).is_err(), "{bad}");
    }
}
