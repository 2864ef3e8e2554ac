//! What the tests of the engine stand on: graphs as JSON, and connections, sources, actions
//! and sinks whose work is a closure of the test.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use nvisy_core::connection::Reach;
use nvisy_core::prelude::*;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::testing::faulty::Script;
use nvisy_core::testing::memory::{Form, MemoryStore};
use nvisy_core::{Secret, testing};
use nvisy_runtime::Engine;
use nvisy_runtime::checkpoint::DirectoryStore;
use nvisy_runtime::engine::{NodeReport, RunReport, RunState};
use nvisy_runtime::graph::Graph;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// No run here takes longer: of virtual time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// A name that no other test uses.
pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{name} #{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// An engine that knows everything in here.
pub(crate) fn engine() -> Engine {
    builder().build().unwrap()
}

pub(crate) fn builder() -> nvisy_runtime::engine::EngineBuilder {
    Engine::builder()
        .plugin(&testing::plugin())
        .connection::<Far>()
        .source::<Scripted>()
        .action::<Act<NoClient>>()
        .action::<Act<FarClient>>()
        .sink::<Written>()
}

/// A graph of nodes, each under its name.
pub(crate) fn graph(nodes: Value) -> Graph {
    document(json!({ "nodes": nodes }))
}

/// A graph from everything but its version and name.
pub(crate) fn document(mut document: Value) -> Graph {
    document["version"] = json!(1);
    document["name"] = json!("test");
    Graph::from_json(&document.to_string()).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a graph of nodes.
pub(crate) async fn run(nodes: Value) -> RunReport {
    run_graph(&graph(nodes)).await
}

pub(crate) async fn run_graph(graph: &Graph) -> RunReport {
    run_on(&engine(), graph).await
}

pub(crate) async fn run_on(engine: &Engine, graph: &Graph) -> RunReport {
    let run = within(engine.start(graph)).await.unwrap_or_else(|error| panic!("{error:?}"));
    let mut snapshots = Box::pin(run.progress(PATIENCE));
    let Ok(report) = tokio::time::timeout(PATIENCE, run.wait()).await else {
        panic!("no progress in ten minutes: {:#?}", snapshots.next().await);
    };
    let report = report.unwrap_or_else(|error| panic!("{error:?}"));
    assert!(report.imbalances.is_empty(), "{report}");
    report
}

/// Returns where the run of a graph stands that has its state in a folder.
pub(crate) async fn state_of(folder: &Path, graph: &str) -> Option<RunState> {
    let checkpoint =
        DirectoryStore::new(folder).peek(graph).await.unwrap_or_else(|error| panic!("{error:?}"));
    checkpoint.map(|checkpoint| RunState::of(graph, &checkpoint).unwrap())
}

/// Whether an item is alone on its way that was when the process ended before: who kills again and
/// again then has it set aside in the end.
pub(crate) fn is_accused(state: &RunState) -> bool {
    state.begun.iter().any(|part| part.times > 0)
}

/// Waits, but not for ever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("no progress in ten minutes")
}

/// A source of the numbers below `n`, as raw items `{"n": ..}`.
pub(crate) fn numbers(n: u64) -> Value {
    let items: Vec<Value> = (0..n).map(|n| json!({ "n": n })).collect();
    json!({ "type": "source", "use": "memory/source", "config": { "items": items } })
}

/// A source of the numbers below `n`, so many in a batch.
pub(crate) fn batches(n: u64, of: usize) -> Value {
    with(numbers(n), json!({ "config": { "batch_items": of } }))
}

/// A memory sink that writes into a store of its own.
pub(crate) fn sink(store: &str, input: &str) -> Value {
    json!({ "type": "sink", "use": "memory/sink", "inputs": [input], "config": { "name": store } })
}

