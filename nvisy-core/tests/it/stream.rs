//! Sources, actions and sinks work as plain streams, without the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use nvisy_core::prelude::*;
use nvisy_core::primitive::document::Document;
use nvisy_core::stream::read;
use nvisy_core::testing::faulty::{FaultKind, Script, Site, sink};
use nvisy_core::testing::memory::{Form, Hoard, MemorySink, MemorySource, MemoryStore, Relay};
use serde_json::{Value, json};

async fn open(config: &MemorySink) -> impl Sink + use<> {
    SinkConfig::open(config, &OpenContext::new(Context::detached(), NoClient.into())).await.unwrap()
}

async fn built(form: Form) -> Action {
    ActionConfig::build(&Relay::new(form), &OpenContext::new(Context::detached(), NoClient.into()))
        .await
        .unwrap()
}

#[tokio::test]
async fn every_form_of_action_stands_between_a_source_and_a_sink() {
    let objects: Vec<Value> = (0..50).map(|n| json!({"id": n})).collect();
    let source = MemorySource::rows(objects.clone()).in_partitions(2).with_batches_of(7);
    let context = Context::detached();
    for form in Form::ALL {
        let name = format!("through {form:?}");
        let action = built(form).await;
        let stream = read(&source, NoClient.into()).apply(&action, &context);
        let written = open(&MemorySink::named(&name)).await.drain(stream, &context).await.unwrap();
        assert_eq!(written, 50);
        let mut found = MemoryStore::named(&name).plain();
        found.sort_by_key(|row| row["id"].as_u64());
        assert_eq!(found, objects);
        assert_eq!(MemoryStore::named(&name).tally().closes, 1);
        let records = MemoryStore::named(&name).items()[0].lineage().records();
        assert_eq!(records.len(), 2, "{form:?} writes one record: {records:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_or_fails_comes_as_an_error_and_the_stream_goes_on() {
    let source = MemorySource::documents(["a", "bad", "c", "d"]).rejecting([2]).with_batches_of(2);
    let action = Action::function(|item: Item<Document>| match item.text.as_str() {
        "bad" => Err(Error::new(ErrorKind::Validation, "bad")),
        "d" => Ok(Outcome::drop("not wanted")),
        _ => Ok(Outcome::emit(item)),
    });
    let context = Context::detached();
    let results: Vec<_> = read(&source, NoClient.into()).apply(&action, &context).collect().await;
    let shown: Vec<String> = results
        .iter()
        .map(|result| match result {
            Ok(batch) => format!("{} items", batch.len()),
            Err(error) => error.message().to_owned(),
        })
        .collect();
    assert_eq!(shown, ["1 items", "bad", "0 items", "item 2 cannot be read"]);
}

#[tokio::test]
async fn a_function_that_panics_fails_the_one_item() {
    let source = MemorySource::documents(["a", "bad", "c"]);
    let action = Action::function(|item: Item<Document>| {
        assert_ne!(item.text, "bad");
        Ok(Outcome::emit(item))
    });
    let context = Context::detached();
    let results: Vec<_> = read(&source, NoClient.into()).apply(&action, &context).collect().await;
    assert_eq!(results[0].as_ref().unwrap().len(), 2);
    assert_eq!(results[1].as_ref().unwrap_err().kind(), ErrorKind::Panic);
}

/// Forgets what went in.
struct Forgets;

impl Stateful for Forgets {
    async fn apply(&mut self, _: Batch, _: usize, _: &Context) -> Result<Outcomes> {
        Ok(Outcomes::same(Batch::empty()))
    }

    async fn save(&mut self) -> Result<Changes> {
        Ok(Changes::default())
    }

    async fn restore(&mut self, _: Entries) -> Result<()> {
        Ok(())
    }
}

impl Columnar for Forgets {
    async fn apply(&self, _: Batch, _: &Context) -> Result<Outcomes> {
        Ok(Outcomes::same(Batch::empty()))
    }
}

#[tokio::test]
async fn whoever_forgets_an_input_is_told() {
    let source = MemorySource::documents(["a"]);
    let context = Context::detached();
    for action in [Action::stateful(|| Forgets), Action::columnar(Forgets)] {
        let results: Vec<_> = read(&source, NoClient.into()).apply(&action, &context).collect().await;
        assert_eq!(results.len(), 1);
        assert_eq!(results[0].as_ref().unwrap_err().kind(), ErrorKind::Internal, "{action:?}");
    }
}

/// Counts what it saw.
struct Counts(u64);

impl Stateful for Counts {
    async fn apply(&mut self, batch: Batch, _: usize, context: &Context) -> Result<Outcomes> {
        let outcomes = batch.iter().map(|item| {
            self.0 += 1;
            let item: Item = item.typed()?;
            Ok(Outcome::emit(item.with_tag("count", self.0.to_string())))
        });
        let outcomes = outcomes.collect::<Result<Vec<Outcome>>>()?;
        Outcomes::collect(&batch, &context.step(), outcomes)
    }

    async fn save(&mut self) -> Result<Changes> {
        Ok(Changes::default())
    }

    async fn restore(&mut self, _: Entries) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_stateful_action_remembers_within_a_stream_and_starts_anew_in_the_next() {
    let source = MemorySource::documents(["a", "b", "c"]).with_batches_of(1);
    let (action, context) = (Action::stateful(|| Counts(0)), Context::detached());
    for _ in 0..2 {
        let batches: Vec<_> = read(&source, NoClient.into()).apply(&action, &context).collect().await;
        let last = batches.last().unwrap().as_ref().unwrap();
        assert_eq!(last.metadata(0).tags["count"], "3");
    }
}

#[tokio::test]
async fn what_an_action_absorbs_comes_when_it_lets_go_of_it() {
    let source = MemorySource::documents(["a", "b", "c"]).with_batches_of(1);
    let whole: Vec<_> = read(&source, NoClient.into()).map(|batch| batch.unwrap().ids()).collect().await;
    for keep in [0, 1, usize::MAX] {
        let open = OpenContext::new(Context::detached(), NoClient.into());
        let action = ActionConfig::build(&Hoard::keeping(keep), &open).await.unwrap();
        let context = Context::detached();
        let given = read(&source, NoClient.into()).apply(&action, &context);
        let given: Vec<_> = given.map(|batch| batch.unwrap().ids()).collect().await;
        assert_eq!(given.concat(), whole.concat(), "{keep}");
        // Each batch that absorbs gives an empty one, and what is let go of stands behind it.
        let early = given[..2].concat().len();
        assert_eq!(early, usize::from(keep == 0), "{keep}: {given:?}");
    }
}

#[tokio::test]
async fn a_drain_ends_with_the_first_item_that_is_not_written() {
    let script = Script::new();
    script.inject(Site::Write, 2, FaultKind::Partial);
    struct Wrapped(Arc<dyn nvisy_core::plugin::ErasedSink>);
    impl Sink for Wrapped {
        async fn write(&self, batch: &Batch, context: &Context) -> Result<WriteReport> {
            self.0.write(batch, context).await
        }
    }
    let wrapped = Wrapped(sink(Arc::new(open(&MemorySink::named("drained")).await), &script));
    let source = MemorySource::documents(["a", "b", "c", "d", "e", "f"]).with_batches_of(2);
    let ids: Vec<_> =
        read(&source, NoClient.into()).map(|batch| batch.unwrap().ids()).collect::<Vec<_>>().await.concat();
    let error = wrapped.drain(read(&source, NoClient.into()), &Context::detached()).await.unwrap_err();
    assert_eq!(error.context().item.as_deref(), Some(ids[2].to_string().as_str()));
    assert_eq!(MemoryStore::named("drained").len(), 3);
}

#[tokio::test]
async fn nothing_is_read_before_the_first_poll() {
    let store = MemoryStore::named("not yet read");
    store.put(["a", "b"].map(|text| Document::new(text).unwrap()));
    let calls = Arc::new(AtomicU64::new(0));
    let counted = calls.clone();
    let action = Action::function(move |item: Item| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(Outcome::emit(item))
    });
    let (source, context) = (MemorySource::named("not yet read").with_batches_of(1), Context::detached());
    let mut stream = read(&source, NoClient.into()).apply(&action, &context);
    assert_eq!((store.tally().reads, calls.load(Ordering::Relaxed)), (0, 0));
    stream.next().await.unwrap().unwrap();
    assert_eq!((store.tally().reads, calls.load(Ordering::Relaxed)), (1, 1));
}
