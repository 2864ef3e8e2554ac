//! Two collections of JSON values that have to hold the same.

use std::collections::BTreeMap;

use serde_json::Value;

/// Demands that both hold the same values, each as often, in any order.
pub(super) fn same(found: &[Value], expected: &[Value]) -> Result<(), String> {
    let (missing, surplus) = difference(found, expected);
    if missing.is_empty() && surplus.is_empty() {
        return Ok(());
    }
    let (have, want) = (found.len(), expected.len());
    Err(format!(
        "{have} items where {want} were expected{}{}",
        list("missing", &missing),
        list("too many", &surplus)
    ))
}

/// Demands that all that is expected is found, and nothing else; more often is no fault.
pub(super) fn same_or_more_often(found: &[Value], expected: &[Value]) -> Result<(), String> {
    let (missing, surplus) = difference(found, expected);
    let known: Vec<_> = expected.iter().map(Value::to_string).collect();
    let strange: Vec<_> = surplus.into_iter().filter(|text| !known.contains(text)).collect();
    if missing.is_empty() && strange.is_empty() {
        return Ok(());
    }
    let (have, want) = (found.len(), expected.len());
    Err(format!(
        "{have} items where {want} were expected{}{}",
        list("missing", &missing),
        list("not written so", &strange)
    ))
}

/// Demands that nothing is found that is not expected: whole items or none.
pub(super) fn nothing_else(found: &[Value], expected: &[Value]) -> Result<(), String> {
    let strange: Vec<_> =
        found.iter().filter(|value| !expected.contains(value)).map(Value::to_string).collect();
    if strange.is_empty() {
        Ok(())
    } else {
        Err(format!("what was found was never written{}", list("", &strange)))
    }
}

/// Returns what is missing and what is too many.
fn difference(found: &[Value], expected: &[Value]) -> (Vec<String>, Vec<String>) {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for value in expected {
        *counts.entry(value.to_string()).or_default() += 1;
    }
    for value in found {
        *counts.entry(value.to_string()).or_default() -= 1;
    }
    let (mut missing, mut surplus) = (Vec::new(), Vec::new());
    for (text, count) in counts {
        let side = if count > 0 { &mut missing } else { &mut surplus };
        side.extend(std::iter::repeat_n(text, count.unsigned_abs() as usize));
    }
    (missing, surplus)
}

fn list(what: &str, values: &[String]) -> String {
    const SHOWN: usize = 5;
    if values.is_empty() {
        return String::new();
    }
    let shown: Vec<String> = values.iter().take(SHOWN).map(|value| shorten(value)).collect();
    let more =
        if values.len() > SHOWN { format!(" and {} more", values.len() - SHOWN) } else { String::new() };
    format!("; {what}: {}{more}", shown.join(", "))
}

fn shorten(text: &str) -> String {
    const LENGTH: usize = 200;
    if text.chars().count() <= LENGTH {
        return text.to_owned();
    }
    text.chars().take(LENGTH).chain("…".chars()).collect()
}