/// A value with fields more, recursively.
pub(crate) fn with(mut value: Value, more: Value) -> Value {
    fn merge(into: &mut Value, more: Value) {
        match (into, more) {
            (Value::Object(into), Value::Object(more)) => {
                for (key, value) in more {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
            (into, more) => *into = more,
        }
    }
    merge(&mut value, more);
    value
}

/// Lets go of what nodes have left in this process under names of their own: closures, scripts of
/// faults, and what sinks wrote. A test of many cases does so after each.
pub(crate) fn forget(nodes: &serde_json::Map<String, Value>) {
    for node in nodes.values() {
        let config = &node["config"];
        let named = |of: &Value, remove: fn(&str)| of.as_str().into_iter().for_each(remove);
        named(&config["work"], |work| WORKS.remove(work));
        named(&config["script"], Script::remove);
        named(&config["name"], MemoryStore::remove);
        named(&config["sink"]["name"], MemoryStore::remove);
    }
}

/// The numbers that a sink wrote, in order.
pub(crate) fn written(store: &str) -> Vec<u64> {
    let mut written: Vec<u64> =
        MemoryStore::named(store).plain().iter().filter_map(|item| item["n"].as_u64()).collect();
    written.sort_unstable();
    written
}

pub(crate) fn all(n: u64) -> Vec<u64> {
    (0..n).collect()
}

/// The number of an item.
pub(crate) fn n(item: &Item) -> u64 {
    number(item.primitive())
}

pub(crate) fn number(item: &Primitive) -> u64 {
    match item.payload() {
        Payload::Raw(raw) => raw.as_json().and_then(|json| json["n"].as_u64()).unwrap_or(u64::MAX),
        _ => u64::MAX,
    }
}

pub(crate) fn node<'a>(report: &'a RunReport, name: &str) -> &'a NodeReport {
    report.node(name).unwrap_or_else(|| panic!("there is no node {name}"))
}

/// How far the one partition of the one source is done with.
pub(crate) fn settled_items(report: &RunReport) -> u64 {
    report.partitions.iter().map(|partition| partition.items).sum()
}

/// Things under names, for closures that a graph cannot hold.
struct Shelf<T>(LazyLock<Mutex<HashMap<String, T>>>);

impl<T: Clone> Shelf<T> {
    const fn new() -> Self {
        Self(LazyLock::new(|| Mutex::new(HashMap::new())))
    }

    fn put(&self, kind: &str, thing: T) -> String {
        let name = unique(kind);
        self.0.lock().unwrap().insert(name.clone(), thing);
        name
    }

    fn remove(&self, name: &str) {
        self.0.lock().unwrap().remove(name);
    }

    fn get(&self, name: &str) -> T {
        self.0.lock().unwrap().get(name).cloned().unwrap_or_else(|| panic!("there is no {name}"))
    }
}

// --- actions ---

type Work = Arc<dyn Fn(Vec<Item>, Context) -> BoxFuture<'static, Result<Vec<Outcome>>> + Send + Sync>;

static WORKS: Shelf<Work> = Shelf::new();

/// An action whose work is a closure, in any form.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(bound = "")]
#[schemars(bound = "")]
pub(crate) struct Act<C> {
    work: String,
    #[serde(default)]
    form: Form,
    #[serde(default)]
    calls: Calls,
    #[serde(default)]
    items: Option<usize>,
    #[serde(default)]
    tokens: Option<u64>,
    #[serde(skip)]
    client: std::marker::PhantomData<fn() -> C>,
}

impl<C> Clone for Act<C> {
    fn clone(&self) -> Self {
        Self {
            work: self.work.clone(),
            form: self.form,
            calls: self.calls,
            items: self.items,
            tokens: self.tokens,
            client: self.client,
        }
    }
}

impl<C> fmt::Debug for Act<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Act").field("work", &self.work).finish_non_exhaustive()
    }
}

/// The node of an action that calls others and works on items through a closure.
pub(crate) fn act<F>(
    form: Form,
    input: &str,
    work: impl Fn(Vec<Item>, Context) -> F + Send + Sync + 'static,
) -> Value
where
    F: Future<Output = Result<Vec<Outcome>>> + Send + 'static,
{
    let name = WORKS.put("work", Arc::new(move |items, context| work(items, context).boxed()));
    json!({
        "type": "action", "use": "test/act", "inputs": [input],
        "config": { "work": name, "form": form, "calls": "idempotent" }
    })
}

