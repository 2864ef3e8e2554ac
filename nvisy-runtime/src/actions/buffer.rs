//! What a slow reader of a fan-out has yet to take: in memory, then in files, in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nvisy_core::batch::{BatchReader, BatchWriter};
use nvisy_core::prelude::*;
use nvisy_core::spill::Spill;
use tokio::sync::Mutex;

use super::held::{absorbed, apart, here};
use super::spill::{RunReader, Runs};
use crate::graph::SpillPolicy;

/// What an item takes beside its payload: identity, envelope, lineage.
const BESIDE: usize = 48;
/// Items of a frame, and of a batch that is let go of, at the most.
const MOST_ITEMS: usize = 1_024;
/// Bytes of the same, about.
const MOST_BYTES: usize = 1 << 20;
/// Bytes of the small files that become one.
const MERGED_BYTES: u64 = 64 << 20;

/// A queue of items with a bound. Its clones are the same one.
///
/// Of the items that it lets go of it keeps those that `done` does not count: they are there
/// again for a run that goes on from its state.
#[derive(Clone)]
pub(crate) struct Buffer {
    queue: Arc<Mutex<Option<Queue>>>,
    level: Arc<Level>,
}

/// How much a buffer has, for whoever does not want to wait for it.
#[derive(Debug, Default)]
struct Level {
    /// Items that are still to be let go of.
    waiting: AtomicU64,
    /// Items that there were in all.
    all: AtomicU64,
    /// Bytes that were written to files.
    spilled: AtomicU64,
}

/// Returns how many of the items that were let go of, from the first one on, are done with; none
/// where each is as soon as it is let go of.
pub(crate) type Done = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// Items have numbers: that of the first item of the first file is 0.
struct Queue {
    runs: Runs,
    files: VecDeque<Filed>,
    reading: Option<Reading>,
    tail: VecDeque<Batch>,
    /// The number of the first item in memory.
    tail_from: u64,
    /// How many bytes are in memory.
    held: u64,
    /// The number of the first item that this run has let go of.
    began: u64,
    /// The number of the next item to let go of.
    next: u64,
    /// The number behind the last item.
    end: u64,
    policy: SpillPolicy,
    done: Done,
    level: Arc<Level>,
}

/// A file of items.
struct Filed {
    number: u64,
    from: u64,
    items: u64,
    bytes: u64,
}

/// A file that is being read.
struct Reading {
    number: u64,
    file: RunReader,
    batches: BatchReader,
    /// The number of the first item of its next frame.
    at: u64,
}

impl Buffer {
    pub(crate) fn new(spill: Spill, policy: SpillPolicy, done: Done) -> Self {
        let level = Arc::new(Level::default());
        let queue = Queue {
            runs: Runs::new(spill, "buffer"),
            files: VecDeque::new(),
            reading: None,
            tail: VecDeque::new(),
            tail_from: 0,
            held: 0,
            began: 0,
            next: 0,
            end: 0,
            policy,
            done,
            level: level.clone(),
        };
        Self { queue: Arc::new(Mutex::new(Some(queue))), level }
    }

    /// Returns how many items are still to be let go of.
    pub(crate) fn waiting(&self) -> u64 {
        self.level.waiting.load(Ordering::Relaxed)
    }

    /// Returns how many items there were in all, with those of a run before.
    pub(crate) fn all(&self) -> u64 {
        self.level.all.load(Ordering::Relaxed)
    }

    /// Returns how many bytes were written to files.
    pub(crate) fn spilled(&self) -> u64 {
        self.level.spilled.load(Ordering::Relaxed)
    }

    /// Returns whether there is room for more; a batch always is where there is nothing.
    ///
    /// # Errors
    ///
    /// If what it had is lost.
    pub(crate) async fn has_room(&self) -> Result<bool> {
        let mut queue = self.queue.lock().await;
        let queue = here(&mut queue)?;
        queue.trim();
        Ok(queue.bytes() < queue.policy.bytes())
    }

    /// Puts a batch behind the others.
    ///
    /// # Errors
    ///
    /// If it does not fit into memory, and cannot be written.
    pub(crate) async fn push(&self, batch: Batch) -> Result<()> {
        let mut slot = self.queue.lock().await;
        let queue = here(&mut slot)?;
        queue.push(batch);
        if queue.held > queue.policy.memory() {
            apart(&mut slot, |queue| {
                queue.trim();
                queue.file()
            })
            .await?;
        }
        Ok(())
    }

