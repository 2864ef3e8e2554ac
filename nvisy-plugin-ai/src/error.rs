//! What services answer, as errors: in one place.

#[cfg(feature = "openai")]
mod refusal;
#[cfg(feature = "openai")]
mod scrub;

use nvisy_core::error::{Error, ErrorKind};
use nvisy_core::outcome::Breach;

#[cfg(feature = "openai")]
pub(crate) use self::refusal::{AddressRefused, Refusal, no_answer};

/// Who answered: a model, and where it is, if it is somewhere else.
pub(crate) fn name(model: &str, endpoint: Option<&str>) -> String {
    endpoint
        .map_or_else(|| format!("model \"{model}\""), |endpoint| format!("model \"{model}\" at {endpoint}"))
}

/// A service that miscounts answered wrongly, and may do better; code in this process has a bug.
pub(crate) fn wrong_count(model: &str, endpoint: Option<&str>, want: usize, have: usize) -> Error {
    let kind = if endpoint.is_some() { ErrorKind::Connection } else { ErrorKind::Internal };
    let who = name(model, endpoint);
    Error::new(kind, format!("{who} answered with {have} vectors for {want} texts"))
}

/// What a service does with every text is no fault of one: the setting is wrong, or the model. The
/// node fails, whatever becomes of items that fail: no other call would be worth its price.
pub(crate) fn wrong_dimensions(who: &str, asked: Option<u32>, want: usize, have: usize) -> Error {
    Error::configuration(match asked {
        Some(_) => format!(
            "{who} answered with a vector of {have} dimensions, not the {want} asked for: \
             set `dimensions` to {have}, or leave it out"
        ),
        None if have == 0 => format!("{who} answered with a vector of 0 dimensions: set another `model`"),
        None => format!(
            "{who} answered with vectors of {want} and of {have} dimensions at once: \
             set a `model` that makes them of one length"
        ),
    })
    .with_source(Breach)
}

pub(crate) fn changed_dimensions(model: &str, want: usize, have: usize) -> Error {
    Error::configuration(format!(
        "model \"{model}\" answered with vectors of {have} dimensions, and with {want} before: \
         set a `model` that makes them of one length"
    ))
    .with_source(Breach)
}

/// The fault of one text, beside others whose vectors are good.
pub(crate) fn not_finite(who: &str, index: usize) -> Error {
    let message =
        format!("{who} answered with a vector for text {index} that holds something other than numbers");
    Error::new(ErrorKind::Validation, message)
}

#[cfg(feature = "local")]
pub(crate) fn no_such_local_model(model: &str) -> Error {
    let message = format!("there is no model \"{model}\" in `ai/local`: it has `local/hash`");
    Error::new(ErrorKind::NotFound, message)
}

/// The answer was read, and is not what the API says: a proxy's, or one that was cut off.
#[cfg(feature = "openai")]
pub(crate) fn not_the_api(who: &str, why: impl std::fmt::Display) -> Error {
    let message = format!("{who} did not answer as an OpenAI-compatible API does: {why}: check `base_url`");
    Error::new(ErrorKind::Connection, message)
}
