//! The primitives, lineage, batches and traits of [Nvisy Runtime].
//!
//! | to know | read |
//! |---|---|
//! | what flows | [`Primitive`], [`Payload`], [`Lineage`], [`Batch`] |
//! | what moves it | [`Source`], [`Transform`] and the other forms of [`action`], [`SinkConfig`] and [`Sink`] |
//! | how it plugs in | [`Connection`], [`Plugin`] |
//! | how it fails, and goes on | [`Error`], [`Checkpoint`] |
//!
//! This crate starts no task, opens no socket and knows no driver.
//!
//! [Nvisy Runtime]: https://docs.rs/nvisy-runtime

pub mod primitive;

pub mod batch;
pub mod hash;
pub mod id;
pub mod lineage;
pub mod metadata;

pub mod action;
pub mod outcome;
pub mod position;
pub mod replace;
pub mod sink;
pub mod source;
pub mod stream;
pub mod token;

pub mod config;
pub mod connection;
pub mod context;
pub mod plugin;
pub mod secret;

pub mod checkpoint;
pub mod dead_letter;
pub mod error;
pub mod observability;
pub mod spill;

#[cfg(feature = "testing")]
pub mod testing;

/// The crate that rows are made of: whoever makes or takes a `RecordBatch` needs this very version.
pub use arrow;

pub use self::action::{Action, ActionConfig, BatchTransform, Calls, Columnar, Pipe, Stateful, Transform};
pub use self::batch::{Batch, BatchLimits};
pub use self::checkpoint::{Changes, Checkpoint, CheckpointStore, Checkpoints, Recovery};
pub use self::connection::{Client, ConnectContext, Connection, NoClient};
pub use self::context::{Context, OpenContext, ReadContext};
pub use self::dead_letter::DeadLetter;
pub use self::error::{Error, ErrorKind, Result, RetryClass};
pub use self::hash::ContentHash;
pub use self::id::{PrimitiveId, RunId, SourceIdentity};
pub use self::lineage::Lineage;
pub use self::metadata::Metadata;
pub use self::outcome::{Outcome, Outcomes};
pub use self::plugin::Plugin;
pub use self::position::{Partition, Position, Positions};
pub use self::primitive::{Any, Item, Kind, KindId, Kinds, Payload, Primitive};
pub use self::replace::{Origin, ReplaceSet};
pub use self::secret::{Secret, SecretRef};
pub use self::sink::{Guarantee, Sink, SinkConfig, Staging, WriteReport, WriteStatus};
pub use self::source::{Increments, Rejected, Source, SourceBatch};
pub use self::spill::Spill;

/// What authors of sources, actions and sinks need.
pub mod prelude {
    pub use crate::action::{
        Action, ActionConfig, BatchTransform, Calls, Columnar, Pipe, Stateful, Transform,
    };
    pub use crate::batch::{Batch, BatchLimits};
    pub use crate::checkpoint::{Changes, Entries};
    pub use crate::connection::{Client, ConnectContext, Connection, NoClient};
    pub use crate::context::{Context, OpenContext, ReadContext};
    pub use crate::error::{Error, ErrorKind, Result, RetryClass};
    pub use crate::id::{PrimitiveId, SourceIdentity};
    pub use crate::outcome::{Outcome, Outcomes};
    pub use crate::plugin::Plugin;
    pub use crate::position::{Partition, Position, Positions};
    pub use crate::primitive::{Any, Item, Kind, Payload, Primitive};
    pub use crate::replace::{Origin, ReplaceSet};
    pub use crate::secret::SecretRef;
    pub use crate::sink::{Guarantee, Sink, SinkConfig, Staging, WriteReport, WriteStatus};
    pub use crate::source::{Increments, Source, SourceBatch};
    pub use crate::stream::{ApplyExt, DrainExt};
}
