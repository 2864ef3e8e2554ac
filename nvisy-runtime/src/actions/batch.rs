//! `batch`: gathers items into batches of another size.

use std::time::Duration;

use nvisy_core::config::{Problem, duration};
use nvisy_core::prelude::*;
use nvisy_core::primitive::Kinds;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Gathers items into larger batches, or cuts batches into smaller ones. The items stay as
/// they are.
///
/// A batch is passed on when it has as many items or bytes as it may, when it has waited for
/// `linger`, or when the source has nothing more for now. The engine gathers before the node;
/// the node itself does nothing.
///
/// # Examples
///
/// ```json
/// { "type": "action", "use": "batch", "inputs": ["rows"],
///   "config": { "items": 10000, "bytes": 16777216, "linger": "2s" } }
/// ```
///
/// ```
/// use std::time::Duration;
/// use nvisy_runtime::actions::Gather;
///
/// let large = Gather::items(10_000).bytes(16 << 20).linger(Duration::from_secs(2));
/// let json = serde_json::to_string(&large).unwrap();
/// assert_eq!(json, r#"{"items":10000,"bytes":16777216,"linger":"2s"}"#);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gather {
    /// Items of a batch at the most. Default 1,024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub items: Option<usize>,
    /// Bytes of a batch at the most. Default 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub bytes: Option<usize>,
    /// How long the first item of a batch waits for others, such as `"500ms"`. Default no bound:
    /// what is gathered goes on when the batch is full, when the source has given nothing for
    /// 100 ms or may not read further, and when it ends. With a `linger` it goes on then, too.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration::option")]
    #[schemars(with = "Option<String>")]
    pub linger: Option<Duration>,
}

impl Gather {
    /// Gathers so many items.
    #[must_use]
    pub fn items(items: usize) -> Self {
        Self { items: Some(items), ..Self::default() }
    }

    /// Sets how many bytes a batch has at the most.
    #[must_use]
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = Some(bytes);
        self
    }

    /// Sets how long the first item waits for others.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = Some(linger);
        self
    }
}

impl ActionConfig for Gather {
    const NAME: &'static str = "batch";
    type Input = Any;
    type Output<In: Kind> = In;
    type Client = NoClient;

    fn output_kinds(&self, input: Kinds) -> Kinds {
        input
    }

    fn optimum(&self) -> Option<BatchLimits> {
        let limits = BatchLimits::default();
        let limits = self.items.map_or(limits, BatchLimits::items);
        Some(self.bytes.map_or(limits, |bytes| limits.with_bytes(bytes)))
    }

    fn is_columnar(&self) -> bool {
        true
    }

    fn validate(&self) -> Vec<Problem> {
        let zero = |field: &str, value: Option<usize>| {
            (value == Some(0)).then(|| Problem::new(field, "is 0, so no batch could hold an item"))
        };
        let linger = self.linger.filter(|linger| *linger > duration::LONGEST);
        let linger = linger.map(|_| Problem::new("linger", "is longer than ten years"));
        [zero("items", self.items), zero("bytes", self.bytes), linger].into_iter().flatten().collect()
    }

    async fn build(&self, _: &OpenContext) -> Result<Action> {
        Ok(Action::columnar(Gathering))
    }
}

struct Gathering;

impl Columnar for Gathering {
    async fn apply(&self, batch: Batch, _: &Context) -> Result<Outcomes> {
        Ok(Outcomes::same(batch))
    }
}
