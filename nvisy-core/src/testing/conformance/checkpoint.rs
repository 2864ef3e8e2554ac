//! The contract of a checkpoint store, rule by rule.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::examiner::{Examiner, Finding, Seen, failed};
use super::report::Report;
use crate::checkpoint::{Changes, Checkpoint, CheckpointStore, Checkpoints};
use crate::error::ErrorKind;

/// The rules that [`checkpoints`] checks, in order.
pub const CHECKPOINT_RULES: [&str; 13] = [
    "opens_empty",
    "shows_what_was_committed",
    "keeps_what_was_committed",
    "puts_and_removes",
    "an_empty_commit_counts",
    "keeps_graphs_apart",
    "keeps_odd_keys_apart",
    "keeps_large_values",
    "keeps_many_keys",
    "keeps_many_commits",
    "lets_one_of_two_commit",
    "can_be_dropped_at_any_poll",
    "peeks_and_changes_nothing",
];

/// Holds a checkpoint store against its contract: every one of the [`CHECKPOINT_RULES`].
///
/// The store is to be empty. Graphs are opened again through `store` itself: for one that
/// holds what it read in memory, give one that opens another for each call.
pub async fn checkpoints(store: &dyn CheckpointStore) -> Report {
    let mut examiner = Examiner::default();
    let look = Look { store, seen: examiner.seen.clone() };
    let [empty, shows, keeps, removes, nothing, graphs, keys, large, many, often, one, polls, peeks] =
        CHECKPOINT_RULES;
    examiner.check(empty, look.opens_empty(empty)).await;
    examiner.check(shows, look.shows_what_was_committed(shows)).await;
    examiner.check(keeps, look.keeps_what_was_committed(keeps)).await;
    examiner.check(removes, look.puts_and_removes(removes)).await;
    examiner.check(nothing, look.an_empty_commit_counts(nothing)).await;
    examiner.check(graphs, look.keeps_graphs_apart()).await;
    examiner.check(keys, look.keeps_odd_keys_apart(keys)).await;
    examiner.check(large, look.keeps_large_values(large)).await;
    examiner.check(many, look.keeps_many_keys(many)).await;
    examiner.check(often, look.keeps_many_commits(often)).await;
    examiner.check(one, look.lets_one_of_two_commit(one)).await;
    examiner.check(polls, look.can_be_dropped_at_any_poll(polls)).await;
    examiner.check(peeks, look.peeks_and_changes_nothing(peeks)).await;
    examiner.finish()
}

/// Texts that tend to be confused with each other, or to break out of where they are put.
const ODD: [&str; 16] = [
    "",
    " ",
    ".",
    "..",
    "a",
    "A",
    "ä",
    "a\u{308}",
    "a/b",
    "a\\b",
    "a%2fb",
    "a\0b",
    "con",
    "'; DROP TABLE nvisy_checkpoint; --",
    "\u{1F980}",
    "a name that is so very long that it is longer than what a file system takes for the name of a file, \
     which is 255 bytes in most of them, so that a store that makes a file or a directory of it has to cut it \
     somewhere, and to tell it apart from all those others that begin in the same way",
];

struct Look<'a> {
    store: &'a dyn CheckpointStore,
    seen: Seen,
}

