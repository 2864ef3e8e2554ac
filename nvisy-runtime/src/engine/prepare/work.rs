//! The work of each node of a run: what it reads with, calls, remembers in and writes to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use nvisy_core::plugin::{AnyClient, ErasedSinkConfig, ErasedSource};
use nvisy_core::{Action, Calls, Error, Guarantee, Result, Spill, Staging};
use tokio_util::sync::CancellationToken;

use super::{Builder, Sources};
use crate::actions::buffer::Buffer;
use crate::compiler::plan::{PlanNode, Work};
use crate::engine::call::Caller;
use crate::engine::checkpoint::{Journal, Memory, Recalling, Replacing, Stage};
use crate::engine::gather::Gatherer;
use crate::engine::ledger::Counter;
use crate::engine::node::{Buffering, Built, Remembering};
use crate::engine::source::SourceWork;
use crate::expression::Expression;
use crate::graph::policy::SpillPolicy;

impl Builder<'_> {
    /// Returns the work of a node.
    pub(super) async fn work(
        &mut self,
        index: usize,
        node: &PlanNode,
        client: &AnyClient,
        sources: &mut Sources,
    ) -> Result<Built> {
        let context = self.context(index, node);
        let caller = self.caller(index, node, &context);
        Ok(match &node.work {
            Work::Source { config, key } => self.reading(index, node, (config, key), client, sources)?,
            Work::Action(config) => {
                // Building is no call: it takes no permit, and counts for no limit.
                let spill = self.spill(node)?;
                let built = caller.bounded(config.build(context, client, spill.clone())).await;
                let action = built.map_err(|error| caller.final_error(error, 1))?;
                self.refuse_idle(node, &action)?;
                self.refuse_mixing(index, node, &action)?;
                let caller = Caller { memo: self.memo(index, node, config.version())?, ..caller };
                self.acting(index, node, action, spill, caller).await?
            }
            Work::Function(action) => {
                self.refuse_mixing(index, node, action)?;
                let caller = Caller { calls: Calls::None, ..caller };
                self.acting(index, node, action.clone(), Spill::temporary(), caller).await?
            }
            Work::Sink(config) => self.writing(index, node, config, client).await?,
            Work::Branch { routes, default } => {
                let routes = routes.iter().map(|(_, when)| when.clone()).collect();
                Built::Branch { routes, default: default.is_some() }
            }
            Work::FanOut { .. } => Built::FanOut,
            Work::FanIn => Built::FanIn,
            Work::Spill(policy) => self.buffering(index, node, *policy).await?,
        })
    }

    /// Returns the work of a source.
    fn reading(
        &mut self,
        index: usize,
        node: &PlanNode,
        (config, key): (&Arc<dyn ErasedSource>, &Option<Expression>),
        client: &AnyClient,
        sources: &mut Sources,
    ) -> Result<Built> {
        let context = self.context(index, node);
        let caller = self.caller(index, node, &context);
        let tracker = self.tracker();
        let stop = self.drain.child_token();
        sources.push((index, tracker.clone(), stop.clone()));
        let identity = config.identity(client)?;
        if let Some(journal) = &mut self.journal {
            journal.reads(&node.name, &identity);
        }
        let feed = match (&mut self.journal, node.incremental) {
            (Some(journal), Some(increments)) => {
                Some(journal.feed((index, &node.name), identity.clone(), increments))
            }
            _ => None,
        };
        Ok(Built::Source(Box::new(SourceWork {
            config: config.clone(),
            key: key.clone(),
            identity,
            client: client.clone(),
            context,
            limits: node.limits,
            concurrency: node.concurrency.max(1),
            caller,
            tracker,
            stop,
            drain: self.drain.clone(),
            cursors: self.journal.as_mut().map(|journal| journal.cursors(&node.name)).unwrap_or_default(),
            phase: self.phase.clone(),
            asks: self.asks(),
            span: self.span(),
            careful: self.journal.as_ref().map(Journal::careful),
            feed,
            remembered: false,
            paused: Counter::default(),
            complete: self.journal.as_ref().is_some_and(|journal| journal.is_complete(&node.name)),
            allow_empty: node.allow_empty,
            is_accepted: self.accepted.iter().any(|accepted| **accepted == *node.name),
            places: Mutex::default(),
        })))
    }

    /// Returns the work of a built action.
    async fn acting(
        &mut self,
        index: usize,
        node: &PlanNode,
        action: Action,
        spill: Spill,
        caller: Caller,
    ) -> Result<Built> {
        let gather = Gatherer::new(node.limits, node.gather);
        let Action::Stateful(make) = action else {
            return Ok(Built::Action { action, caller, gather, concurrency: node.concurrency.max(1) });
        };
        let stop = self.drain.child_token();
        let memory = Arc::new(Memory::new(
            node.name.clone(),
            make(),
            self.tracker(),
            stop,
            spill,
            self.required[index],
        ));
        if let Some(journal) = &self.journal {
            memory.restore(journal.state(&node.name)).await?;
        }
        self.memories.push((index, memory.clone()));
        let work = Remembering {
            memory,
            caller,
            asks: self.asks(),
            phase: self.phase.clone(),
            drain: self.drain.clone(),
            kept: self.journal.is_some(),
        };
        Ok(Built::Stateful { work: Box::new(work), gather })
    }

    /// Returns the work of the buffer of a fan-out's reader.
    async fn buffering(&mut self, index: usize, node: &PlanNode, policy: SpillPolicy) -> Result<Built> {
        let (spill, tracker, kept) = (self.spill(node)?, self.tracker(), self.journal.is_some());
        let (lags, done) = (Arc::new(AtomicBool::new(false)), tracker.clone());
        let known = lags.clone();
        let done = move || known.load(Ordering::Relaxed).then(|| done.committed_items());
        let buffer = Buffer::new(spill.clone(), policy, Arc::new(done));
        // Without a state all of it goes on when the run is drained.
        let stop = if kept { self.drain.child_token() } else { CancellationToken::new() };
        let Action::Stateful(make) = Action::stateful({
            let buffer = buffer.clone();
            move || buffer.clone()
        }) else {
            return Err(Error::internal("a buffer is an action with memory"));
        };
        let memory = Memory::new(node.name.clone(), make(), tracker, stop, spill, self.required[index]);
        let memory = Arc::new(memory.lagging(lags));
        if let Some(journal) = &self.journal {
            memory.restore(journal.state(&node.name)).await?;
        }
        self.memories.push((index, memory.clone()));
        let (asks, phase, drain) = (self.asks(), self.phase.clone(), self.drain.clone());
        Ok(Built::Buffer(Box::new(Buffering { memory, buffer, asks, phase, drain, kept })))
    }

    /// Returns the work of a sink, which is open then.
    async fn writing(
        &mut self,
        index: usize,
        node: &PlanNode,
        config: &Arc<dyn ErasedSinkConfig>,
        client: &AnyClient,
    ) -> Result<Built> {
        let caller = self.caller(index, node, &self.context(index, node));
        let staging = match &self.journal {
            Some(journal) if config.stages() => journal.staging(&node.name),
            Some(_) if config.remembers() => Staging::Remember,
            _ => Staging::Off,
        };
        let remembers = staging == Staging::Remember;
        let open = |context| {
            let staging = staging.clone();
            async move { config.open(context, client, staging).await }
        };
        let sink = caller.plain(open).await?;
        let stage = match staging {
            Staging::Off | Staging::Remember => None,
            Staging::On(_) | Staging::Shown(_) => {
                let before = self.journal.as_ref().and_then(|journal| journal.staged(&node.name));
                let caller = self.caller(index, node, &self.context(index, node));
                let stage = Stage::new(node.name.clone(), sink.clone(), caller, before);
                Some(Arc::new(stage))
            }
        };
        self.stages.extend(stage.clone());
        if remembers {
            let caller = self.caller(index, node, &self.context(index, node));
            let (node, sink) = (node.name.clone(), sink.clone());
            self.recalling.push(Arc::new(Recalling { node, sink, caller }));
        }
        // What a source has left that is gone is deleted, too, though no other is incremental.
        let fed = self.journal.as_ref().is_some_and(Journal::has_fed);
        let follows = self.behind_versions[index];
        let replacing = ((follows || fed) && config.replaces()).then(|| {
            let caller = self.caller(index, node, &self.context(index, node));
            let required = self.required[index];
            let (node, sink, ended) = (node.name.clone(), sink.clone(), Default::default());
            Arc::new(Replacing { node, sink, caller, required, follows, ended })
        });
        if let (Some(journal), Some(replacing)) = (&mut self.journal, &replacing) {
            journal.replacing(replacing.clone());
        }
        let appends = config.guarantee() == Guarantee::Append && !remembers;
        // What is staged is durable when it has been, whatever the sink says of its writes.
        let buffers = config.buffers() || stage.is_some();
        let (letters, lineage) = (self.letters[index], self.lineage.clone());
        Ok(Built::Sink {
            sink,
            caller,
            gather: Gatherer::new(node.limits, node.gather),
            concurrency: node.concurrency.max(1),
            appends,
            buffers,
            letters,
            remembers,
            stage,
            replacing,
            lineage,
        })
    }
}
