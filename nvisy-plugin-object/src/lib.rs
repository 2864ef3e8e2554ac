//! Object stores and file formats as sources and sinks.
//!
//! A connection names a store; a node names a format. Any format works on any store, through
//! the one [`ObjectClient`].
//!
//! | connection | |
//! |---|---|
//! | `object/local` | [`Local`]: a directory that no path leaves |
//! | `object/memory` | [`Memory`]: texts within the config, for tests and examples |
//!
//! | format | source | sink |
//! |---|---|---|
//! | JSON Lines | `object/jsonl`: [`Jsonl`] | `object/jsonl`: [`JsonlSink`] |
//! | JSON | `object/json`: [`Json`] | |
//! | CSV, TSV | `object/csv`: [`Csv`] | `object/csv`: [`CsvSink`] |
//! | Parquet | `object/parquet`: [`Parquet`] | `object/parquet`: [`ParquetSink`] |
//! | Arrow IPC | `object/ipc`: [`Ipc`] | `object/ipc`: [`IpcSink`] |
//! | text, Markdown | `object/text`: [`Text`] | `object/text`: [`TextSink`] |
//! | bytes | `object/bytes`: [`Bytes`] | `object/bytes`: [`BytesSink`] |
//!
//! # Reading
//!
//! A source selects objects by `path`, or by `prefix` and `glob`. Each object is a partition;
//! an item's position is the object's key and the byte or row at which it begins, and its id
//! follows from the store and that position. Rows stay in Arrow columns from end to end. A prefix
//! whose directory is not there is an error, unless the source says `allow_missing`; a glob that
//! matches nothing is a warning.
//!
//! Blocks are read ahead and decoded on blocking threads, in order and within bounds. Dropping
//! a stream lets go of what is under way: a block that is being decoded is finished and thrown
//! away.
//!
//! # Writing
//!
//! A sink writes beside the final name and moves the file there when it is complete and on the
//! disk: at a flush, at the close, or when it has reached its size. What is dropped before
//! leaves nothing behind. What a killed process left goes when a sink of the same graph and node
//! opens; a process that lives has its files locked. See [`OnExisting`] for names that are taken, and [`JsonlSink`] for what
//! checkpoints change.

// What formats and stores share is not all used by each of them alone: the whole is checked.
#![cfg_attr(
    not(all(feature = "local", feature = "jsonl", feature = "csv", feature = "parquet", feature = "ipc")),
    allow(dead_code, unused_imports, unused_macros)
)]

#[cfg(any(feature = "jsonl", feature = "csv"))]
mod block;
mod client;
#[cfg(any(feature = "jsonl", feature = "csv"))]
mod column;
mod compression;
#[cfg(any(feature = "jsonl", feature = "csv"))]
mod encode;
mod error;
mod format;
#[cfg(feature = "jsonl")]
mod json;
#[cfg(feature = "local")]
mod local;
mod memory;
#[cfg(any(feature = "csv", feature = "parquet", feature = "ipc"))]
mod names;
mod partition;
mod root;
#[cfg(any(feature = "jsonl", feature = "csv"))]
mod rows;
#[cfg(any(feature = "jsonl", feature = "csv"))]
mod schema;
mod selection;
mod sink;
#[cfg(any(feature = "parquet", feature = "ipc"))]
mod stream;
mod task;
mod temporaries;
#[cfg(any(feature = "jsonl", feature = "csv"))]
mod text;
mod upload;
mod version;

pub use self::client::ObjectClient;
pub use self::format::bytes::Bytes;
#[cfg(feature = "csv")]
pub use self::format::csv::Csv;
#[cfg(feature = "ipc")]
pub use self::format::ipc::Ipc;
#[cfg(feature = "jsonl")]
pub use self::format::json::Json;
#[cfg(feature = "jsonl")]
pub use self::format::jsonl::Jsonl;
#[cfg(feature = "parquet")]
pub use self::format::parquet::Parquet;
pub use self::format::text::Text;
#[cfg(feature = "local")]
pub use self::local::Local;
pub use self::memory::Memory;
#[cfg(any(feature = "jsonl", feature = "csv"))]
pub use self::schema::{ColumnType, Drift, SchemaColumn};
pub use self::sink::OnExisting;
pub use self::sink::bytes::BytesSink;
#[cfg(feature = "csv")]
pub use self::sink::csv::CsvSink;
#[cfg(feature = "ipc")]
pub use self::sink::ipc::IpcSink;
#[cfg(feature = "jsonl")]
pub use self::sink::jsonl::JsonlSink;
#[cfg(feature = "parquet")]
pub use self::sink::parquet::{ParquetCompression, ParquetSink};
pub use self::sink::text::TextSink;

/// Returns every type of connection, source and sink of this plugin.
#[must_use]
pub fn plugin() -> nvisy_core::Plugin {
    let plugin = nvisy_core::Plugin::new("object");
    let plugin = plugin
        .connection::<Memory>()
        .source::<Text>()
        .source::<Bytes>()
        .sink::<TextSink>()
        .sink::<BytesSink>();
    #[cfg(feature = "local")]
    let plugin = plugin.connection::<Local>();
    #[cfg(feature = "jsonl")]
    let plugin = plugin.source::<Jsonl>().source::<Json>().sink::<JsonlSink>();
    #[cfg(feature = "csv")]
    let plugin = plugin.source::<Csv>().sink::<CsvSink>();
    #[cfg(feature = "parquet")]
    let plugin = plugin.source::<Parquet>().sink::<ParquetSink>();
    #[cfg(feature = "ipc")]
    let plugin = plugin.source::<Ipc>().sink::<IpcSink>();
    plugin
}
