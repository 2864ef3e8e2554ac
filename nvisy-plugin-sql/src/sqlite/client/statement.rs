//! The statements that make a table and put rows into it.

use arrow::datatypes::DataType;

use super::quoted;
use super::write::{Target, Write, Writer};
use crate::sqlite::sink::GENERATION;

/// Writes an insertion of so many rows.
pub(super) fn insert(target: &Target, columns: &[String], rows: usize) -> String {
    let verb = if target.write == Write::Replace { "INSERT OR REPLACE" } else { "INSERT" };
    let names: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
    let values = format!("({})", vec!["?"; columns.len()].join(", "));
    let table = quoted(&target.table);
    let mut sql = if columns.is_empty() {
        format!("{verb} INTO {table} DEFAULT VALUES")
    } else {
        format!("{verb} INTO {table} ({}) VALUES {}", names.join(", "), vec![values; rows].join(", "))
    };
    if target.write == Write::Upsert {
        let key: Vec<String> = target.key.iter().map(|name| quoted(name)).collect();
        let is_key = |name: &String| target.key.iter().any(|key| key.eq_ignore_ascii_case(name));
        let changes: Vec<String> = columns
            .iter()
            .filter(|name| !is_key(name))
            .map(|name| format!("{name} = excluded.{name}", name = quoted(name)))
            .collect();
        sql.push_str(&format!(" ON CONFLICT ({}) DO ", key.join(", ")));
        if changes.is_empty() {
            sql.push_str("NOTHING");
        } else {
            sql.push_str(&format!("UPDATE SET {}", changes.join(", ")));
        }
    }
    sql
}

/// Writes the creation of a table that holds the items' columns.
pub(super) fn create(target: &Target, items: &[Writer<'_>]) -> String {
    let mut columns: Vec<(&str, &'static str)> =
        target.extra.iter().map(|name| (*name, extra_declaration(name))).collect();
    for item in items {
        for field in item.row.schema().fields() {
            let known = columns.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(field.name()));
            match known {
                // What was null until now shows its type.
                Some((_, declared)) if declared.is_empty() => *declared = declaration(field.data_type()),
                Some(_) => {}
                None => columns.push((field.name(), declaration(field.data_type()))),
            }
        }
    }
    let keyed = target.write != Write::Insert;
    let is_key = |name: &str| keyed && target.key.iter().any(|key| key.eq_ignore_ascii_case(name));
    let mut parts: Vec<String> = columns
        .iter()
        .map(|(name, declared)| {
            let not_null = if is_key(name) { " NOT NULL" } else { "" };
            format!("{} {declared}{not_null}", quoted(name)).trim_end().to_owned()
        })
        .collect();
    if keyed {
        let key: Vec<String> = target.key.iter().map(|name| quoted(name)).collect();
        parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
    }
    format!("CREATE TABLE {} ({})", quoted(&target.table), parts.join(", "))
}

/// How a column that comes from the item is declared.
pub(super) fn extra_declaration(name: &str) -> &'static str {
    if name == GENERATION { "INTEGER" } else { "TEXT" }
}

/// How a column of a type is declared, so that it reads back as the same type.
pub(super) fn declaration(data_type: &DataType) -> &'static str {
    use DataType as T;
    match data_type {
        T::Null => "",
        T::Boolean => "BOOLEAN",
        T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 => "INTEGER",
        T::Float16 | T::Float32 | T::Float64 => "REAL",
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => "BLOB",
        T::Date32 | T::Date64 => "DATE",
        T::Timestamp(_, _) => "TIMESTAMP",
        T::Dictionary(_, values) => declaration(values),
        T::RunEndEncoded(_, values) => declaration(values.data_type()),
        _ => "TEXT",
    }
}

/// Returns whether a column takes values of a type as they are: SQLite would make a number of
/// a text, or a text of a number, where the declaration wants one. Decimals and dates are texts here:
/// columns that are declared as such take them, though SQLite makes a number of one that is written so.
pub(super) fn holds(declared: &str, data_type: &DataType) -> bool {
    let affinity = Affinity::of(declared);
    match declaration(data_type) {
        "INTEGER" | "REAL" | "BOOLEAN" => affinity != Affinity::Text,
        "TEXT" | "DATE" | "TIMESTAMP" => !matches!(affinity, Affinity::Integer | Affinity::Real),
        _ => true,
    }
}

/// Returns whether SQLite makes real numbers of the integers in a column.
pub(super) fn is_real(declared: &str) -> bool {
    Affinity::of(declared) == Affinity::Real
}

/// What SQLite would like a column's values to be, where that tells columns apart here.
/// See <https://www.sqlite.org/datatype3.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Affinity {
    Integer,
    Text,
    Real,
    /// None, or numbers where that loses nothing.
    Other,
}

impl Affinity {
    fn of(declared: &str) -> Self {
        let upper = declared.to_ascii_uppercase();
        let has = |parts: &[&str]| parts.iter().any(|part| upper.contains(part));
        if has(&["INT"]) {
            Self::Integer
        } else if has(&["CHAR", "CLOB", "TEXT"]) {
            Self::Text
        } else if !has(&["BLOB"]) && has(&["REAL", "FLOA", "DOUB"]) {
            Self::Real
        } else {
            Self::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::sink::Drift;

    fn target(write: Write, key: &[&str]) -> Target {
        Target {
            table: "o\"dd".into(),
            write,
            key: key.iter().map(ToString::to_string).collect(),
            create: false,
            drift: Drift::Fail,
            extra: Vec::new(),
            memory: None,
        }
    }

    #[test]
    fn statements_quote_every_name() {
        let columns = ["id".to_owned(), "a\"; DROP TABLE x; --".to_owned()];
        assert_eq!(
            insert(&target(Write::Upsert, &["id"]), &columns, 2),
            "INSERT INTO \"o\"\"dd\" (\"id\", \"a\"\"; DROP TABLE x; --\") VALUES (?, ?), (?, ?) ON CONFLICT (\"id\") \
             DO UPDATE SET \"a\"\"; DROP TABLE x; --\" = excluded.\"a\"\"; DROP TABLE x; --\""
        );
        assert_eq!(
            insert(&target(Write::Upsert, &["ID"]), &columns[..1], 1),
            "INSERT INTO \"o\"\"dd\" (\"id\") VALUES (?) ON CONFLICT (\"ID\") DO NOTHING"
        );
        assert_eq!(insert(&target(Write::Insert, &[]), &[], 1), "INSERT INTO \"o\"\"dd\" DEFAULT VALUES");
    }

    #[test]
    fn a_text_does_not_fit_a_column_that_would_make_a_number_of_it() {
        assert!(
            holds("TEXT", &DataType::Utf8) && holds("", &DataType::Utf8) && holds("DATE", &DataType::Date32)
        );
        assert!(!holds("INTEGER", &DataType::Utf8) && !holds("double", &DataType::Utf8));
        assert!(!holds("VARCHAR(9)", &DataType::Int64) && holds("VARCHAR(9)", &DataType::Binary));
        assert!(holds("INTEGER", &DataType::Float64) && holds("NUMERIC", &DataType::Utf8));
    }
}