/// The same over a connection that is named.
pub(crate) fn far_act<F>(
    connection: &str,
    form: Form,
    input: &str,
    work: impl Fn(Vec<Item>, Context) -> F + Send + Sync + 'static,
) -> Value
where
    F: Future<Output = Result<Vec<Outcome>>> + Send + 'static,
{
    with(act(form, input, work), json!({ "use": "test/far_act", "connection": connection }))
}

/// The node of an action whose closure says what becomes of one item.
pub(crate) fn each(
    form: Form,
    input: &str,
    work: impl Fn(Item) -> Result<Outcome> + Send + Sync + 'static,
) -> Value {
    act(form, input, move |items, _| {
        let outcomes = items.into_iter().map(|item| work(item).unwrap_or_else(Outcome::fail)).collect();
        async move { Ok(outcomes) }
    })
}

macro_rules! acts {
    ($($client:ty, $name:literal;)*) => {$(
        impl ActionConfig for Act<$client> {
            const NAME: &'static str = $name;
            type Input = Any;
            type Output<In: Kind> = In;
            type Client = $client;

            fn calls(&self) -> Calls {
                self.calls
            }

            fn optimum(&self) -> Option<BatchLimits> {
                let limits = self.items.map(BatchLimits::items);
                match (limits, self.tokens) {
                    (limits, Some(tokens)) => Some(limits.unwrap_or_default().with_tokens(tokens)),
                    (limits, None) => limits,
                }
            }

            async fn build(&self, _: &OpenContext<$client>) -> Result<Action> {
                let work = Working(WORKS.get(&self.work));
                Ok(match self.form {
                    Form::Transform => Action::transform(work),
                    Form::Batch => Action::batch(work),
                    Form::Columnar => Action::columnar(work),
                    Form::Stateful => Action::stateful(move || work.clone()),
                    Form::Pipe => Action::pipe(work),
                })
            }
        }
    )*};
}

acts! {
    NoClient, "test/act";
    FarClient, "test/far_act";
}

#[derive(Clone)]
struct Working(Work);

impl Working {
    async fn outcomes(&self, batch: &Batch, context: &Context) -> Result<Outcomes> {
        let items = batch.iter().map(|item| item.typed::<Any>()).collect::<Result<_>>()?;
        let outcomes = (self.0)(items, context.clone()).await?;
        if outcomes.len() == batch.len() {
            return Outcomes::collect(batch, &context.step(), outcomes);
        }
        // What a careless author would give back.
        Ok(Outcomes {
            emitted: Batch::from_primitives(Vec::new()),
            attribution: nvisy_core::outcome::Attribution::Each(Vec::new()),
            dropped: vec![("careless".into(), outcomes.len() as u64)],
            absorbed: 0,
            failed: Vec::new(),
        })
    }
}

impl Transform for Working {
    const NAME: &'static str = "test/act";
    type Input = Any;
    type Output = Any;

    async fn transform(&self, item: Item, context: &Context) -> Result<Outcome> {
        let mut outcomes = (self.0)(vec![item], context.clone()).await?;
        outcomes.pop().ok_or_else(|| Error::internal("no outcome"))
    }
}

impl BatchTransform for Working {
    type Input = Any;
    type Output = Any;

    async fn transform(&self, items: Vec<Item>, context: &Context) -> Result<Vec<Outcome>> {
        (self.0)(items, context.clone()).await
    }

    /// An item weighs its number.
    fn weigh(&self, item: &Item) -> u64 {
        n(item)
    }
}

impl Columnar for Working {
    async fn apply(&self, batch: Batch, context: &Context) -> Result<Outcomes> {
        self.outcomes(&batch, context).await
    }
}

