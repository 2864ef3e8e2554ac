//! What services answer, as errors: in one place.

use nvisy_core::error::{Error, ErrorKind};

pub(crate) fn wrong_count(model: &str, want: usize, have: usize) -> Error {
    Error::internal(format!("model \"{model}\" answered with {have} vectors for {want} texts"))
}

pub(crate) fn wrong_dimensions(model: &str, asked: Option<u32>, want: usize, have: usize) -> Error {
    let message = match asked {
        Some(_) => format!(
            "model \"{model}\" answered with a vector of {have} dimensions, not the {want} asked for: \
             set `dimensions` to {have}, or leave it out"
        ),
        None => format!("model \"{model}\" answered with vectors of {want} and of {have} dimensions at once"),
    };
    Error::new(ErrorKind::Validation, message)
}

pub(crate) fn changed_dimensions(model: &str, want: usize, have: usize) -> Error {
    let message = format!("model \"{model}\" answered with vectors of {have} dimensions, and with {want} before");
    Error::new(ErrorKind::Validation, message)
}

pub(crate) fn not_finite(model: &str, index: usize) -> Error {
    let message = format!("model \"{model}\" answered with a number that is none in the vector of text {index}");
    Error::new(ErrorKind::Validation, message)
}

#[cfg(feature = "local")]
pub(crate) fn no_such_local_model(model: &str) -> Error {
    let message = format!("there is no model \"{model}\" in `ai/local`: it has `local/hash`");
    Error::new(ErrorKind::NotFound, message)
}
