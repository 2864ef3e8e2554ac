//! A filter as an SQL condition: every name and value in it is bound.

use serde_json::Value;
use sqlx::Arguments;
use sqlx::sqlite::SqliteArguments;

use crate::filter::{Field, Filter};

/// Writes a condition on the columns of a table of points, and binds what it compares with.
pub(crate) fn condition(filter: &Filter, arguments: &mut SqliteArguments) -> Result<String, sqlx::Error> {
    Ok(match filter {
        Filter::Eq { field, value } => {
            test(&Field::parse(field), &Test::In(std::slice::from_ref(value)), arguments)?
        }
        Filter::In { field, values } => test(&Field::parse(field), &Test::In(values), arguments)?,
        Filter::Range { field, min, max } => test(&Field::parse(field), &Test::Range(min, max), arguments)?,
        Filter::All(all) => joined(all, " AND ", "1", arguments)?,
        Filter::Any(any) => joined(any, " OR ", "0", arguments)?,
        Filter::Not(filter) => format!("(NOT {})", condition(filter, arguments)?),
    })
}

fn joined(
    filters: &[Filter],
    by: &str,
    empty: &str,
    arguments: &mut SqliteArguments,
) -> Result<String, sqlx::Error> {
    let conditions =
        filters.iter().map(|filter| condition(filter, arguments)).collect::<Result<Vec<_>, _>>()?;
    Ok(if conditions.is_empty() { empty.into() } else { format!("({})", conditions.join(by)) })
}

enum Test<'a> {
    In(&'a [Value]),
    Range(&'a Value, &'a Value),
}

fn test(field: &Field, test: &Test<'_>, arguments: &mut SqliteArguments) -> Result<String, sqlx::Error> {
    let column = match field {
        Field::Id => "id",
        Field::Title => "title",
        Field::SourceUri => "source_uri",
        Field::Language => "language",
        Field::MimeType => "mime_type",
        Field::Chunk => "chunk",
        Field::Model => "model",
        Field::Run => "nvisy_run",
        Field::Root => "nvisy_root",
        Field::Attribute(path) => return nested("attributes", path, test, arguments),
        Field::Tag(path) => return nested_in("said", "tags", path, test, arguments),
        Field::Custom(path) => return nested_in("said", "custom", path, test, arguments),
    };
    let of_column = |value: &Value| match value {
        Value::Null => format!("{column} IS NULL"),
        Value::String(_) => format!("typeof({column}) = 'text' AND {column} = ?"),
        _ => format!("typeof({column}) = 'integer' AND {column} = ?"),
    };
    // A column that is null makes every condition false, and its negation true.
    Ok(format!("coalesce(({}), 0)", compare(column, of_column, test, arguments)?))
}

/// A condition on a value within a JSON column. Keys are compared as values: no path is spliced.
fn nested(
    column: &str,
    path: &[String],
    test: &Test<'_>,
    arguments: &mut SqliteArguments,
) -> Result<String, sqlx::Error> {
    let mut from = Vec::with_capacity(path.len());
    for depth in 0..path.len() {
        from.push(if depth == 0 {
            format!("json_each({column}) AS j0")
        } else {
            let above = depth - 1;
            // What is neither an object nor an array holds nothing.
            format!(
                "json_each(CASE WHEN j{above}.type IN ('object', 'array') THEN j{above}.value ELSE '{{}}' END) AS j{depth}"
            )
        });
    }
    let mut keys = Vec::with_capacity(path.len());
    for (depth, key) in path.iter().enumerate() {
        // The keys of an array are its indices.
        keys.push(format!("CAST(j{depth}.key AS TEXT) = ?"));
        arguments.add(key.as_str()).map_err(sqlx::Error::Encode)?;
    }
    let last = format!("j{}", path.len().saturating_sub(1));
    let of_value = |value: &Value| match value {
        Value::Null => format!("{last}.type = 'null'"),
        Value::Bool(_) => format!("{last}.type IN ('true', 'false') AND {last}.value = ?"),
        Value::String(_) => format!("{last}.type = 'text' AND {last}.value = ?"),
        _ => format!("{last}.type IN ('integer', 'real') AND {last}.value = ?"),
    };
    let compared = compare(&format!("{last}.value"), of_value, test, arguments)?;
    Ok(format!("EXISTS (SELECT 1 FROM {} WHERE {} AND ({compared}))", from.join(", "), keys.join(" AND ")))
}

fn nested_in(
    column: &str,
    member: &'static str,
    path: &[String],
    test: &Test<'_>,
    arguments: &mut SqliteArguments,
) -> Result<String, sqlx::Error> {
    let path: Vec<String> = std::iter::once(member.to_owned()).chain(path.iter().cloned()).collect();
    nested(column, &path, test, arguments)
}

fn compare(
    value: &str,
    equals: impl Fn(&Value) -> String,
    test: &Test<'_>,
    arguments: &mut SqliteArguments,
) -> Result<String, sqlx::Error> {
    match test {
        Test::In([]) => Ok("0".into()),
        Test::In(values) => {
            let mut any = Vec::with_capacity(values.len());
            for wanted in *values {
                any.push(format!("({})", equals(wanted)));
                bind(wanted, arguments)?;
            }
            Ok(any.join(" OR "))
        }
        Test::Range(min, max) => {
            let is_text = min.is_string() || max.is_string();
            // A truth value within JSON is an integer to SQLite, as in most languages it is not.
            let typed = if is_text { "'text'" } else { "'integer', 'real'" };
            let mut all = vec![match value.split_once('.') {
                Some((each, _)) => format!("{each}.type IN ({typed})"),
                None => format!("typeof({value}) IN ({typed})"),
            }];
            for (end, operator) in [(min, ">="), (max, "<=")] {
                if !end.is_null() {
                    all.push(format!("{value} {operator} ?"));
                    bind(end, arguments)?;
                }
            }
            Ok(all.join(" AND "))
        }
    }
}

fn bind(value: &Value, arguments: &mut SqliteArguments) -> Result<(), sqlx::Error> {
    match value {
        Value::Null => return Ok(()),
        Value::Bool(value) => arguments.add(*value),
        Value::Number(number) => match number.as_i64() {
            Some(value) => arguments.add(value),
            None => arguments.add(number.as_f64()),
        },
        Value::String(text) => arguments.add(text.as_str()),
        other => arguments.add(other.to_string()),
    }
    .map_err(sqlx::Error::Encode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_filter_is_spliced() {
        let evil = "x') OR 1=1; --";
        let filter = Filter::eq(evil, evil)
            .and(Filter::is_in(format!("tags.{evil}"), [evil]))
            .and(Filter::between(format!("attributes./{evil}/b"), evil, evil));
        let mut arguments = SqliteArguments::default();
        let sql = condition(&filter, &mut arguments).unwrap();
        assert!(!sql.contains("1=1"), "{sql}");
        assert_eq!(arguments.len(), sql.matches('?').count());
    }
}
