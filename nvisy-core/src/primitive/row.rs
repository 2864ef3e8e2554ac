//! One relational record: a view into a batch of them.

mod build;
mod column_type;
mod json;
mod read;
mod scalar;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use self::column_type::{ColumnType, Columns};
pub use self::json::json_at;
#[doc(hidden)]
pub use self::read::unify;
use self::scalar::{Scalar, scalar_at};
pub use super::cell::{Cell, Decimal, ListCell, MapCell, StructCell, TimeUnit, cell_at};
use crate::error::{Error, Result};
use crate::hash::ContentHasher;
use crate::metadata::Timestamp;

/// One relational record: a record batch and an index. Cheap to clone; the batch is shared.
///
/// Two rows are equal if their columns and values are, whatever batch they are in. A number
/// that is none (NaN) equals itself here.
///
/// # Examples
///
/// ```
/// use nvisy_core::primitive::row::{Cell, Row};
/// use serde_json::json;
///
/// # fn main() -> nvisy_core::Result<()> {
/// let object = json!({"id": 7, "title": "Printer on fire", "tags": ["hot"]});
/// let row = Row::from_json(object.as_object().unwrap(), None)?;
/// assert_eq!(row.get("id"), Some(Cell::Int(7)));
/// assert_eq!(row.get_str("title"), Some("Printer on fire"));
/// assert!(row.is_null("owner"));
/// assert_eq!(serde_json::Value::from(row.to_json()), object);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Row {
    batch: Arc<RecordBatch>,
    index: u32,
}

impl Row {
    /// Views one record of a batch.
    ///
    /// # Errors
    ///
    /// `validation` if the batch has no record at `index`.
    pub fn new(batch: Arc<RecordBatch>, index: u32) -> Result<Self> {
        if index as usize >= batch.num_rows() {
            let rows = batch.num_rows();
            return Err(Error::invalid("row.index", format!("is {index}, the batch has {rows} rows")));
        }
        Ok(Self { batch, index })
    }

    /// Makes a record of a plain JSON object: of the columns of a schema, or of those that the
    /// object shows.
    ///
    /// With a schema, a column that the object does not have is null, and dates and times are
    /// read from ISO 8601, bytes from base64. Without one, integers are `Int64`, other numbers
    /// `Float64`, texts `Utf8`, objects structs and arrays lists; what is null has no type.
    ///
    /// # Errors
    ///
    /// `validation` if a value is not of its column's type, or there is no such column.
    pub fn from_json(object: &Map<String, Value>, schema: Option<SchemaRef>) -> Result<Self> {
        let schema = schema.unwrap_or_else(|| Arc::new(Schema::new(read::infer(object))));
        let values =
            read::read_fields(schema.fields(), object).map_err(|error| Error::invalid("row", error))?;
        Self::from_scalars(schema, values)
    }

    fn from_scalars(schema: SchemaRef, values: Vec<Scalar<'_>>) -> Result<Self> {
        if values.len() != schema.fields().len() {
            let (have, want) = (values.len(), schema.fields().len());
            return Err(Error::invalid("row.values", format!("{have} values for {want} columns")));
        }
        let columns = schema.fields().iter().zip(values).map(|(field, value)| {
            let column = build::build(field.data_type(), vec![value]);
            column.map_err(|error| Error::invalid(format!("row.{}", field.name()), error))
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let batch = RecordBatch::try_new_with_options(schema, columns, &options)
            .map_err(|error| Error::invalid("row.values", error))?;
        Ok(Self { batch: Arc::new(batch), index: 0 })
    }

    /// Returns the batch that the record is in.
    #[must_use]
    pub fn batch(&self) -> &Arc<RecordBatch> {
        &self.batch
    }

    /// Returns the record's index in its batch.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index as usize
    }

    /// Returns the columns' names and types.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        self.batch.schema_ref()
    }

    /// Iterates over the columns' names with their values, in order.
    pub fn columns(&self) -> impl ExactSizeIterator<Item = (&str, Cell<'_>)> {
        let columns = self.schema().fields().iter().zip(self.batch.columns());
        columns.map(|(field, column)| (field.name().as_str(), cell_at(column, self.index())))
    }

