//! Formats: what the bytes of an object mean.

pub(crate) mod bytes;
#[cfg(feature = "csv")]
pub(crate) mod csv;
#[cfg(feature = "ipc")]
pub(crate) mod ipc;
#[cfg(feature = "jsonl")]
pub(crate) mod json;
#[cfg(feature = "jsonl")]
pub(crate) mod jsonl;
#[cfg(feature = "parquet")]
pub(crate) mod parquet;
pub(crate) mod text;
