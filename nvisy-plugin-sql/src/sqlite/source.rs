//! The rows of a table or a query, page by page.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use futures::Stream;
use nvisy_core::config::Problem;
use nvisy_core::position::KeyValue;
use nvisy_core::prelude::*;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::primitive::row::Row;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::{From, Selection, SqliteClient};
use super::column::ColumnType;

/// Reads the rows of a table or a query: `sql/sqlite`.
///
/// Rows come in the order of a unique key, one page at a time, as Arrow batches. The key is the
/// primary key, else the row id, which `VACUUM` may change where it is not declared; or the
/// columns that `key` names. A row's position is its key.
///
/// With `incremental`, a run goes on behind the last key of the run before: it sees new rows whose
/// keys are larger. Changes of rows that were read are seen only where the key grows with them,
/// such as `["updated_at", "id"]`, and that a row was deleted is not seen at all.
///
/// # Examples
///
/// ```
/// use nvisy_plugin_sql::SqliteSource;
///
/// let open = SqliteSource::table("tickets").columns(["id", "body"]).filter("state = ?", ["open"]);
/// let by_query = SqliteSource::query("SELECT id, count(*) AS n FROM notes GROUP BY id").key(["id"]);
/// # let _ = (open, by_query);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "SqliteSource")]
#[serde(default, deny_unknown_fields)]
pub struct SqliteSource {
    /// The table or view to read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// The query to read, in place of a table, without parameters. Needs `key`. It runs again for
    /// every page, so its key is best one that an index orders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The columns to read. Default all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Which rows to read: an SQL condition, with a `?` for each of `parameters`. Default all.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The values of the condition's parameters, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Value>,
    /// The columns that order the rows and tell them apart. Default the primary key, else the
    /// row id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// The types of columns, where the declared one or the sample is not what is wanted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<String, ColumnType>,
    /// How many key ranges to read in parallel, at the most. Default one. Only for tables whose
    /// key is one integer: others are read as one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<NonZeroU32>,
    /// What the items are called in their ids. Default the table's name, or the query's text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl SqliteSource {
    /// Reads a table or view.
    #[must_use]
    pub fn table(table: impl Into<String>) -> Self {
        Self { table: Some(table.into()), ..Self::default() }
    }

    /// Reads a query. Needs a [`key`](Self::key).
    #[must_use]
    pub fn query(query: impl Into<String>) -> Self {
        Self { query: Some(query.into()), ..Self::default() }
    }

    /// Reads these columns alone.
    #[must_use]
    pub fn columns<T: Into<String>>(mut self, columns: impl IntoIterator<Item = T>) -> Self {
        self.columns = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Reads the rows that a condition holds for, with a `?` for each parameter.
    #[must_use]
    pub fn filter<T: Into<Value>>(
        mut self,
        condition: impl Into<String>,
        parameters: impl IntoIterator<Item = T>,
    ) -> Self {
        self.filter = Some(condition.into());
        self.parameters = parameters.into_iter().map(Into::into).collect();
        self
    }

    /// Names the columns that order the rows and tell them apart.
    #[must_use]
    pub fn key<T: Into<String>>(mut self, key: impl IntoIterator<Item = T>) -> Self {
        self.key = key.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the type of a column.
    #[must_use]
    pub fn column_type(mut self, column: impl Into<String>, is: ColumnType) -> Self {
        self.types.insert(column.into(), is);
        self
    }

    /// Reads so many key ranges in parallel, at the most.
    #[must_use]
    pub fn in_partitions(mut self, partitions: NonZeroU32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// Names the items in their ids, whatever the table or query.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    fn selection(&self) -> Selection<'_> {
        let from = match (&self.table, &self.query) {
            (Some(table), _) => From::Table(table),
            (None, query) => From::Query(query.as_deref().unwrap_or_default()),
        };
        Selection {
            from,
            columns: &self.columns,
            filter: self.filter.as_deref(),
            parameters: &self.parameters,
            key: &self.key,
            types: &self.types,
        }
    }

    fn what(&self) -> String {
        match (&self.name, &self.table, &self.query) {
            (Some(name), _, _) | (None, Some(name), _) => name.clone(),
            (None, None, query) => {
                let query = query.as_deref().unwrap_or_default();
                query.split_whitespace().collect::<Vec<_>>().join(" ")
            }
        }
    }
}

impl Source for SqliteSource {
    const NAME: &'static str = "sql/sqlite";
    type Output = Row;
    type Client = SqliteClient;

    fn identity(&self, client: &SqliteClient) -> SourceIdentity {
        SourceIdentity::new(format!("sqlite:{}#{}", client.database.identity(), self.what()))
    }

    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        match (&self.table, &self.query) {
            (None, None) => {
                problems.push(Problem::new("table", "is missing").with_help("give a `table` or a `query`"));
            }
            (Some(_), Some(_)) => {
                problems.push(Problem::new("query", "there is a table too").with_help("give one of the two"));
            }
            (None, Some(query)) => {
                if query.trim().is_empty() {
                    problems.push(Problem::new("query", "is empty"));
                }
                if self.key.is_empty() {
                    let problem = Problem::new("key", "is missing");
                    problems
                        .push(problem.with_help("name the columns of the query that are unique together"));
                }
            }
            (Some(table), None) if table.is_empty() => problems.push(Problem::new("table", "is empty")),
            (Some(_), None) => {}
        }
        for (path, names) in [("columns", &self.columns), ("key", &self.key)] {
            for (index, name) in names.iter().enumerate() {
                if names[..index].iter().any(|other| other.eq_ignore_ascii_case(name)) {
                    problems.push(Problem::new(format!("{path}[{index}]"), format!("names `{name}` again")));
                }
            }
        }
        if self.filter.is_none() && !self.parameters.is_empty() {
            problems.push(Problem::new("parameters", "there is no `where` for them"));
        }
        problems
    }

    async fn partitions(&self, context: &OpenContext<SqliteClient>) -> Result<Vec<Partition>> {
        let (client, selection) = (context.client(), self.selection());
        let ranges = match self.partitions {
            Some(count) if count.get() > 1 => {
                client.key_range(&selection).await?.map(|(first, last)| ranges(first, last, count.get()))
            }
            _ => None,
        };
        let Some(ranges) = ranges else {
            let whole = Partition::whole();
            let items = client.count(&selection, None).await?;
            return Ok(vec![items.map_or(whole.clone(), |items| whole.with_items(items))]);
        };
        let mut partitions = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            let partition = Partition::new(format!("{first}..{}", i128::from(last) + 1)).as_range();
            let items = client.count(&selection, Some((first, last))).await?;
            partitions.push(items.map_or(partition.clone(), |items| partition.with_items(items)));
        }
        Ok(partitions)
    }

