//! The sides of operators: arrays and scalars.

use arrow::array::{ArrayRef, AsArray, Datum, Scalar};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};

use super::class::Class;
use super::kernel::nulls;

/// One side of an operator.
pub(super) struct Operand {
    pub(super) class: Class,
    pub(super) array: ArrayRef,
    pub(super) scalar: bool,
    pub(super) faults: Option<BooleanBuffer>,
}

impl Operand {
    pub(super) fn nulls(&self) -> Option<BooleanBuffer> {
        if self.scalar { None } else { nulls(&*self.array) }
    }

    pub(super) fn datum(&self, array: ArrayRef) -> Box<dyn Datum> {
        if self.scalar { Box::new(Scalar::new(array)) } else { Box::new(array) }
    }

    /// Whether it is a number that is the same as a double.
    pub(super) fn is_exact_double(&self) -> bool {
        const EXACT: i128 = 1 << 53;
        match self.class {
            Class::Double => true,
            Class::Int | Class::UInt if self.scalar => {
                self.wides().is_some_and(|values| values.iter().all(|value| (-EXACT..=EXACT).contains(value)))
            }
            _ => false,
        }
    }

    pub(super) fn doubles(&self) -> Option<ScalarBuffer<f64>> {
        let array = cast(&self.array, &DataType::Float64).ok()?;
        Some(array.as_primitive_opt::<Float64Type>()?.values().clone())
    }

    /// The integers, whatever their type.
    pub(super) fn wides(&self) -> Option<Vec<i128>> {
        if self.class == Class::UInt {
            let array = cast(&self.array, &DataType::UInt64).ok()?;
            return Some(
                array.as_primitive_opt::<UInt64Type>()?.values().iter().map(|v| i128::from(*v)).collect(),
            );
        }
        let array = cast(&self.array, &DataType::Int64).ok()?;
        Some(array.as_primitive_opt::<Int64Type>()?.values().iter().map(|v| i128::from(*v)).collect())
    }
}
