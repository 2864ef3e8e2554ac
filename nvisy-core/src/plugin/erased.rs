//! Connections, sources, actions and sinks behind one shape each, for the engine:
//! implemented once, here.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};

use crate::action::{Action, ActionConfig, Calls};
use crate::batch::{Batch, BatchLimits};
use crate::connection::{Client, ConnectContext, Connection, NoClient, Reach};
use crate::context::{Context, OpenContext, ReadContext};
use crate::error::{Error, Result};
use crate::id::SourceIdentity;
use crate::position::{Partition, Position};
use crate::primitive::{Kind, Kinds};
use crate::replace::ReplaceSet;
use crate::secret::SecretRef;
use crate::sink::{Guarantee, Sink, SinkConfig, Staging, WriteReport};
use crate::source::{Increments, Source, SourceBatch};
use crate::spill::Spill;

/// A client of any type.
#[derive(Clone)]
pub struct AnyClient(Arc<dyn Any + Send + Sync>);

impl AnyClient {
    /// Forgets the type of a client.
    #[must_use]
    pub fn new<C: Client>(client: C) -> Self {
        Self(Arc::new(client))
    }

    /// The client of nodes that need no connection.
    #[must_use]
    pub fn none() -> Self {
        Self::new(NoClient)
    }

    fn typed<C: Client>(&self) -> Result<Arc<C>> {
        self.0.clone().downcast().map_err(|_| {
            Error::configuration(format!("the node needs a connection of the family {}", C::FAMILY))
        })
    }
}

impl fmt::Debug for AnyClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyClient")
    }
}

/// A [`Connection`] of any type.
pub trait ErasedConnection: fmt::Debug + Send + Sync {
    /// See [`Connection::secrets`].
    fn secrets(&self) -> Vec<SecretRef>;
    /// See [`Connection::reach`].
    fn reach(&self) -> Vec<Reach>;
    /// See [`Connection::is_local`].
    fn is_local(&self) -> bool;
    /// See [`Connection::connect`].
    fn connect<'a>(&'a self, context: &'a ConnectContext) -> BoxFuture<'a, Result<AnyClient>>;
    /// See [`Connection::verify`].
    fn verify<'a>(&'a self, client: &'a AnyClient) -> BoxFuture<'a, Result<()>>;
    /// See [`Connection::disconnect`].
    fn disconnect<'a>(&'a self, client: &'a AnyClient) -> BoxFuture<'a, Result<()>>;
}

impl<C: Connection> ErasedConnection for C {
    fn secrets(&self) -> Vec<SecretRef> {
        Connection::secrets(self)
    }

    fn reach(&self) -> Vec<Reach> {
        Connection::reach(self)
    }

    fn is_local(&self) -> bool {
        Connection::is_local(self)
    }

    fn connect<'a>(&'a self, context: &'a ConnectContext) -> BoxFuture<'a, Result<AnyClient>> {
        Box::pin(async move { Ok(AnyClient::new(Connection::connect(self, context).await?)) })
    }

    fn verify<'a>(&'a self, client: &'a AnyClient) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { Connection::verify(self, &*client.typed::<C::Client>()?).await })
    }

    fn disconnect<'a>(&'a self, client: &'a AnyClient) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { Connection::disconnect(self, &*client.typed::<C::Client>()?).await })
    }
}

/// A [`Source`] of any type.
pub trait ErasedSource: fmt::Debug + Send + Sync {
    /// See [`Source::output_kinds`].
    fn output_kinds(&self) -> Kinds;
    /// See [`Source::identity`].
    fn identity(&self, client: &AnyClient) -> Result<SourceIdentity>;
    /// See [`Source::partitions`].
    fn partitions<'a>(
        &'a self,
        context: Context,
        client: &'a AnyClient,
    ) -> BoxFuture<'a, Result<Vec<Partition>>>;
    /// See [`Source::increments`].
    fn increments(&self) -> Result<Increments, &'static str>;
    /// See [`Source::unchanged`].
    fn unchanged<'a>(
        &'a self,
        partitions: &'a [(Partition, Arc<str>)],
        context: Context,
        client: &'a AnyClient,
    ) -> BoxFuture<'a, Result<Vec<bool>>>;
    /// See [`Source::read`].
    fn read(
        self: Arc<Self>,
        partition: Partition,
        after: Option<Position>,
        context: Context,
        client: AnyClient,
        limits: BatchLimits,
    ) -> BoxStream<'static, Result<SourceBatch>>;
}