impl Look<'_> {
    async fn open(&self, graph: &str) -> Result<Box<dyn Checkpoints>, String> {
        let opened = self.store.open(graph).await;
        let opened = opened.map_err(|error| self.seen.unexpected("opening failed", &error))?;
        match opened.recovery() {
            None => Ok(opened),
            Some(recovery) => Err(format!("nothing was damaged, and it speaks of a recovery: {recovery}")),
        }
    }

    /// Commits, and demands the generation that has to come of it.
    async fn commit(&self, checkpoints: &mut dyn Checkpoints, changes: Changes) -> Result<(), String> {
        let mut expected = checkpoints.last().clone();
        expected.apply(changes.clone());
        let generation = checkpoints.commit(changes).await;
        let generation = generation.map_err(|error| self.seen.unexpected("a commit failed", &error))?;
        if generation != expected.generation {
            return Err(format!("a commit gave generation {generation}, expected {}", expected.generation));
        }
        same("after a commit", checkpoints.last(), &expected)
    }

    async fn found(&self, graph: &str, expected: &Checkpoint) -> Result<(), String> {
        same("opened again", self.open(graph).await?.last(), expected)
    }

    async fn opens_empty(&self, graph: &str) -> Finding {
        self.found(graph, &Checkpoint::default()).await?;
        self.found(graph, &Checkpoint::default()).await?;
        Ok(None)
    }

    async fn shows_what_was_committed(&self, graph: &str) -> Finding {
        let mut open = self.open(graph).await?;
        self.commit(&mut *open, puts(&[("b", "2"), ("a", "1"), ("c", "")])).await?;
        self.commit(&mut *open, puts(&[("a", "one")])).await?;
        same("while open", open.last(), &state(2, &[("a", "one"), ("b", "2"), ("c", "")]))?;
        Ok(None)
    }

    async fn keeps_what_was_committed(&self, graph: &str) -> Finding {
        let mut expected = Checkpoint::default();
        for (key, value) in [("b", "2"), ("a", "1"), ("b", "two"), ("empty", "")] {
            let mut open = self.open(graph).await?;
            same("opened again", open.last(), &expected)?;
            self.commit(&mut *open, puts(&[(key, value)])).await?;
            expected.apply(puts(&[(key, value)]));
        }
        self.found(graph, &state(4, &[("a", "1"), ("b", "two"), ("empty", "")])).await?;
        Ok(None)
    }

    async fn puts_and_removes(&self, graph: &str) -> Finding {
        let mut open = self.open(graph).await?;
        self.commit(&mut *open, puts(&[("a", "1"), ("b", "2"), ("c", "3")])).await?;
        let mut changes = puts(&[("c", "three")]);
        changes.remove("a").remove("never there");
        self.commit(&mut *open, changes).await?;
        drop(open);
        self.found(graph, &state(2, &[("b", "2"), ("c", "three")])).await?;
        let mut open = self.open(graph).await?;
        let mut changes = puts(&[("a", "again")]);
        changes.remove("b").remove("c");
        self.commit(&mut *open, changes).await?;
        drop(open);
        self.found(graph, &state(3, &[("a", "again")])).await?;
        Ok(None)
    }

    async fn an_empty_commit_counts(&self, graph: &str) -> Finding {
        let mut open = self.open(graph).await?;
        self.commit(&mut *open, Changes::default()).await?;
        self.commit(&mut *open, Changes::default()).await?;
        drop(open);
        self.found(graph, &state(2, &[])).await?;
        Ok(None)
    }

    async fn keeps_graphs_apart(&self) -> Finding {
        let mut open = Vec::new();
        for name in ODD {
            let mut one = self.open(name).await.map_err(|found| format!("graph {name:?}: {found}"))?;
            self.commit(&mut *one, puts(&[("name", name)])).await?;
            open.push(one);
        }
        drop(open);
        for name in ODD {
            let expected = state(1, &[("name", name)]);
            self.found(name, &expected).await.map_err(|found| format!("graph {name:?}: {found}"))?;
        }
        Ok(None)
    }

    async fn keeps_odd_keys_apart(&self, graph: &str) -> Finding {
        let pairs = ODD.map(|key| (key, key));
        let mut open = self.open(graph).await?;
        self.commit(&mut *open, puts(&pairs)).await?;
        drop(open);
        self.found(graph, &state(1, &pairs)).await?;
        Ok(None)
    }

    async fn keeps_large_values(&self, graph: &str) -> Finding {
        let value: Bytes = (0..3_000_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
        let mut expected = Checkpoint::default();
        let mut open = self.open(graph).await?;
        for key in ["one", "two"] {
            let mut changes = Changes::default();
            changes.put(key, value.clone());
            expected.apply(changes.clone());
            self.commit(&mut *open, changes).await?;
        }
        drop(open);
        self.found(graph, &expected).await?;
        Ok(None)
    }

    async fn keeps_many_keys(&self, graph: &str) -> Finding {
        let mut changes: Changes = (0..10_000_u32)
            .map(|n| (format!("partition {n}"), Some(Bytes::copy_from_slice(&n.to_be_bytes()))))
            .collect();
        let mut expected = Checkpoint::default();
        let mut open = self.open(graph).await?;
        expected.apply(changes.clone());
        self.commit(&mut *open, changes).await?;
        changes = (0..10_000_u32).step_by(3).map(|n| (format!("partition {n}"), None)).collect();
        expected.apply(changes.clone());
        self.commit(&mut *open, changes).await?;
        drop(open);
        self.found(graph, &expected).await?;
        Ok(None)
    }

    async fn keeps_many_commits(&self, graph: &str) -> Finding {
        let mut open = self.open(graph).await?;
        for n in 0..300_u32 {
            let mut changes = Changes::default();
            changes.put("last", n.to_string()).put(format!("key {}", n % 7), vec![n as u8; 20_000]);
            self.commit(&mut *open, changes).await?;
        }
        let expected = open.last().clone();
        drop(open);
        self.found(graph, &expected).await?;
        Ok(None)
    }

    async fn lets_one_of_two_commit(&self, graph: &str) -> Finding {
        let mut first = self.open(graph).await?;
        self.commit(&mut *first, puts(&[("a", "1")])).await?;
        match self.store.open(graph).await {
            Err(error) => {
                failed::<()>(&self.seen, "a second one is opened", ErrorKind::Conflict, Err(error))?;
                self.commit(&mut *first, puts(&[("a", "2")])).await?;
            }
            Ok(mut second) => {
                let before = first.last().clone();
                self.commit(&mut *second, puts(&[("a", "2")])).await?;
                for _ in 0..2 {
                    let late = first.commit(puts(&[("a", "late"), ("b", "late")])).await;
                    failed(&self.seen, "the one that was late commits", ErrorKind::Conflict, late)?;
                    same("after a commit that failed", first.last(), &before)?;
                }
                self.commit(&mut *second, Changes::default()).await?;
                self.commit(&mut *second, puts(&[("c", "3")])).await?;
                drop((first, second));
                return self.found(graph, &state(4, &[("a", "2"), ("c", "3")])).await.map(|()| None);
            }
        }
        drop(first);
        self.found(graph, &state(2, &[("a", "2")])).await?;
        Ok(None)
    }

    async fn can_be_dropped_at_any_poll(&self, graph: &str) -> Finding {
        let mut last = Checkpoint::default();
        for polls in 0..8 {
            let mut open = self.open(graph).await?;
            let mut done = last.clone();
            done.apply(puts(&[("polls", &polls.to_string())]));
            {
                let mut commit = std::pin::pin!(open.commit(puts(&[("polls", &polls.to_string())])));
                for _ in 0..polls {
                    if futures::poll!(&mut commit).is_ready() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
            drop(open);
            let open =
                self.open(graph).await.map_err(|found| format!("dropped after {polls} polls: {found}"))?;
            let found = open.last();
            if *found != last && *found != done {
                return Err(format!("dropped after {polls} polls: found {found:?}, which nobody committed"));
            }
            last = found.clone();
        }
        Ok(None)
    }

    /// Looks, and demands what has to be seen; while they are open it may be refused instead.
    async fn peek(&self, graph: &str, is_open: bool, expected: Option<&Checkpoint>) -> Result<(), String> {
        // What it does to the store shows the second time.
        for _ in 0..2 {
            let found = match self.store.peek(graph).await {
                Err(error) if is_open => {
                    return failed::<()>(&self.seen, "they are open", ErrorKind::Conflict, Err(error));
                }
                found => found.map_err(|error| self.seen.unexpected("peeking failed", &error))?,
            };
            match (&found, expected) {
                (Some(found), Some(expected)) => same("peeked at", found, expected)?,
                (Some(_), None) => return Err("nothing was committed, and something is seen".to_owned()),
                (None, Some(_)) => return Err("something was committed, and nothing is seen".to_owned()),
                (None, None) => {}
            }
        }
        Ok(())
    }

    async fn peeks_and_changes_nothing(&self, graph: &str) -> Finding {
        self.peek(graph, false, None).await?;
        let mut open = self.open(graph).await?;
        same("opened after a look", open.last(), &Checkpoint::default())?;
        self.peek(graph, true, None).await?;
        for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            self.commit(&mut *open, puts(&[(key, value)])).await?;
            let committed = open.last().clone();
            self.peek(graph, true, Some(&committed)).await?;
        }
        let committed = open.last().clone();
        drop(open);
        self.peek(graph, false, Some(&committed)).await?;
        self.found(graph, &committed).await?;
        Ok(None)
    }
}

fn puts(pairs: &[(&str, &str)]) -> Changes {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), Some(Bytes::copy_from_slice(value.as_bytes()))))
        .collect()
}

fn state(generation: u64, pairs: &[(&str, &str)]) -> Checkpoint {
    let mut checkpoint = Checkpoint::default();
    checkpoint.apply(puts(pairs));
    Checkpoint { generation, ..checkpoint }
}

fn same(when: &str, found: &Checkpoint, expected: &Checkpoint) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    if found.generation != expected.generation {
        let (found, expected) = (found.generation, expected.generation);
        return Err(format!("{when}: found generation {found}, expected {expected}"));
    }
    let differs = |one: &BTreeMap<String, Bytes>, other: &BTreeMap<String, Bytes>| {
        one.iter().find(|(key, value)| other.get(*key) != Some(value)).map(|(key, _)| key.clone())
    };
    let key =
        differs(&expected.entries, &found.entries).or_else(|| differs(&found.entries, &expected.entries));
    Err(format!("{when}: key {:?} is not as it was committed", key.unwrap_or_default()))
}