    /// Returns the value of the column of that name, or none if there is no such column.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Cell<'_>> {
        Some(cell_at(self.batch.column_by_name(name)?, self.index()))
    }

    /// Returns whether the column is null, or is not there.
    #[must_use]
    pub fn is_null(&self, name: &str) -> bool {
        self.get(name).is_none_or(|cell| cell.is_null())
    }

    /// Returns the text of the column, if it is one.
    #[must_use]
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// Returns the integer of the column, if it is one and fits.
    #[must_use]
    pub fn get_i64(&self, name: &str) -> Option<i64> {
        self.get(name)?.as_i64()
    }

    /// Returns the integer of the column, if it is one and fits.
    #[must_use]
    pub fn get_u64(&self, name: &str) -> Option<u64> {
        self.get(name)?.as_u64()
    }

    /// Returns the number of the column, be it an integer, a decimal or a floating-point number.
    #[must_use]
    pub fn get_f64(&self, name: &str) -> Option<f64> {
        self.get(name)?.as_f64()
    }

    /// Returns the truth value of the column, if it is one.
    #[must_use]
    pub fn get_bool(&self, name: &str) -> Option<bool> {
        self.get(name)?.as_bool()
    }

    /// Returns the bytes of the column, if it is bytes or a text.
    #[must_use]
    pub fn get_bytes(&self, name: &str) -> Option<&[u8]> {
        self.get(name)?.as_bytes()
    }

    /// Returns the moment of the column, if it is one. One without a zone is taken for UTC.
    #[must_use]
    pub fn get_timestamp(&self, name: &str) -> Option<Timestamp> {
        self.get(name)?.as_timestamp()
    }

    /// Returns the record as a plain JSON object, as a JSON lines file shows it: see
    /// [`Cell::to_json`].
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        self.columns().map(|(name, cell)| (name.to_owned(), cell.to_json())).collect()
    }

    /// About its share of the batch's memory.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.batch.get_array_memory_size() / self.batch.num_rows().max(1)
    }

    fn scalars(&self) -> impl ExactSizeIterator<Item = Scalar<'_>> {
        self.batch.columns().iter().map(|column| scalar_at(column, self.index()))
    }

    /// By the columns' names, the types of what they hold and the values: not by the batch, nor
    /// by whether it keeps them in dictionaries.
    pub(crate) fn feed(&self, hasher: &mut ContentHasher) {
        hasher.list(self.batch.num_columns());
        for (field, value) in self.schema().fields().iter().zip(self.scalars()) {
            hasher.text(field.name());
            feed_type(field.data_type(), hasher);
            value.feed(hasher);
        }
    }
}

/// Reads values of one type from JSON, as [`Row::from_json`] does.
///
/// # Errors
///
/// `validation` if a value is not of the type.
#[doc(hidden)]
pub fn column_from_json(data_type: &DataType, values: &[Value]) -> Result<ArrayRef> {
    let scalars: Result<Vec<_>, _> = values.iter().map(|value| read::read(data_type, value)).collect();
    let column = scalars.and_then(|scalars| build::build(data_type, scalars));
    column.map_err(|error| Error::invalid("column", error))
}

fn feed_type(data_type: &DataType, hasher: &mut ContentHasher) {
    // A plain type is its own name: most are.
    match serde_json::to_string(&ColumnType::logical(data_type)) {
        Ok(text) => hasher.text(&text),
        Err(_) => hasher.null(),
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        let same = Arc::ptr_eq(&self.batch, &other.batch) && self.index == other.index;
        same || (self.schema() == other.schema() && self.scalars().eq(other.scalars()))
    }
}

/// How a row is written in JSON: with its columns and exact values.
#[derive(Serialize, Deserialize)]
struct Readable {
    #[serde(flatten)]
    columns: Columns,
    values: Vec<Value>,
}

/// How a row is written in binary formats. The columns are JSON, whose depth is bounded.
#[derive(Serialize, Deserialize)]
struct Compact<'a> {
    columns: String,
    #[serde(borrow)]
    values: Vec<Scalar<'a>>,
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let columns = Columns::of(self.schema());
        if serializer.is_human_readable() {
            let values = self.scalars().map(|value| value.to_json()).collect();
            return Readable { columns, values }.serialize(serializer);
        }
        let columns = serde_json::to_string(&columns).map_err(serde::ser::Error::custom)?;
        Compact { columns, values: self.scalars().collect() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        if deserializer.is_human_readable() {
            let Readable { columns, values } = Readable::deserialize(deserializer)?;
            let schema = columns.into_schema().map_err(D::Error::custom)?;
            let values = schema.fields().iter().zip(&values).map(|(f, v)| {
                read::read(f.data_type(), v)
                    .map_err(|error| Error::invalid(format!("row.{}", f.name()), error))
            });
            let values = values.collect::<Result<_>>().map_err(D::Error::custom)?;
            return Self::from_scalars(schema.clone(), values).map_err(D::Error::custom);
        }
        let Compact { columns, values } = Compact::deserialize(deserializer)?;
        let columns: Columns = serde_json::from_str(&columns).map_err(D::Error::custom)?;
        let schema = columns.into_schema().map_err(D::Error::custom)?;
        Self::from_scalars(schema, values).map_err(D::Error::custom)
    }
}