impl Stateful for Working {
    async fn apply(&mut self, batch: Batch, _: usize, context: &Context) -> Result<Outcomes> {
        self.outcomes(&batch, context).await
    }

    async fn save(&mut self) -> Result<Changes> {
        Ok(Changes::default())
    }

    async fn restore(&mut self, _: Entries) -> Result<()> {
        Ok(())
    }
}

impl Pipe for Working {
    fn pipe<'a>(
        &'a self,
        input: BoxStream<'a, Batch>,
        context: &'a Context,
    ) -> impl Stream<Item = Result<Batch>> + Send + 'a {
        input.then(move |batch| async move {
            let outcomes = self.outcomes(&batch, context).await?;
            match outcomes.failed.into_iter().next() {
                Some((_, error)) => Err(error),
                None => Ok(outcomes.emitted),
            }
        })
    }
}

// --- sinks ---

type Write = Arc<dyn Fn(Vec<Primitive>) -> BoxFuture<'static, Result<WriteReport>> + Send + Sync>;

static WRITES: Shelf<Write> = Shelf::new();

/// A sink whose `write` is a closure.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Written {
    write: String,
    #[serde(default)]
    appends: bool,
    #[serde(default)]
    items: Option<usize>,
    #[serde(default)]
    concurrency: Option<usize>,
}

pub(crate) fn write<F>(input: &str, write: impl Fn(Vec<Primitive>) -> F + Send + Sync + 'static) -> Value
where
    F: Future<Output = Result<WriteReport>> + Send + 'static,
{
    let name = WRITES.put("write", Arc::new(move |items| write(items).boxed()));
    json!({ "type": "sink", "use": "test/sink", "inputs": [input], "config": { "write": name } })
}

impl SinkConfig for Written {
    const NAME: &'static str = "test/sink";
    type Input = Any;
    type Client = NoClient;
    type Sink = Writing;

    fn guarantee(&self) -> Guarantee {
        if self.appends { Guarantee::Append } else { Guarantee::Upsert }
    }

    fn optimum(&self) -> BatchLimits {
        self.items.map_or_else(BatchLimits::default, BatchLimits::items)
    }

    fn concurrency(&self) -> usize {
        self.concurrency.unwrap_or(1)
    }

    async fn open(&self, _: &OpenContext) -> Result<Writing> {
        Ok(Writing(WRITES.get(&self.write)))
    }
}

pub(crate) struct Writing(Write);

impl Sink for Writing {
    async fn write(&self, batch: &Batch, _: &Context) -> Result<WriteReport> {
        (self.0)(batch.iter().collect()).await
    }
}

// --- sources ---

/// What a scripted partition does next.
#[derive(Clone)]
pub(crate) enum Step {
    /// Gives a batch of these numbers.
    Give(std::ops::Range<u64>),
    /// Waits.
    Sleep(Duration),
    /// Fails so many times, then goes on.
    Fail(Arc<AtomicUsize>, Error),
    Panic,
    Hang,
}

impl Step {
    pub(crate) fn fail(times: usize, error: Error) -> Self {
        Self::Fail(Arc::new(AtomicUsize::new(times)), error)
    }
}

static SCRIPTS: Shelf<Arc<Vec<Vec<Step>>>> = Shelf::new();

/// A source whose partitions follow a script.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Scripted {
    script: String,
    /// How many items each partition claims to have.
    claims: Option<u64>,
}

pub(crate) fn scripted(partitions: Vec<Vec<Step>>) -> Value {
    let name = SCRIPTS.put("script", Arc::new(partitions));
    json!({ "type": "source", "use": "test/source", "config": { "script": name } })
}

impl Source for Scripted {
    const NAME: &'static str = "test/source";
    type Output = Raw;
    type Client = NoClient;

    fn identity(&self, _: &NoClient) -> SourceIdentity {
        SourceIdentity::new("test")
    }

