//! A directory, and reading and writing in it without the engine.

use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt;
use nvisy_core::prelude::*;
use nvisy_core::testing::plain;
use nvisy_core::{OpenContext, SourceBatch};
use nvisy_plugin_object::{Local, ObjectClient};
use serde_json::Value;

/// A temporary directory as a store.
pub(crate) struct Store {
    pub(crate) directory: tempfile::TempDir,
}

/// What reading gave.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) items: Vec<Value>,
    pub(crate) offsets: Vec<u64>,
    pub(crate) ids: Vec<PrimitiveId>,
    /// The message and the offset of each.
    pub(crate) rejected: Vec<(u64, String)>,
    pub(crate) error: Option<Error>,
    /// The position after each batch, and how many items there were by then.
    pub(crate) after: Vec<(Position, usize)>,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, key: &str) -> PathBuf {
        self.directory.path().join(key)
    }

    pub(crate) fn put(&self, key: &str, bytes: impl AsRef<[u8]>) -> &Self {
        let path = self.path(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        self
    }

    pub(crate) fn get(&self, key: &str) -> String {
        String::from_utf8(std::fs::read(self.path(key)).unwrap()).unwrap()
    }

    /// Every file below the directory.
    pub(crate) fn files(&self) -> Vec<String> {
        fn walk(directory: &std::path::Path, root: &std::path::Path, files: &mut Vec<String>) {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    walk(&path, root, files);
                } else {
                    files.push(path.strip_prefix(root).unwrap().display().to_string());
                }
            }
        }
        let mut files = Vec::new();
        walk(self.directory.path(), self.directory.path(), &mut files);
        files.sort();
        files
    }

    pub(crate) async fn client(&self) -> Arc<ObjectClient> {
        let local = Local::at(self.directory.path());
        Arc::new(local.connect(&ConnectContext::detached()).await.unwrap())
    }

    pub(crate) async fn read<S: Source<Client = ObjectClient>>(&self, source: &S) -> Result<Read> {
        read(source, self.client().await, BatchLimits::default()).await
    }

    pub(crate) async fn open<S: SinkConfig<Client = ObjectClient>>(&self, sink: &S) -> Result<S::Sink> {
        sink.open(&OpenContext::new(Context::detached(), self.client().await)).await
    }

    /// Writes the items of a source to a sink, batch by batch.
    pub(crate) async fn copy<S, K>(&self, source: &S, sink: &K) -> Result<u64>
    where
        S: Source<Client = ObjectClient>,
        K: SinkConfig<Client = ObjectClient>,
    {
        let sink = self.open(sink).await?;
        let batches = nvisy_core::stream::read(source, self.client().await);
        sink.drain(batches, &Context::detached()).await
    }
}

pub(crate) fn context<S: Source<Client = ObjectClient>>(
    source: &S,
    client: Arc<ObjectClient>,
    limits: BatchLimits,
) -> ReadContext<ObjectClient> {
    let identity = source.identity(&client);
    ReadContext::new(OpenContext::new(Context::detached(), client), identity, limits)
}

/// Reads all partitions; an error ends its partition and is kept.
pub(crate) async fn read<S: Source<Client = ObjectClient>>(
    source: &S,
    client: Arc<ObjectClient>,
    limits: BatchLimits,
) -> Result<Read> {
    let context = context(source, client.clone(), limits);
    let partitions = source.partitions(&OpenContext::new(Context::detached(), client)).await?;
    let mut read = Read::default();
    for partition in partitions {
        read_partition(source, &partition, None, &context, &mut read).await;
    }
    Ok(read)
}

pub(crate) async fn read_partition<S: Source<Client = ObjectClient>>(
    source: &S,
    partition: &Partition,
    after: Option<Position>,
    context: &ReadContext<ObjectClient>,
    read: &mut Read,
) {
    let mut stream = std::pin::pin!(source.read(partition, after, context));
    while let Some(result) = stream.next().await {
        match result {
            Ok(SourceBatch { batch, after, rejected }) => {
                for item in batch.iter() {
                    read.items.push(plain(item.payload()));
                    read.offsets.push(offset(&item.root().unwrap().position));
                    read.ids.push(item.id());
                }
                let offset_of = |p: &Primitive| offset(&p.root().unwrap().position);
                read.rejected.extend(rejected.iter().map(|r| (offset_of(&r.primitive), r.error.to_string())));
                read.after.push((after, read.items.len()));
            }
            Err(error) => read.error = Some(error),
        }
    }
}

pub(crate) fn offset(position: &Position) -> u64 {
    match position {
        Position::Marker { offset, .. } => *offset,
        other => panic!("{other} is no marker"),
    }
}

/// Checks that reading goes on after every position, of items and of batches.
pub(crate) async fn check_resume<S: Source<Client = ObjectClient>>(
    store: &Store,
    source: &S,
    limits: BatchLimits,
) {
    let client = store.client().await;
    let context = context(source, client.clone(), limits);
    for partition in source.partitions(&OpenContext::new(Context::detached(), client)).await.unwrap() {
        let mut whole = Read::default();
        read_partition(source, &partition, None, &context, &mut whole).await;
        let markers = whole.offsets.iter().enumerate().map(|(index, offset)| {
            (Position::Marker { object: partition.id.clone(), offset: *offset }, index + 1)
        });
        for (position, done) in markers.chain(whole.after.clone()) {
            let mut rest = Read::default();
            read_partition(source, &partition, Some(position.clone()), &context, &mut rest).await;
            assert_eq!(rest.items, whole.items[done..], "after {position}");
            assert_eq!(rest.ids, whole.ids[done..], "after {position}");
            let told = |read: &Read| read.error.as_ref().map(ToString::to_string);
            assert_eq!(told(&rest), told(&whole), "after {position}");
        }
    }
}

/// A batch of documents or rows, as an action would give it.
pub(crate) fn batch<K: Kind>(payloads: impl IntoIterator<Item = K>) -> Batch {
    let items = payloads.into_iter().enumerate().map(|(n, payload)| Item::detached(&n.to_string(), payload));
    items.map(Item::into_primitive).collect()
}