    fn increments(&self) -> Result<Increments, &'static str> {
        match self.partitions {
            Some(count) if count.get() > 1 => {
                Err("its key ranges change as the table grows: leave `partitions` out")
            }
            _ => Ok(Increments::Appends),
        }
    }

    fn read(
        &self,
        partition: &Partition,
        after: Option<Position>,
        context: &ReadContext<SqliteClient>,
    ) -> impl Stream<Item = Result<SourceBatch>> + Send {
        let (source, partition, context) = (self.clone(), partition.clone(), context.clone());
        async_stream::try_stream! {
            let client = context.client();
            let reader = client.open_reader(&source.selection(), range_of(&partition)?).await?;
            let mut after = key_of(after, reader.key_len())?;
            loop {
                let page = client.page(&reader, after.as_deref(), context.limits()).await?;
                let Some(last) = page.after else { break };
                let mut rejected = Vec::with_capacity(page.rejected.len());
                for (raw, position, error) in page.rejected {
                    rejected.push(context.reject(Raw::Json(raw), position, error)?);
                }
                let batch = context.rows(page.rows, Positions::each(page.positions), last.clone())?;
                yield batch.with_rejected(rejected);
                if page.is_last {
                    break;
                }
                after = key_of(Some(last), reader.key_len())?;
            }
        }
    }
}

/// Reads the first and the last key out of a partition's id, which names the one after it; none
/// for the whole.
fn range_of(partition: &Partition) -> Result<Option<(i64, i64)>> {
    if partition.id == Partition::whole().id {
        return Ok(None);
    }
    let range = partition.id.split_once("..").and_then(|(first, end)| {
        let end: i128 = end.parse().ok()?;
        Some((first.parse().ok()?, i64::try_from(end - 1).ok()?))
    });
    let unknown =
        || Error::configuration(format!("partition \"{}\" is no key range of a table", partition.id));
    range.map(Some).ok_or_else(unknown)
}

fn key_of(position: Option<Position>, len: usize) -> Result<Option<std::sync::Arc<[KeyValue]>>> {
    match position {
        None => Ok(None),
        Some(Position::Keyset(key)) if key.len() == len => Ok(Some(key)),
        Some(other) => {
            let message = format!(
                "position \"{other}\" is no key of {len} columns: the source was read by another key: begin anew without the run's state"
            );
            Err(Error::configuration(message))
        }
    }
}

/// Cuts the keys from `first` to `last` into at most `count` ranges, each from its first key to
/// its last.
///
/// A range begins at a multiple of its width, and the width is a power of two: while a table
/// grows, ranges are added, and those that there were stay.
fn ranges(first: i64, last: i64, count: u32) -> Vec<(i64, i64)> {
    let (first, last) = (i128::from(first), i128::from(last));
    let mut width: i128 = 1;
    while last.div_euclid(width) - first.div_euclid(width) >= i128::from(count) {
        width *= 2;
    }
    let clamp = |key: i128| key.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
    (first.div_euclid(width)..=last.div_euclid(width))
        .map(|n| (clamp(n * width), clamp((n + 1) * width - 1)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_stay_while_a_table_grows() {
        assert_eq!(ranges(1, 1000, 4), [(0, 255), (256, 511), (512, 767), (768, 1023)]);
        assert_eq!(ranges(1, 700, 4), [(0, 255), (256, 511), (512, 767)]);
        assert_eq!(ranges(-3, 2, 2), [(-4, -1), (0, 3)]);
        assert_eq!(ranges(7, 7, 3), [(7, 7)]);
    }

    #[test]
    fn ranges_hold_every_key() {
        for (first, last, count) in [(0, 0, 1), (-5, 5, 3), (1, 1 << 40, 7), (i64::MIN, i64::MAX, 5)] {
            let ranges = ranges(first, last, count);
            assert!(ranges.len() <= count as usize);
            assert!(ranges[0].0 <= first && last <= ranges[ranges.len() - 1].1, "{ranges:?}");
            assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0));
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let source =
            SqliteSource { query: Some(" ".into()), parameters: vec![1.into()], ..Default::default() };
        let paths: Vec<_> = source.validate().into_iter().map(|problem| problem.path).collect();
        assert_eq!(paths, ["query", "key", "parameters"]);
    }
}