impl<S: Source> ErasedSource for S {
    fn output_kinds(&self) -> Kinds {
        Source::output_kinds(self)
    }

    fn identity(&self, client: &AnyClient) -> Result<SourceIdentity> {
        Ok(Source::identity(self, &*client.typed::<S::Client>()?))
    }

    fn partitions<'a>(
        &'a self,
        context: Context,
        client: &'a AnyClient,
    ) -> BoxFuture<'a, Result<Vec<Partition>>> {
        Box::pin(async move { Source::partitions(self, &OpenContext::new(context, client.typed()?)).await })
    }

    fn increments(&self) -> Result<Increments, &'static str> {
        Source::increments(self)
    }

    fn unchanged<'a>(
        &'a self,
        partitions: &'a [(Partition, Arc<str>)],
        context: Context,
        client: &'a AnyClient,
    ) -> BoxFuture<'a, Result<Vec<bool>>> {
        Box::pin(async move {
            Source::unchanged(self, partitions, &OpenContext::new(context, client.typed()?)).await
        })
    }

    fn read(
        self: Arc<Self>,
        partition: Partition,
        after: Option<Position>,
        context: Context,
        client: AnyClient,
        limits: BatchLimits,
    ) -> BoxStream<'static, Result<SourceBatch>> {
        async_stream::try_stream! {
            let client = client.typed::<S::Client>()?;
            let identity = Source::identity(&*self, &client);
            let context = ReadContext::new(OpenContext::new(context, client), identity, limits);
            let stream = Source::read(&*self, &partition, after, &context);
            let mut stream = std::pin::pin!(stream);
            while let Some(batch) = stream.next().await {
                yield batch?;
            }
        }
        .boxed()
    }
}

/// An [`ActionConfig`] of any type.
pub trait ErasedActionConfig: fmt::Debug + Send + Sync {
    /// The kinds of [`ActionConfig::Input`], of which a config may narrow
    /// [`input_kinds`](Self::input_kinds) by what it reads.
    fn type_kinds(&self) -> Kinds;
    /// See [`ActionConfig::input_kinds`].
    fn input_kinds(&self) -> Kinds;
    /// See [`ActionConfig::output_kinds`].
    fn output_kinds(&self, input: Kinds) -> Kinds;
    /// See [`ActionConfig::calls`].
    fn calls(&self) -> Calls;
    /// See [`ActionConfig::version`].
    fn version(&self) -> &'static str;
    /// See [`ActionConfig::optimum`].
    fn optimum(&self) -> Option<BatchLimits>;
    /// See [`ActionConfig::inputs`].
    fn inputs(&self) -> usize;
    /// See [`ActionConfig::is_columnar`].
    fn is_columnar(&self) -> bool;
    /// See [`ActionConfig::build`].
    fn build<'a>(
        &'a self,
        context: Context,
        client: &'a AnyClient,
        spill: Spill,
    ) -> BoxFuture<'a, Result<Action>>;
}

impl<A: ActionConfig> ErasedActionConfig for A {
    fn inputs(&self) -> usize {
        ActionConfig::inputs(self)
    }

    fn type_kinds(&self) -> Kinds {
        A::Input::KINDS
    }

    fn input_kinds(&self) -> Kinds {
        ActionConfig::input_kinds(self)
    }

    fn output_kinds(&self, input: Kinds) -> Kinds {
        ActionConfig::output_kinds(self, input)
    }

    fn calls(&self) -> Calls {
        ActionConfig::calls(self)
    }

    fn version(&self) -> &'static str {
        ActionConfig::version(self)
    }

    fn optimum(&self) -> Option<BatchLimits> {
        ActionConfig::optimum(self)
    }

    fn is_columnar(&self) -> bool {
        ActionConfig::is_columnar(self)
    }

    fn build<'a>(
        &'a self,
        context: Context,
        client: &'a AnyClient,
        spill: Spill,
    ) -> BoxFuture<'a, Result<Action>> {
        Box::pin(async move {
            let context = OpenContext::new(context, client.typed()?).with_spill(spill);
            ActionConfig::build(self, &context).await
        })
    }
}

