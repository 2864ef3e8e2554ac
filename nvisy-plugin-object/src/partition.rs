//! Partitions and positions: what all formats have alike.

use std::time::SystemTime;

use nvisy_core::{BatchLimits, Error, OpenContext, Partition, Position, Result};

use crate::client::ObjectClient;
use crate::selection::Selection;
use crate::version;

/// Rows are cheap: a batch of them is bounded by bytes first, and by so many rows.
const MAX_ROWS: usize = 16_384;

/// Returns how many rows a batch has at the most: a limit below the default is kept to, for
/// then a node downstream is slow or dear; one above is a hint.
pub(crate) fn row_limit(limits: BatchLimits) -> usize {
    if limits.items < BatchLimits::default().items { limits.items.max(1) } else { limits.items.max(MAX_ROWS) }
}

/// Returns one partition an object; with its version, where an incremental run asks.
pub(crate) async fn partitions(
    context: &OpenContext<ObjectClient>,
    selection: &Selection,
) -> Result<Vec<Partition>> {
    let (client, listed) = (context.client(), SystemTime::now());
    let entries = client.list(selection, context.context().meter()).await?;
    if entries.is_empty() {
        tracing::warn!(prefix = selection.prefix(), store = client.identity().name(), "nothing to read");
    }
    if context.context().generation().is_some() {
        return version::partitions(context, entries, listed).await;
    }
    Ok(entries.into_iter().map(|entry| Partition::new(entry.key)).collect())
}

/// Returns the offset of a position in the object at `key`.
pub(crate) fn offset_of(position: Option<Position>, key: &str) -> Result<Option<u64>> {
    match position {
        None => Ok(None),
        Some(Position::Marker { object, offset }) if &*object == key => Ok(Some(offset)),
        Some(other) => {
            let message = format!("the position {other} is not one of object \"{key}\": begin without it");
            Err(Error::configuration(message))
        }
    }
}
