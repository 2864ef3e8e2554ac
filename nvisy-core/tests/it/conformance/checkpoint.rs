//! A store that keeps the contract passes; each way to break it is caught.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;
use nvisy_core::prelude::*;
use nvisy_core::testing::conformance::{self, CHECKPOINT_RULES};
use nvisy_core::{Changes, Checkpoint, CheckpointStore, Checkpoints};

/// What is wrong with a [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    Nothing,
    BeginsAtOne,
    ShowsTheOld,
    ForgetsTheLast,
    KeepsWhatIsRemoved,
    SkipsWhatIsEmpty,
    FoldsGraphs,
    FoldsKeys,
    CutsValues,
    CutsKeys,
    TiresOfCommits,
    OverwritesTheOther,
    TearsCommits,
    CommitsWhenPeekedAt,
}

#[derive(Clone, Debug)]
struct Store {
    flaw: Flaw,
    graphs: Arc<Mutex<HashMap<String, Checkpoint>>>,
}

#[derive(Debug)]
struct Open {
    store: Store,
    graph: String,
    last: Checkpoint,
}

impl CheckpointStore for Store {
    fn open<'a>(&'a self, graph: &'a str) -> BoxFuture<'a, Result<Box<dyn Checkpoints>>> {
        let graph = if self.flaw == Flaw::FoldsGraphs { graph.to_lowercase() } else { graph.to_owned() };
        let mut last = self.graphs.lock().unwrap().get(&graph).cloned().unwrap_or_default();
        if self.flaw == Flaw::BeginsAtOne {
            last.generation = last.generation.max(1);
        }
        async { Ok(Box::new(Open { store: self.clone(), graph, last }) as Box<dyn Checkpoints>) }.boxed()
    }

    fn peek<'a>(&'a self, graph: &'a str) -> BoxFuture<'a, Result<Option<Checkpoint>>> {
        async move {
            let mut open = self.open(graph).await?;
            let last = Some(open.last().clone()).filter(|last| last.generation > 0);
            if self.flaw == Flaw::CommitsWhenPeekedAt {
                open.commit(Changes::default()).await?;
            }
            Ok(last)
        }
        .boxed()
    }
}

impl Open {
    /// The changes as the flaw has them.
    fn flawed(&self, changes: &Changes) -> Changes {
        let all = changes.iter().map(|(key, value)| (key.to_owned(), value.cloned()));
        match self.store.flaw {
            Flaw::KeepsWhatIsRemoved => all.filter(|(_, value)| value.is_some()).collect(),
            Flaw::FoldsKeys => all.map(|(key, value)| (key.replace('\0', ""), value)).collect(),
            Flaw::CutsValues => all
                .map(|(key, value)| (key, value.map(|value| value.slice(..value.len().min(1 << 20)))))
                .collect(),
            Flaw::CutsKeys => all.take(5_000).collect(),
            Flaw::TiresOfCommits if self.last.generation >= 200 => Changes::default(),
            _ => all.collect(),
        }
    }
}

impl Checkpoints for Open {
    fn last(&self) -> &Checkpoint {
        &self.last
    }

    fn commit(&mut self, changes: Changes) -> BoxFuture<'_, Result<u64>> {
        async move {
            let mut next = self.last.clone();
            next.apply(self.flawed(&changes));
            if changes.is_empty() && self.store.flaw == Flaw::SkipsWhatIsEmpty {
                return Ok(self.last.generation);
            }
            let torn = Checkpoint { generation: next.generation, ..self.last.clone() };
            let steps = match self.store.flaw {
                Flaw::TearsCommits => vec![torn, next.clone()],
                Flaw::ForgetsTheLast => vec![self.last.clone()],
                _ => vec![next.clone()],
            };
            for (step, state) in steps.into_iter().enumerate() {
                if step > 0 {
                    tokio::task::yield_now().await;
                }
                let mut graphs = self.store.graphs.lock().unwrap();
                let kept = graphs.entry(self.graph.clone()).or_default();
                let expected = self.last.generation + step as u64;
                if kept.generation != expected && self.store.flaw != Flaw::OverwritesTheOther {
                    let message = "somebody else has committed";
                    return Err(Error::new(ErrorKind::Conflict, message));
                }
                *kept = state;
            }
            if self.store.flaw != Flaw::ShowsTheOld {
                self.last = next.clone();
            }
            Ok(next.generation)
        }
        .boxed()
    }
}

fn store(flaw: Flaw) -> Store {
    Store { flaw, graphs: Arc::default() }
}

#[tokio::test]
async fn a_store_that_keeps_the_contract_passes() {
    conformance::checkpoints(&store(Flaw::Nothing)).await.assert_passed_except(&[]);
}

#[tokio::test]
async fn every_flaw_of_a_store_is_caught_by_the_rule_for_it() {
    let flaws = [
        Flaw::BeginsAtOne,
        Flaw::ShowsTheOld,
        Flaw::ForgetsTheLast,
        Flaw::KeepsWhatIsRemoved,
        Flaw::SkipsWhatIsEmpty,
        Flaw::FoldsGraphs,
        Flaw::FoldsKeys,
        Flaw::CutsValues,
        Flaw::CutsKeys,
        Flaw::TiresOfCommits,
        Flaw::OverwritesTheOther,
        Flaw::TearsCommits,
        Flaw::CommitsWhenPeekedAt,
    ];
    for (flaw, rule) in flaws.into_iter().zip(CHECKPOINT_RULES) {
        let report = conformance::checkpoints(&store(flaw)).await;
        assert!(report.failed().contains(&rule), "{flaw:?} breaks {rule}\n{report}");
    }
}