/// A [`SinkConfig`] of any type.
pub trait ErasedSinkConfig: fmt::Debug + Send + Sync {
    /// See [`SinkConfig::input_kinds`].
    fn input_kinds(&self) -> Kinds;
    /// See [`SinkConfig::guarantee`].
    fn guarantee(&self) -> Guarantee;
    /// See [`SinkConfig::replayed`].
    fn replayed(&self) -> Option<String>;
    /// See [`SinkConfig::optimum`].
    fn optimum(&self) -> BatchLimits;
    /// See [`SinkConfig::concurrency`].
    fn concurrency(&self) -> usize;
    /// See [`SinkConfig::buffers`].
    fn buffers(&self) -> bool;
    /// See [`SinkConfig::stages`].
    fn stages(&self) -> bool;
    /// See [`SinkConfig::remembers`].
    fn remembers(&self) -> bool;
    /// See [`SinkConfig::replaces`].
    fn replaces(&self) -> bool;
    /// See [`SinkConfig::open`].
    fn open<'a>(
        &'a self,
        context: Context,
        client: &'a AnyClient,
        staging: Staging,
    ) -> BoxFuture<'a, Result<Arc<dyn ErasedSink>>>;
}

impl<S: SinkConfig> ErasedSinkConfig for S {
    fn input_kinds(&self) -> Kinds {
        debug_assert!(Kinds::ANY.contains_all(S::Input::KINDS));
        SinkConfig::input_kinds(self)
    }

    fn guarantee(&self) -> Guarantee {
        SinkConfig::guarantee(self)
    }

    fn replayed(&self) -> Option<String> {
        SinkConfig::replayed(self)
    }

    fn optimum(&self) -> BatchLimits {
        SinkConfig::optimum(self)
    }

    fn concurrency(&self) -> usize {
        SinkConfig::concurrency(self).max(1)
    }

    fn buffers(&self) -> bool {
        SinkConfig::buffers(self)
    }

    fn stages(&self) -> bool {
        SinkConfig::stages(self)
    }

    fn remembers(&self) -> bool {
        SinkConfig::remembers(self)
    }

    fn replaces(&self) -> bool {
        SinkConfig::replaces(self)
    }

    fn open<'a>(
        &'a self,
        context: Context,
        client: &'a AnyClient,
        staging: Staging,
    ) -> BoxFuture<'a, Result<Arc<dyn ErasedSink>>> {
        Box::pin(async move {
            let context = OpenContext::new(context, client.typed()?).with_staging(staging);
            let sink = SinkConfig::open(self, &context).await?;
            Ok(Arc::new(sink) as Arc<dyn ErasedSink>)
        })
    }
}

/// A [`Sink`] of any type.
pub trait ErasedSink: Send + Sync {
    /// See [`Sink::write`].
    fn write<'a>(&'a self, batch: &'a Batch, context: &'a Context) -> BoxFuture<'a, Result<WriteReport>>;
    /// See [`Sink::flush`].
    fn flush<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<()>>;
    /// See [`Sink::stage`].
    fn stage<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Option<Bytes>>>;
    /// See [`Sink::publish`].
    fn publish<'a>(&'a self, staged: &'a Bytes, context: &'a Context) -> BoxFuture<'a, Result<()>>;
    /// See [`Sink::replace`].
    fn replace<'a>(&'a self, sets: &'a [ReplaceSet], context: &'a Context) -> BoxFuture<'a, Result<u64>>;
    /// See [`Sink::close`].
    fn close<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<()>>;
}

impl<S: Sink> ErasedSink for S {
    fn write<'a>(&'a self, batch: &'a Batch, context: &'a Context) -> BoxFuture<'a, Result<WriteReport>> {
        Box::pin(Sink::write(self, batch, context))
    }

    fn flush<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<()>> {
        Box::pin(Sink::flush(self, context))
    }

    fn stage<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(Sink::stage(self, context))
    }

    fn publish<'a>(&'a self, staged: &'a Bytes, context: &'a Context) -> BoxFuture<'a, Result<()>> {
        Box::pin(Sink::publish(self, staged, context))
    }

    fn replace<'a>(&'a self, sets: &'a [ReplaceSet], context: &'a Context) -> BoxFuture<'a, Result<u64>> {
        Box::pin(Sink::replace(self, sets, context))
    }

    fn close<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<()>> {
        Box::pin(Sink::close(self, context))
    }
}