    /// Returns the next batch.
    ///
    /// # Errors
    ///
    /// If it is in a file that cannot be read.
    pub(crate) async fn next(&self) -> Result<Option<Batch>> {
        let mut slot = self.queue.lock().await;
        let queue = here(&mut slot)?;
        if queue.next >= queue.tail_from {
            return Ok(queue.next_in_memory());
        }
        apart(&mut slot, Queue::next_in_file).await
    }
}

impl Stateful for Buffer {
    async fn apply(&mut self, batch: Batch, _: usize, _: &Context) -> Result<Outcomes> {
        let items = batch.len();
        self.push(batch).await?;
        Ok(absorbed(items, Vec::new()))
    }

    async fn release(&mut self, _: bool, _: &Context) -> Result<Option<Batch>> {
        self.next().await
    }

    async fn save(&mut self) -> Result<Changes> {
        apart(&mut *self.queue.lock().await, |queue| {
            let done = queue.trim();
            queue.file()?;
            if let Some(first) = queue.files.front() {
                queue.runs.set_taken(first.number, done.saturating_sub(first.from));
            }
            let mut changes = Changes::default();
            queue.runs.save(&mut changes)?;
            Ok(changes)
        })
        .await
    }

    async fn saved(&mut self) -> Result<()> {
        apart(&mut *self.queue.lock().await, |queue| {
            queue.runs.saved();
            Ok(())
        })
        .await
    }

    async fn restore(&mut self, saved: Entries) -> Result<()> {
        apart(&mut *self.queue.lock().await, move |queue| queue.restore(&saved)).await
    }
}

impl Queue {
    fn tell(&self) {
        self.level.waiting.store(self.end - self.next, Ordering::Relaxed);
        self.level.all.store(self.end - self.began, Ordering::Relaxed);
    }

    fn bytes(&self) -> u64 {
        self.held + self.files.iter().map(|file| file.bytes).sum::<u64>()
    }

    fn push(&mut self, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        self.held += size(&batch);
        self.end += batch.len() as u64;
        self.tail.push_back(batch);
        self.tell();
    }

    /// Forgets what is done with. Returns the number of the first item that is not.
    fn trim(&mut self) -> u64 {
        let done = (self.done)().map_or(self.next, |done| self.began + done);
        while let Some(first) = self.files.front().filter(|first| first.from + first.items <= done) {
            self.runs.remove(first.number);
            self.files.pop_front();
        }
        while let Some(first) = self.tail.front().filter(|first| self.tail_from + first.len() as u64 <= done)
        {
            self.held -= size(first);
            self.tail_from += first.len() as u64;
            self.tail.pop_front();
        }
        done
    }

    /// Writes what is in memory as a file.
    fn file(&mut self) -> Result<()> {
        if self.tail.is_empty() {
            return Ok(());
        }
        let (tail, mut batches) = (&self.tail, BatchWriter::default());
        let number = self.runs.write(0, |file| {
            for batch in tail {
                let each = size(batch) as usize / batch.len().max(1);
                let items = (MOST_BYTES / each.max(1)).clamp(1, MOST_ITEMS);
                for offset in (0..batch.len()).step_by(items) {
                    let part = batch.slice(offset, items.min(batch.len() - offset));
                    file.frame(part.len(), &[&batches.write(&part)?])?;
                }
            }
            Ok(())
        })?;
        let items = self.end - self.tail_from;
        if let Some((number, run)) = number.and_then(|number| Some((number, self.runs.get(number)?))) {
            self.files.push_back(Filed { number, from: self.tail_from, items, bytes: run.bytes });
            self.level.spilled.fetch_add(run.bytes, Ordering::Relaxed);
        }
        self.tail.clear();
        (self.tail_from, self.held) = (self.end, 0);
        self.merge()
    }

    /// Makes one file of many small ones: each checkpoint begins one, and a slow reader may leave
    /// many of them.
    fn merge(&mut self) -> Result<()> {
        while let Some((numbers, level)) = self.runs.to_merge() {
            let first = self.files.len().saturating_sub(numbers.len());
            let small = self.files.range(first..);
            let from = small.clone().next().map_or(self.end, |file| file.from);
            if small.map(|file| file.bytes).sum::<u64>() > MERGED_BYTES {
                return Ok(());
            }
            let files: Vec<RunReader> =
                numbers.iter().map(|number| self.runs.open(*number)).collect::<Result<_>>()?;
            let merged = self.runs.write(level + 1, |merged| {
                let mut written = BatchWriter::default();
                for mut file in files {
                    let mut batches = BatchReader::default();
                    while let Some((items, bytes)) = file.next()? {
                        let batch = batches.read(&bytes)?;
                        if batch.len() != items {
                            return Err(file.damaged());
                        }
                        merged.frame(items, &[&written.write(&batch)?])?;
                    }
                }
                Ok(())
            })?;
            for number in numbers {
                self.runs.remove(number);
            }
            self.files.truncate(first);
            if let Some((number, run)) = merged.and_then(|number| Some((number, self.runs.get(number)?))) {
                self.files.push_back(Filed { number, from, items: run.items, bytes: run.bytes });
            }
        }
        Ok(())
    }

