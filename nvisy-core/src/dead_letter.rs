//! What was set aside: an item in full, why, where and when.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, ErrorReport, Result};
use crate::metadata::Timestamp;
use crate::primitive::Primitive;
use crate::primitive::raw::Raw;

/// An item that was set aside, with what is needed to understand it and to try again.
///
/// On a dead-letter port it travels as a `raw` JSON payload under the item's own id, so that
/// any sink takes it, and [`from_primitive`](Self::from_primitive) reads it back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The item as it was when it failed.
    pub primitive: Primitive,
    /// Why, with the detail that reports and logs leave out.
    pub error: ErrorReport,
    /// The node that it failed at.
    pub node: Arc<str>,
    /// How often that node tried.
    pub attempts: u32,
    /// When it was set aside.
    pub time: Timestamp,
    /// Where it stands in its source, for people.
    pub position: Option<String>,
}

impl DeadLetter {
    /// Puts an item aside.
    #[must_use]
    pub fn new(primitive: Primitive, error: &Error, node: Arc<str>, attempts: u32, time: Timestamp) -> Self {
        let position = primitive.root().map(|root| format!("{} at {}", root.source.name(), root.position));
        let error = ErrorReport { detail: error.detail().map(str::to_owned), ..error.to_report() };
        Self { primitive, error, node, attempts, time, position }
    }

    /// Returns the primitive that travels on a dead-letter port.
    ///
    /// # Errors
    ///
    /// `internal` if the item does not serialize.
    pub fn to_primitive(&self) -> Result<Primitive> {
        let json = serde_json::to_value(self)
            .map_err(|e| Error::internal("a dead letter does not serialize").with_source(e))?;
        Ok(self.primitive.clone().with_payload(Raw::Json(json)))
    }

    /// Reads a dead letter from what travelled on a dead-letter port.
    ///
    /// # Errors
    ///
    /// `validation` if it is none.
    pub fn from_primitive(primitive: &Primitive) -> Result<Self> {
        let not = || Error::new(ErrorKind::Validation, "the item is no dead letter").at_item(primitive.id());
        let crate::primitive::Payload::Raw(raw) = primitive.payload() else { return Err(not()) };
        let Raw::Json(json) = &**raw else { return Err(not()) };
        serde_json::from_value(json.clone()).map_err(|e| not().with_source(e))
    }
}
