//! A column's name and type as they are written: names that no release of Arrow changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::{
    DECIMAL32_MAX_PRECISION, DECIMAL64_MAX_PRECISION, DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION,
    DataType, Field, FieldRef, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit, UnionFields, UnionMode,
};
use serde::{Deserialize, Serialize};

/// No value of fixed size is larger: what a null of one costs when it is read.
const MAX_FIXED_SIZE: i32 = 1 << 20;

/// The schema of a row.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Columns {
    pub(super) columns: Vec<Column>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) metadata: BTreeMap<String, String>,
}

/// One column, or one part of a nested one.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Column {
    name: String,
    r#type: ColumnType,
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    nullable: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_yes(yes: &bool) -> bool {
    *yes
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ColumnType {
    Null,
    Boolean,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Float16,
    Float32,
    Float64,
    Decimal32(u8, i8),
    Decimal64(u8, i8),
    Decimal128(u8, i8),
    Decimal256(u8, i8),
    Utf8,
    LargeUtf8,
    Utf8View,
    Binary,
    LargeBinary,
    BinaryView,
    FixedSizeBinary(i32),
    Date32,
    Date64,
    Time32(Unit),
    Time64(Unit),
    Timestamp(Unit, Option<String>),
    Duration(Unit),
    IntervalYearMonth,
    IntervalDayTime,
    IntervalMonthDayNano,
    List(Box<Column>),
    LargeList(Box<Column>),
    ListView(Box<Column>),
    LargeListView(Box<Column>),
    FixedSizeList(Box<Column>, i32),
    Struct(Vec<Column>),
    Map(Box<Column>, bool),
    SparseUnion(Vec<(i8, Column)>),
    DenseUnion(Vec<(i8, Column)>),
    Dictionary(Box<Self>, Box<Self>),
    RunEndEncoded(Box<Column>, Box<Column>),
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Unit {
    #[serde(rename = "s")]
    Second,
    #[serde(rename = "ms")]
    Millisecond,
    #[serde(rename = "us")]
    Microsecond,
    #[serde(rename = "ns")]
    Nanosecond,
}

impl From<TimeUnit> for Unit {
    fn from(unit: TimeUnit) -> Self {
        match unit {
            TimeUnit::Second => Self::Second,
            TimeUnit::Millisecond => Self::Millisecond,
            TimeUnit::Microsecond => Self::Microsecond,
            TimeUnit::Nanosecond => Self::Nanosecond,
        }
    }
}

impl From<Unit> for TimeUnit {
    fn from(unit: Unit) -> Self {
        match unit {
            Unit::Second => Self::Second,
            Unit::Millisecond => Self::Millisecond,
            Unit::Microsecond => Self::Microsecond,
            Unit::Nanosecond => Self::Nanosecond,
        }
    }
}

impl Columns {
    pub(super) fn of(schema: &Schema) -> Self {
        let columns = schema.fields().iter().map(|field| Column::of(field)).collect();
        let metadata = schema.metadata().iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        Self { columns, metadata }
    }

    pub(super) fn into_schema(self) -> Result<SchemaRef, String> {
        let fields = fields(self.columns)?;
        Ok(Arc::new(Schema::new_with_metadata(fields, HashMap::from_iter(self.metadata))))
    }
}

impl Column {
    fn of(field: &Field) -> Self {
        Self {
            name: field.name().clone(),
            r#type: ColumnType::of(field.data_type()),
            nullable: field.is_nullable(),
            metadata: field.metadata().iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        }
    }

    fn boxed(field: &FieldRef) -> Box<Self> {
        Box::new(Self::of(field))
    }

    fn into_field(self) -> Result<FieldRef, String> {
        let data_type = self.r#type.into_data_type()?;
        let metadata = HashMap::from_iter(self.metadata);
        Ok(Arc::new(Field::new(self.name, data_type, self.nullable).with_metadata(metadata)))
    }
}

fn fields(columns: Vec<Column>) -> Result<Fields, String> {
    columns.into_iter().map(Column::into_field).collect()
}

impl ColumnType {
    pub(super) fn of(data_type: &DataType) -> Self {
        use DataType as T;
        match data_type {
            T::Null => Self::Null,
            T::Boolean => Self::Boolean,
            T::Int8 => Self::Int8,
            T::Int16 => Self::Int16,
            T::Int32 => Self::Int32,
            T::Int64 => Self::Int64,
            T::UInt8 => Self::Uint8,
            T::UInt16 => Self::Uint16,
            T::UInt32 => Self::Uint32,
            T::UInt64 => Self::Uint64,
            T::Float16 => Self::Float16,
            T::Float32 => Self::Float32,
            T::Float64 => Self::Float64,
            T::Decimal32(precision, scale) => Self::Decimal32(*precision, *scale),
            T::Decimal64(precision, scale) => Self::Decimal64(*precision, *scale),
            T::Decimal128(precision, scale) => Self::Decimal128(*precision, *scale),
            T::Decimal256(precision, scale) => Self::Decimal256(*precision, *scale),
            T::Utf8 => Self::Utf8,
            T::LargeUtf8 => Self::LargeUtf8,
            T::Utf8View => Self::Utf8View,
            T::Binary => Self::Binary,
            T::LargeBinary => Self::LargeBinary,
            T::BinaryView => Self::BinaryView,
            T::FixedSizeBinary(size) => Self::FixedSizeBinary(*size),
            T::Date32 => Self::Date32,
            T::Date64 => Self::Date64,
            T::Time32(unit) => Self::Time32((*unit).into()),
            T::Time64(unit) => Self::Time64((*unit).into()),
            T::Timestamp(unit, zone) => Self::Timestamp((*unit).into(), zone.as_deref().map(Into::into)),
            T::Duration(unit) => Self::Duration((*unit).into()),
            T::Interval(IntervalUnit::YearMonth) => Self::IntervalYearMonth,
            T::Interval(IntervalUnit::DayTime) => Self::IntervalDayTime,
            T::Interval(IntervalUnit::MonthDayNano) => Self::IntervalMonthDayNano,
            T::List(item) => Self::List(Column::boxed(item)),
            T::LargeList(item) => Self::LargeList(Column::boxed(item)),
            T::ListView(item) => Self::ListView(Column::boxed(item)),
            T::LargeListView(item) => Self::LargeListView(Column::boxed(item)),
            T::FixedSizeList(item, size) => Self::FixedSizeList(Column::boxed(item), *size),
            T::Struct(fields) => Self::Struct(fields.iter().map(|field| Column::of(field)).collect()),
            T::Map(entries, sorted) => Self::Map(Column::boxed(entries), *sorted),
            T::Union(members, mode) => {
                let members = members.iter().map(|(id, field)| (id, Column::of(field))).collect();
                match mode {
                    UnionMode::Sparse => Self::SparseUnion(members),
                    UnionMode::Dense => Self::DenseUnion(members),
                }
            }
            T::Dictionary(key, value) => Self::Dictionary(Self::of(key).into(), Self::of(value).into()),
            T::RunEndEncoded(ends, values) => Self::RunEndEncoded(Column::boxed(ends), Column::boxed(values)),
        }
    }

    /// What the content hash tells of a type: that of the values, not how they are kept, and
    /// no names of its own making.
    pub(super) fn logical(data_type: &DataType) -> Self {
        let mut logical = Self::of(data_type);
        logical.strip();
        logical
    }

    fn strip(&mut self) {
        match self {
            Self::List(item)
            | Self::LargeList(item)
            | Self::ListView(item)
            | Self::LargeListView(item)
            | Self::FixedSizeList(item, _) => item.strip(true),
            Self::Struct(fields) => fields.iter_mut().for_each(|field| field.strip(false)),
            Self::Map(entries, _) => {
                entries.strip(true);
                if let Self::Struct(fields) = &mut entries.r#type {
                    fields.iter_mut().for_each(|field| field.strip(true));
                }
            }
            Self::SparseUnion(members) | Self::DenseUnion(members) => {
                members.iter_mut().for_each(|(_, field)| field.strip(false));
            }
            Self::Dictionary(_, values) => {
                values.strip();
                *self = std::mem::replace(&mut **values, Self::Null);
            }
            Self::RunEndEncoded(_, values) => {
                values.strip(true);
                *self = std::mem::replace(&mut values.r#type, Self::Null);
            }
            _ => {}
        }
    }

    pub(super) fn into_data_type(self) -> Result<DataType, String> {
        use DataType as T;
        Ok(match self {
            Self::Null => T::Null,
            Self::Boolean => T::Boolean,
            Self::Int8 => T::Int8,
            Self::Int16 => T::Int16,
            Self::Int32 => T::Int32,
            Self::Int64 => T::Int64,
            Self::Uint8 => T::UInt8,
            Self::Uint16 => T::UInt16,
            Self::Uint32 => T::UInt32,
            Self::Uint64 => T::UInt64,
            Self::Float16 => T::Float16,
            Self::Float32 => T::Float32,
            Self::Float64 => T::Float64,
            Self::Decimal32(p, s) => decimal(p, s, DECIMAL32_MAX_PRECISION, T::Decimal32)?,
            Self::Decimal64(p, s) => decimal(p, s, DECIMAL64_MAX_PRECISION, T::Decimal64)?,
            Self::Decimal128(p, s) => decimal(p, s, DECIMAL128_MAX_PRECISION, T::Decimal128)?,
            Self::Decimal256(p, s) => decimal(p, s, DECIMAL256_MAX_PRECISION, T::Decimal256)?,
            Self::Utf8 => T::Utf8,
            Self::LargeUtf8 => T::LargeUtf8,
            Self::Utf8View => T::Utf8View,
            Self::Binary => T::Binary,
            Self::LargeBinary => T::LargeBinary,
            Self::BinaryView => T::BinaryView,
            Self::FixedSizeBinary(size) => T::FixedSizeBinary(fixed_size(size)?),
            Self::Date32 => T::Date32,
            Self::Date64 => T::Date64,
            Self::Time32(unit @ (Unit::Second | Unit::Millisecond)) => T::Time32(unit.into()),
            Self::Time64(unit @ (Unit::Microsecond | Unit::Nanosecond)) => T::Time64(unit.into()),
            Self::Time32(_) | Self::Time64(_) => return Err("a time of another width has that unit".into()),
            Self::Timestamp(unit, zone) => T::Timestamp(unit.into(), zone.map(Into::into)),
            Self::Duration(unit) => T::Duration(unit.into()),
            Self::IntervalYearMonth => T::Interval(IntervalUnit::YearMonth),
            Self::IntervalDayTime => T::Interval(IntervalUnit::DayTime),
            Self::IntervalMonthDayNano => T::Interval(IntervalUnit::MonthDayNano),
            Self::List(item) => T::List(item.into_field()?),
            Self::LargeList(item) => T::LargeList(item.into_field()?),
            Self::ListView(item) => T::ListView(item.into_field()?),
            Self::LargeListView(item) => T::LargeListView(item.into_field()?),
            Self::FixedSizeList(item, size) => T::FixedSizeList(item.into_field()?, fixed_size(size)?),
            Self::Struct(columns) => T::Struct(fields(columns)?),
            Self::Map(entries, sorted) => map(entries.into_field()?, sorted)?,
            Self::SparseUnion(members) => T::Union(union(members)?, UnionMode::Sparse),
            Self::DenseUnion(members) => T::Union(union(members)?, UnionMode::Dense),
            Self::Dictionary(key, value) => {
                let (key, value) = (key.into_data_type()?, value.into_data_type()?);
                if !key.is_dictionary_key_type() {
                    return Err("the keys of a dictionary are integers".into());
                }
                T::Dictionary(key.into(), value.into())
            }
            Self::RunEndEncoded(ends, values) => {
                let (ends, values) = (ends.into_field()?, values.into_field()?);
                if !ends.data_type().is_run_ends_type() || ends.is_nullable() {
                    return Err("the ends of runs are integers of 16, 32 or 64 bits".into());
                }
                T::RunEndEncoded(ends, values)
            }
        })
    }
}

impl Column {
    fn strip(&mut self, nameless: bool) {
        if nameless {
            self.name.clear();
        }
        self.nullable = true;
        self.metadata.clear();
        self.r#type.strip();
    }
}

fn decimal(precision: u8, scale: i8, most: u8, make: fn(u8, i8) -> DataType) -> Result<DataType, String> {
    if precision == 0 || precision > most || i16::from(scale) > i16::from(precision) {
        return Err(format!("there is no decimal of {precision} digits, {scale} behind the point"));
    }
    Ok(make(precision, scale))
}

fn fixed_size(size: i32) -> Result<i32, String> {
    if (0..=MAX_FIXED_SIZE).contains(&size) { Ok(size) } else { Err(format!("a fixed size of {size}")) }
}

fn map(entries: FieldRef, sorted: bool) -> Result<DataType, String> {
    match entries.data_type() {
        DataType::Struct(pair) if pair.len() == 2 && !entries.is_nullable() => {
            Ok(DataType::Map(entries, sorted))
        }
        _ => Err("the entries of a map are keys and values".into()),
    }
}

fn union(members: Vec<(i8, Column)>) -> Result<UnionFields, String> {
    let mut ids = Vec::with_capacity(members.len());
    let mut fields = Vec::with_capacity(members.len());
    for (id, column) in members {
        ids.push(id);
        fields.push(column.into_field()?);
    }
    UnionFields::try_new(ids, fields).map_err(|error| error.to_string())
}
