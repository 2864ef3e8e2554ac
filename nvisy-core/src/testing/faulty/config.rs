//! Faulty sources, actions and sinks as nodes of a graph.

use std::sync::Arc;

use futures::Stream;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::action::action;
use super::script::{Script, Site};
use super::sink::OpenFaultySink;
use super::source::faulty;
use crate::action::{Action, ActionConfig, Calls};
use crate::batch::BatchLimits;
use crate::config::Problem;
use crate::context::{OpenContext, ReadContext};
use crate::error::Result;
use crate::id::SourceIdentity;
use crate::position::{Partition, Position};
use crate::primitive::{Kind, Kinds};
use crate::sink::{Guarantee, SinkConfig};
use crate::source::{Increments, Source, SourceBatch};

macro_rules! wrapper {
    ($(#[$doc:meta])* $name:ident, $field:ident: $bound:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, bound(deserialize = "T: DeserializeOwned"))]
        pub struct $name<T> {
            /// The name of the script of faults.
            script: String,
            /// What meets them.
            $field: T,
        }

        impl<T: $bound> $name<T> {
            /// Lets the calls meet the faults of the script of that name.
            #[must_use]
            pub fn new(script: impl Into<String>, $field: T) -> Self {
                Self { script: script.into(), $field }
            }

            /// Returns the script.
            #[must_use]
            pub fn script(&self) -> Script {
                Script::named(&self.script)
            }
        }
    };
}

/// Puts problems where they are: in a field of the wrapper.
fn within(field: &str, problems: Vec<Problem>) -> Vec<Problem> {
    let within = |problem: Problem| {
        let path = match problem.path.as_str() {
            "" => field.to_owned(),
            path => format!("{field}.{path}"),
        };
        Problem { path, ..problem }
    };
    problems.into_iter().map(within).collect()
}

wrapper! {
    /// A source whose calls meet the faults of a [`Script`]: `faulty/source`, over
    /// `{"script": "name", "source": {..}}`.
    FaultySource, source: Source
}

wrapper! {
    /// An action whose calls meet the faults of a [`Script`]: `faulty/action`, over
    /// `{"script": "name", "action": {..}}`.
    FaultyAction, action: ActionConfig
}

wrapper! {
    /// A sink whose calls meet the faults of a [`Script`]: `faulty/sink`, over
    /// `{"script": "name", "sink": {..}}`.
    FaultySink, sink: SinkConfig
}

impl<T: Source> Source for FaultySource<T> {
    const NAME: &'static str = "faulty/source";
    type Output = T::Output;
    type Client = T::Client;

    fn identity(&self, client: &T::Client) -> SourceIdentity {
        self.source.identity(client)
    }

    fn output_kinds(&self) -> Kinds {
        self.source.output_kinds()
    }

    fn validate(&self) -> Vec<Problem> {
        within("source", self.source.validate())
    }

    async fn partitions(&self, context: &OpenContext<T::Client>) -> Result<Vec<Partition>> {
        self.script().around(Site::Partitions, self.source.partitions(context)).await
    }

    fn increments(&self) -> Result<Increments, &'static str> {
        self.source.increments()
    }

    async fn unchanged(
        &self,
        partitions: &[(Partition, Arc<str>)],
        context: &OpenContext<T::Client>,
    ) -> Result<Vec<bool>> {
        self.source.unchanged(partitions, context).await
    }

    fn read(
        &self,
        partition: &Partition,
        after: Option<Position>,
        context: &ReadContext<T::Client>,
    ) -> impl Stream<Item = Result<SourceBatch>> + Send {
        faulty(self.source.read(partition, after, context), self.script())
    }
}

impl<T: ActionConfig> ActionConfig for FaultyAction<T> {
    const NAME: &'static str = "faulty/action";
    type Input = T::Input;
    type Output<In: Kind> = T::Output<In>;
    type Client = T::Client;

    fn input_kinds(&self) -> Kinds {
        self.action.input_kinds()
    }

    fn output_kinds(&self, input: Kinds) -> Kinds {
        self.action.output_kinds(input)
    }

    fn calls(&self) -> Calls {
        self.action.calls()
    }

    fn version(&self) -> &'static str {
        self.action.version()
    }

    fn optimum(&self) -> Option<BatchLimits> {
        self.action.optimum()
    }

    fn is_columnar(&self) -> bool {
        self.action.is_columnar()
    }

    fn validate(&self) -> Vec<Problem> {
        within("action", self.action.validate())
    }

    async fn build(&self, context: &OpenContext<T::Client>) -> Result<Action> {
        let script = self.script();
        let built = script.around(Site::Build, self.action.build(context)).await?;
        Ok(action(built, &script))
    }
}

impl<T: SinkConfig> SinkConfig for FaultySink<T> {
    const NAME: &'static str = "faulty/sink";
    type Input = T::Input;
    type Client = T::Client;
    type Sink = OpenFaultySink;

    fn input_kinds(&self) -> Kinds {
        self.sink.input_kinds()
    }

    fn guarantee(&self) -> Guarantee {
        self.sink.guarantee()
    }

    fn replayed(&self) -> Option<String> {
        self.sink.replayed()
    }

    fn optimum(&self) -> BatchLimits {
        self.sink.optimum()
    }

    fn concurrency(&self) -> usize {
        self.sink.concurrency()
    }

    fn buffers(&self) -> bool {
        self.sink.buffers()
    }

    fn stages(&self) -> bool {
        self.sink.stages()
    }

    fn remembers(&self) -> bool {
        self.sink.remembers()
    }

    fn replaces(&self) -> bool {
        self.sink.replaces()
    }

    fn validate(&self) -> Vec<Problem> {
        within("sink", self.sink.validate())
    }

    async fn open(&self, context: &OpenContext<T::Client>) -> Result<OpenFaultySink> {
        let script = self.script();
        let sink = script.around(Site::Open, self.sink.open(context)).await?;
        Ok(OpenFaultySink::new(sink, script))
    }
}