    fn next_in_memory(&mut self) -> Option<Batch> {
        let mut from = self.tail_from;
        for batch in &self.tail {
            let behind = from + batch.len() as u64;
            if self.next < behind {
                let offset = (self.next - from) as usize;
                let next = batch.slice(offset, MOST_ITEMS.min(batch.len() - offset));
                self.next += next.len() as u64;
                self.tell();
                return Some(next);
            }
            from = behind;
        }
        None
    }

    fn next_in_file(&mut self) -> Result<Option<Batch>> {
        let next = self.next;
        let filed = self.files.iter().find(|file| next < file.from + file.items);
        let filed = filed.ok_or_else(|| Error::internal("a file of the buffer is not there any more"))?;
        let mut reading = match self.reading.take() {
            Some(reading) if reading.number == filed.number && reading.at <= next => reading,
            _ => Reading {
                number: filed.number,
                file: self.runs.open(filed.number)?,
                batches: BatchReader::default(),
                at: filed.from,
            },
        };
        loop {
            let (items, bytes) = reading.file.next()?.ok_or_else(|| reading.file.damaged())?;
            let batch = reading.batches.read(&bytes)?;
            if batch.len() != items {
                return Err(reading.file.damaged());
            }
            let from = reading.at;
            reading.at += items as u64;
            if next < reading.at {
                let offset = (next - from) as usize;
                self.next = reading.at;
                self.reading = Some(reading);
                self.tell();
                return Ok(Some(batch.slice(offset, items - offset)));
            }
        }
    }

    fn restore(&mut self, saved: &Entries) -> Result<()> {
        self.runs.restore(saved)?;
        for number in self.runs.numbers() {
            let Some(run) = self.runs.get(number) else { continue };
            if self.files.is_empty() {
                (self.began, self.next) = (run.taken, run.taken);
            }
            self.files.push_back(Filed { number, from: self.end, items: run.items, bytes: run.bytes });
            self.end += run.items;
        }
        self.tail_from = self.end;
        self.tell();
        Ok(())
    }
}

fn size(batch: &Batch) -> u64 {
    (batch.bytes() + BESIDE * batch.len()) as u64
}

#[cfg(test)]
mod tests {
    use nvisy_core::Checkpoint;
    use nvisy_core::primitive::raw::Raw;

    use super::*;

    /// A batch of one item.
    fn one(n: u64) -> Batch {
        let item = Item::detached(&n.to_string(), Raw::Json(format!("{{\"n\": {n}}}").into()));
        Batch::from_primitives(vec![item.into_primitive()])
    }

    #[tokio::test]
    async fn a_file_a_checkpoint_becomes_few_files_in_order() {
        const MANY: u64 = 600;
        let folder = tempfile::tempdir().unwrap();
        let buffer = || {
            let policy = SpillPolicy { memory: Some(1 << 20), disk: Some(1 << 30) };
            Buffer::new(Spill::kept(folder.path().to_owned()), policy, Arc::new(|| None))
        };
        let (mut first, mut saved, expected) = (buffer(), Checkpoint::default(), (0..MANY).map(one));
        for (n, batch) in expected.enumerate() {
            first.push(batch).await.unwrap();
            saved.apply(first.save().await.unwrap());
            first.saved().await.unwrap();
            if n < 20 {
                assert_eq!(first.next().await.unwrap().unwrap().id(0), one(n as u64).id(0));
            }
        }
        let files = std::fs::read_dir(folder.path()).unwrap().count();
        assert!(files < 64, "{files} files");
        drop(first);
        let mut second = buffer();
        second.restore(saved.entries).await.unwrap();
        let mut found = Vec::new();
        while let Some(batch) = second.next().await.unwrap() {
            found.extend((0..batch.len()).map(|at| batch.id(at)));
        }
        let expected: Vec<_> = (20..MANY).map(|n| one(n).id(0)).collect();
        assert!(found.ends_with(&expected) && found.len() <= expected.len() + 1, "{} items", found.len());
    }
}
