//! What the types of columns mean to expressions.

use arrow::datatypes::DataType;

use crate::expression::types::Type;

/// How the values of a column compare and compute.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Null,
    Bool,
    Int,
    UInt,
    Double,
    Text,
    /// Of a type that nothing here knows, but whether there is a value.
    Other,
}

impl Class {
    pub(super) fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::UInt | Self::Double)
    }
}

/// The type of the values of a column, as far as it says.
pub(in crate::expression) fn type_of(data_type: &DataType) -> Type {
    match class(data_type) {
        Class::Null => Type::Null,
        Class::Bool => Type::Bool,
        Class::Int => Type::Int,
        Class::UInt => Type::UInt,
        Class::Double => Type::Double,
        Class::Text => Type::Text,
        Class::Other => Type::Any,
    }
}

pub(super) fn class(data_type: &DataType) -> Class {
    use DataType as T;
    match data_type {
        T::Null => Class::Null,
        T::Boolean => Class::Bool,
        T::Int8 | T::Int16 | T::Int32 | T::Int64 => Class::Int,
        T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 => Class::UInt,
        T::Float16 | T::Float32 | T::Float64 => Class::Double,
        T::Utf8 | T::LargeUtf8 | T::Utf8View => Class::Text,
        T::Dictionary(_, values) if matches!(**values, T::Utf8 | T::LargeUtf8 | T::Utf8View) => Class::Text,
        _ => Class::Other,
    }
}

/// The type of the values of a dictionary.
pub(super) fn value_type(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => values,
        plain => plain,
    }
}