    async fn partitions(&self, _: &OpenContext) -> Result<Vec<Partition>> {
        let script = SCRIPTS.get(&self.script);
        let partition = |n: usize| Partition { items: self.claims, ..Partition::new(n.to_string()) };
        Ok((0..script.len()).map(partition).collect())
    }

    fn read(
        &self,
        partition: &Partition,
        after: Option<Position>,
        context: &ReadContext,
    ) -> impl Stream<Item = Result<SourceBatch>> + Send {
        let steps = SCRIPTS.get(&self.script)[partition.id.parse::<usize>().unwrap()].clone();
        let done = match after {
            Some(Position::Offset(last)) => Some(last),
            _ => None,
        };
        async_stream::try_stream! {
            for step in steps {
                match step {
                    Step::Give(range) => {
                        let range = range.start.max(done.map_or(0, |done| done + 1))..range.end;
                        if !range.is_empty() {
                            let items = range.clone().map(|n| Raw::Json(json!({ "n": n })));
                            yield context.items(items, Positions::from(range.start), Position::Offset(range.end - 1))?;
                        }
                    }
                    Step::Sleep(time) => tokio::time::sleep(time).await,
                    Step::Fail(left, error) => {
                        if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                            Err(error)?;
                        }
                    }
                    Step::Panic => panic!("the source panics"),
                    Step::Hang => std::future::pending().await,
                }
            }
        }
    }
}

// --- connections ---

static LOGS: LazyLock<Mutex<HashMap<String, Vec<&'static str>>>> = LazyLock::new(Mutex::default);

/// A connection that writes down what happens to it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Far {
    log: String,
    #[serde(default)]
    token: Option<SecretRef>,
    /// What goes wrong: `connect`, `verify`, `disconnect`, `drop`, `hang`, `panic`.
    #[serde(default)]
    fault: String,
}

#[derive(Debug)]
pub(crate) struct FarClient {
    _token: Option<Secret>,
    panics: bool,
}

impl Drop for FarClient {
    fn drop(&mut self) {
        assert!(!self.panics, "the client panics when it is dropped");
    }
}

impl Client for FarClient {
    const FAMILY: &'static str = "far";
}

pub(crate) fn far(log: &str) -> Value {
    json!({ "use": "test/far", "config": { "log": log } })
}

/// What happened to a connection.
pub(crate) fn log(name: &str) -> Vec<&'static str> {
    LOGS.lock().unwrap().get(name).cloned().unwrap_or_default()
}

impl Far {
    fn note(&self, what: &'static str) {
        LOGS.lock().unwrap().entry(self.log.clone()).or_default().push(what);
    }
}

impl Connection for Far {
    const NAME: &'static str = "test/far";
    type Client = FarClient;

    fn secrets(&self) -> Vec<SecretRef> {
        self.token.iter().cloned().collect()
    }

    fn reach(&self) -> Vec<Reach> {
        Vec::new()
    }

    async fn connect(&self, context: &ConnectContext) -> Result<FarClient> {
        self.note("connect");
        match &*self.fault {
            "connect" => Err(Error::new(ErrorKind::Authentication, "go away")),
            "hang in connect" => std::future::pending().await,
            _ => {
                let token = self.token.as_ref().map(|token| context.secret(token)).transpose()?;
                Ok(FarClient { _token: token, panics: self.fault == "panic in drop" })
            }
        }
    }

    async fn verify(&self, _: &FarClient) -> Result<()> {
        self.note("verify");
        match &*self.fault {
            "verify" => Err(Error::new(ErrorKind::Permission, "not you")),
            "panic in verify" => panic!("no"),
            "hang in verify" => std::future::pending().await,
            _ => Ok(()),
        }
    }

    async fn disconnect(&self, _: &FarClient) -> Result<()> {
        self.note("disconnect");
        match &*self.fault {
            "disconnect" => Err(Error::new(ErrorKind::Connection, "gone already")),
            "panic in disconnect" => panic!("no"),
            "hang in disconnect" => std::future::pending().await,
            _ => Ok(()),
        }
    }
}
