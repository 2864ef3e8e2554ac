//! What expressions give of a batch, for keys.

use arrow::array::{Array, AsArray, Float64Array, Int64Array, StringArray, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use nvisy_core::{Batch, Error, Result};

use super::Direction;
use super::encoding::decimal::{encode_exact, is_double};
use super::encoding::{TEXT, double, encode, integer, null, octets, of_int};
use crate::expression::{Decimals, EvaluatedColumn, Expression, Type, Value};

/// The values of an expression on a batch, as they are where they are a plain column.
pub(in crate::actions) enum Values {
    Ints(Int64Array),
    UInts(UInt64Array),
    Doubles(Float64Array),
    Texts(StringArray),
    /// The same for every item.
    One(Value),
    Each(Vec<Result<Value>>),
    /// As doubles, and as the decimals that they are.
    Decimals(Vec<Result<Value>>, Vec<Decimals>),
}

impl Values {
    pub(in crate::actions) fn of(expression: &Expression, batch: &Batch) -> Self {
        if expression.references().is_empty()
            && !batch.is_empty()
            && let Ok(value) = expression.evaluate(&batch.primitive(0))
        {
            return Self::One(value);
        }
        if let Some(decimals) = expression.decimals(batch) {
            return Self::exact(expression.evaluate_batch(batch), decimals);
        }
        Self::plain(expression, batch).unwrap_or_else(|| Self::Each(expression.evaluate_batch(batch)))
    }

    /// Values with their decimals: a map that would have one rounded is a fault.
    fn exact(mut each: Vec<Result<Value>>, decimals: Vec<Decimals>) -> Self {
        for (value, decimals) in each.iter_mut().zip(&decimals) {
            if value.is_ok() && rounds(decimals) {
                let message =
                    "has a map in it that would round a decimal: make that a key alone, or in a list";
                *value = Err(Error::invalid("key", message));
            }
        }
        Self::Decimals(each, decimals)
    }

    /// The values as a column, where they are one without faults.
    fn plain(expression: &Expression, batch: &Batch) -> Option<Self> {
        let rows = batch.as_rows()?;
        let column = match expression.references() {
            [reference] if reference.path == expression.text().trim() => {
                rows.column_by_name(reference.column()?)?.clone()
            }
            _ if expression.is_columnar() => {
                let EvaluatedColumn { values, faults } = expression.evaluate_column(batch);
                faults.is_empty().then_some(values)?
            }
            _ => return None,
        };
        Some(match column.data_type() {
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                Self::Ints(cast(&column, &DataType::Int64).ok()?.as_primitive::<Int64Type>().clone())
            }
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
                Self::UInts(cast(&column, &DataType::UInt64).ok()?.as_primitive::<UInt64Type>().clone())
            }
            DataType::Float64 => Self::Doubles(column.as_primitive::<Float64Type>().clone()),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Self::Texts(cast(&column, &DataType::Utf8).ok()?.as_string::<i32>().clone())
            }
            _ => return None,
        })
    }

    /// Returns whether all are plain numbers.
    pub(super) fn are_numbers(&self) -> bool {
        match self {
            Self::Ints(of) => of.null_count() == 0,
            Self::UInts(of) => of.null_count() == 0,
            Self::Doubles(of) => of.null_count() == 0,
            _ => false,
        }
    }

    pub(in crate::actions) fn get(&self, index: usize) -> Result<Value> {
        Ok(match self {
            Self::Ints(of) if of.is_valid(index) => Value::Int(of.value(index)),
            Self::UInts(of) if of.is_valid(index) => Value::UInt(of.value(index)),
            Self::Doubles(of) if of.is_valid(index) => Value::Double(of.value(index)),
            Self::Texts(of) if of.is_valid(index) => Value::Text(of.value(index).to_owned()),
            Self::One(value) => value.clone(),
            Self::Each(each) | Self::Decimals(each, _) => return each[index].clone(),
            _ => Value::Null,
        })
    }

    /// Returns whether an item may have no value or a null.
    pub(in crate::actions) fn has_nulls(&self) -> bool {
        match self {
            Self::Ints(of) => of.null_count() > 0,
            Self::UInts(of) => of.null_count() > 0,
            Self::Doubles(of) => of.null_count() > 0,
            Self::Texts(of) => of.null_count() > 0,
            Self::One(value) => matches!(value, Value::Null),
            Self::Each(_) | Self::Decimals(..) => true,
        }
    }

    pub(in crate::actions) fn is_null(&self, index: usize) -> bool {
        self.type_at(index) == Type::Null
    }

    /// Returns the type of all values but the nulls, if none of them has a fault.
    pub(in crate::actions) fn type_of_all(&self) -> Option<Type> {
        let of = |array: &dyn Array, of: Type| if array.null_count() < array.len() { of } else { Type::Null };
        Some(match self {
            Self::Ints(array) => of(array, Type::Int),
            Self::UInts(array) => of(array, Type::UInt),
            Self::Doubles(array) => of(array, Type::Double),
            Self::Texts(array) => of(array, Type::Text),
            Self::One(value) => Type::of(value),
            Self::Each(_) | Self::Decimals(..) => return None,
        })
    }

    /// Returns the fault of an item, if it has one instead of a value.
    pub(in crate::actions) fn fault(&self, index: usize) -> Result<()> {
        match self {
            Self::Each(each) | Self::Decimals(each, _) => {
                each[index].as_ref().map(drop).map_err(Error::clone)
            }
            _ => Ok(()),
        }
    }

    /// Returns the type of the value of an item; of one that has a fault null.
    pub(in crate::actions) fn type_at(&self, index: usize) -> Type {
        match self {
            Self::Ints(of) if of.is_valid(index) => Type::Int,
            Self::UInts(of) if of.is_valid(index) => Type::UInt,
            Self::Doubles(of) if of.is_valid(index) => Type::Double,
            Self::Texts(of) if of.is_valid(index) => Type::Text,
            Self::One(value) => Type::of(value),
            Self::Each(each) | Self::Decimals(each, _) => each[index].as_ref().map_or(Type::Null, Type::of),
            _ => Type::Null,
        }
    }

    fn decimals(&self, index: usize) -> Option<&Decimals> {
        match self {
            Self::Decimals(_, decimals) => decimals.get(index).filter(|decimals| !decimals.is_none()),
            _ => None,
        }
    }

    /// Writes the value of an item behind a key; what has a fault has none.
    pub(in crate::actions) fn encode(
        &self,
        index: usize,
        direction: Direction,
        key: &mut Vec<u8>,
    ) -> Result<()> {
        let start = key.len();
        match self {
            Self::Ints(of) if of.is_valid(index) => key.extend(of_int(of.value(index))),
            Self::UInts(of) if of.is_valid(index) => key.extend(integer(of.value(index).into())),
            Self::Doubles(of) if of.is_valid(index) => key.extend(double(of.value(index))),
            Self::Texts(of) if of.is_valid(index) => {
                key.push(TEXT);
                octets(of.value(index).as_bytes(), key);
            }
            Self::One(Value::Null) => return null(direction, key),
            Self::One(value) => encode(value, key),
            Self::Each(each) | Self::Decimals(each, _) => match &each[index] {
                Ok(value) if let Some(decimals) = self.decimals(index) => {
                    let behind_upper = direction.descending != direction.nulls_last_behind;
                    encode_exact(value, decimals, behind_upper, key);
                }
                Ok(Value::Null) => return null(direction, key),
                Ok(value) => encode(value, key),
                Err(error) => return Err(error.clone()),
            },
            _ => return null(direction, key),
        }
        if direction.descending {
            key[start..].iter_mut().for_each(|byte| *byte = !*byte);
        }
        Ok(())
    }
}

/// Returns whether a map has a decimal in it that is no double.
fn rounds(decimals: &Decimals) -> bool {
    match decimals {
        Decimals::None | Decimals::One(_) => false,
        Decimals::List(items) => items.iter().any(rounds),
        Decimals::Within(within) => !within.iter().all(|decimal| is_double(*decimal)),
    }
}
