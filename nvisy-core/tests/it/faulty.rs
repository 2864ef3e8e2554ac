//! Every fault does at every site what it says.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use nvisy_core::Spill;
use nvisy_core::outcome::Attribution;
use nvisy_core::plugin::{AnyClient, ErasedActionConfig, ErasedSinkConfig, ErasedSource};
use nvisy_core::prelude::*;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::testing::faulty::{self, Fault, FaultKind, Fired, Script, Site};
use nvisy_core::testing::memory::{Form, MemorySink, MemorySource, MemoryStore, Relay};
use serde_json::json;

/// What a call came to.
#[derive(Debug, PartialEq)]
enum End {
    Good,
    Error(ErrorKind),
    Hung,
    Panicked,
}

async fn end<T>(call: impl Future<Output = Result<T>>) -> End {
    let patient = tokio::time::timeout(Duration::from_secs(3_600), call);
    match std::panic::AssertUnwindSafe(patient).catch_unwind().await {
        Ok(Ok(Ok(_))) => End::Good,
        Ok(Ok(Err(error))) => End::Error(error.kind()),
        Ok(Err(_)) => End::Hung,
        Err(_) => End::Panicked,
    }
}

fn expected(kind: FaultKind) -> End {
    match kind {
        FaultKind::Retryable | FaultKind::Partial => End::Error(ErrorKind::Connection),
        FaultKind::Terminal => End::Error(ErrorKind::Permission),
        FaultKind::AmbiguousApplied | FaultKind::AmbiguousNotApplied => End::Error(ErrorKind::Ambiguous),
        FaultKind::Hang => End::Hung,
        FaultKind::Panic => End::Panicked,
        FaultKind::Slow => End::Good,
    }
}

fn numbers(range: std::ops::Range<u64>) -> Batch {
    range.map(|n| Item::detached(&n.to_string(), Raw::Json(n.into()))).collect()
}

fn limits() -> BatchLimits {
    BatchLimits::items(4)
}

async fn read(source: Arc<dyn ErasedSource>, after: Option<Position>) -> (Vec<u64>, Option<Error>) {
    let stream = source.read(Partition::whole(), after, Context::detached(), AnyClient::none(), limits());
    let (mut found, mut failed) = (Vec::new(), None);
    let mut stream = stream;
    while let Some(read) = stream.next().await {
        match read {
            Ok(read) => found.extend(read.batch.iter().map(|item| match item.root().unwrap().position {
                Position::Offset(offset) => offset,
                other => panic!("{other}"),
            })),
            Err(error) => failed = Some(error),
        }
    }
    (found, failed)
}

#[tokio::test(start_paused = true)]
async fn a_source_meets_every_fault_and_goes_on_behind_what_it_gave() {
    for kind in FaultKind::ALL {
        let script = Script::new();
        script.inject(Site::Read, 2, kind);
        script.inject(Site::Partitions, 1, kind);
        let inner = Arc::new(MemorySource::raw((0..10).map(|n| json!(n))));
        let source = faulty::source(inner, &script);
        assert_eq!(end(source.partitions(Context::detached(), &AnyClient::none())).await, expected(kind));
        let whole = async {
            let (mut found, mut failed) = read(source.clone(), None).await;
            let first = failed.take().map_or(Ok(()), Err);
            let last = found.last().map(|last| Position::Offset(*last));
            found.extend(read(source.clone(), last).await.0);
            assert_eq!(found[..10], (0..10).collect::<Vec<_>>(), "{kind:?}");
            first
        };
        assert_eq!(end(whole).await, expected(kind));
        let fired =
            [Fired { site: Site::Partitions, call: 1, kind }, Fired { site: Site::Read, call: 2, kind }];
        assert_eq!(script.fired(), fired);
    }
}

#[tokio::test(start_paused = true)]
async fn a_partial_read_gives_the_first_half() {
    let script = Script::new();
    script.inject(Site::Read, 2, FaultKind::Partial);
    let source = faulty::source(Arc::new(MemorySource::raw((0..10).map(|n| json!(n)))), &script);
    let (found, failed) = read(source, None).await;
    assert_eq!((found.len(), failed.unwrap().retry_class()), (6, RetryClass::Transient));
}

#[tokio::test(start_paused = true)]
async fn a_sink_meets_every_fault_and_writes_what_it_says() {
    for kind in FaultKind::ALL {
        for site in [Site::Open, Site::Write, Site::Flush, Site::Close] {
            let name = format!("{site:?} meets {kind:?}");
            let script = Script::new();
            script.inject(site, 1, kind);
            let config: Arc<dyn ErasedSinkConfig> = Arc::new(MemorySink::named(&name));
            let config = faulty::sink_config(config, &script);
            let (context, client) = (Context::detached(), AnyClient::none());
            let run = async {
                let sink = config.open(context.clone(), &client, nvisy_core::Staging::Off).await?;
                let report = sink.write(&numbers(0..5), &context).await?;
                sink.flush(&context).await?;
                sink.close(&context).await?;
                match report.others().first() {
                    Some((_, WriteStatus::Retryable(error))) => Err(error.clone()),
                    _ => Ok(()),
                }
            };
            assert_eq!(end(run).await, expected(kind), "{name}");
            assert_eq!(script.fired(), [Fired { site, call: 1, kind }]);
            let written = MemoryStore::named(&name).plain();
            let expected = match (site, kind) {
                (Site::Open, FaultKind::Slow) => 5,
                (Site::Open, _) => 0,
                (Site::Write, FaultKind::AmbiguousApplied | FaultKind::Slow) => 5,
                (Site::Write, FaultKind::Partial) => 2,
                (Site::Write, _) => 0,
                _ => 5,
            };
            assert_eq!(written.len(), expected, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_partial_write_reports_every_second_item_as_the_error_says() {
    let cases = [
        (Error::new(ErrorKind::Timeout, "slow"), "Retryable"),
        (Error::new(ErrorKind::Validation, "bad"), "Rejected"),
        (Error::new(ErrorKind::Ambiguous, "who knows"), "Ambiguous"),
    ];
    for (error, status) in cases {
        let script = Script::new();
        script.add(Fault::new(Site::Write, 1, FaultKind::Partial).with_error(error));
        let config = MemorySink::named(format!("partly {status}"));
        let open = OpenContext::new(Context::detached(), NoClient.into());
        let inner = SinkConfig::open(&config, &open).await.unwrap();
        let sink = faulty::sink(Arc::new(inner), &script);
        let report = sink.write(&numbers(0..3), open.context()).await.unwrap();
        let others: Vec<_> =
            report.others().iter().map(|(index, status)| (*index, format!("{status:?}"))).collect();
        assert_eq!(others.len(), 2);
        assert!(
            others.iter().all(|(index, found)| index % 2 == 0 && found.starts_with(status)),
            "{others:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_action_meets_every_fault_in_every_form() {
    for kind in FaultKind::ALL {
        for form in Form::ALL {
            let script = Script::new();
            script.inject(Site::Apply, 1, kind);
            let config: Arc<dyn ErasedActionConfig> = Arc::new(Relay::new(form));
            let config = faulty::action_config(config, &script);
            let action =
                config.build(Context::detached(), &AnyClient::none(), Spill::temporary()).await.unwrap();
            let context = Context::detached();
            let batch = numbers(0..5);
            let run = async {
                let applied = futures::stream::iter([Ok(batch)]).apply(&action, &context);
                let applied: Vec<Result<Batch>> = applied.collect().await;
                applied.into_iter().collect::<Result<Vec<_>>>()
            };
            assert_eq!(end(run).await, expected(kind), "{kind:?} in {form:?}");
            assert_eq!(script.fired(), [Fired { site: Site::Apply, call: 1, kind }]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_partial_application_fails_every_second_item() {
    for form in [Form::Batch, Form::Columnar] {
        let script = Script::new();
        script.inject(Site::Apply, 1, FaultKind::Partial);
        let open = OpenContext::new(Context::detached(), NoClient.into());
        let Action::Batch(action) =
            faulty::action(ActionConfig::build(&Relay::new(form), &open).await.unwrap(), &script)
        else {
            panic!("not a batch form");
        };
        let outcomes = action.call(numbers(0..5), open.context()).await.unwrap();
        outcomes.check(5).unwrap();
        assert_eq!(outcomes.attribution, Attribution::Each(vec![1, 3]));
        assert_eq!(outcomes.failed.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 2, 4]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_can_last_and_a_slow_one_be_as_slow_as_wanted() {
    let script = Script::new();
    script.add(Fault::new(Site::Flush, 2, FaultKind::Retryable).for_calls(2));
    script.add(Fault::new(Site::Flush, 4, FaultKind::Slow).with_delay(Duration::from_secs(7)));
    let open = OpenContext::new(Context::detached(), NoClient.into());
    let inner = SinkConfig::open(&MemorySink::named("flushed"), &open).await.unwrap();
    let sink = faulty::sink(Arc::new(inner), &script);
    let mut ends = Vec::new();
    for _ in 0..3 {
        ends.push(end(sink.flush(open.context())).await);
    }
    assert_eq!(ends, [End::Good, End::Error(ErrorKind::Connection), End::Error(ErrorKind::Connection)]);
    let before = tokio::time::Instant::now();
    assert_eq!(end(sink.flush(open.context())).await, End::Good);
    assert_eq!(before.elapsed(), Duration::from_secs(7));
    assert_eq!((script.calls(Site::Flush), script.fired().len()), (4, 3));
}

#[tokio::test(start_paused = true)]
async fn a_graph_can_name_everything_here() {
    let plugin = nvisy_core::testing::plugin();
    let source = plugin.sources().iter().find(|entry| entry.name() == "faulty/source").unwrap();
    let config = json!({"script": "from a graph", "source": {"items": [1, 2, 3]}});
    let source = source.parse(&config).unwrap();
    Script::named("from a graph").inject(Site::Read, 1, FaultKind::Terminal);
    let (found, failed) = read(source, None).await;
    assert_eq!((found.len(), failed.unwrap().kind()), (0, ErrorKind::Permission));

    let nothing = plugin.sources().iter().find(|entry| entry.name() == "faulty/source").unwrap();
    let problems = nothing.parse(&json!({"script": "s", "source": {}})).unwrap_err();
    assert_eq!(problems[0].path, "source");
    for (entry, config) in [
        ("faulty/action", json!({"script": "s", "action": {"form": "columnar"}})),
        ("memory/relay", json!({"calls": "paid"})),
    ] {
        plugin.actions().iter().find(|known| known.name() == entry).unwrap().parse(&config).unwrap();
    }
    for (entry, config) in [
        ("faulty/sink", json!({"script": "s", "sink": {"name": "x", "mode": "append"}})),
        ("memory/sink", json!({"name": "x", "counts_only": true})),
    ] {
        plugin.sinks().iter().find(|known| known.name() == entry).unwrap().parse(&config).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_plugin_meets_faults_under_its_own_names() {
    let script = Script::new();
    script.inject(Site::Read, 1, FaultKind::Retryable);
    let plugin = faulty::plugin(nvisy_core::testing::plugin(), &script);
    let source = plugin.sources().iter().find(|entry| entry.name() == "memory/source").unwrap();
    let (found, failed) = read(source.parse(&json!({"items": [1]})).unwrap(), None).await;
    assert_eq!((found.len(), failed.unwrap().kind()), (0, ErrorKind::Connection));
    let sink = plugin.sinks().iter().find(|entry| entry.name() == "memory/sink").unwrap();
    let sink = sink.parse(&json!({"name": "a whole plugin"})).unwrap();
    sink.open(Context::detached(), &AnyClient::none(), nvisy_core::Staging::Off).await.unwrap();
    let relay = plugin.actions().iter().find(|entry| entry.name() == "memory/relay").unwrap();
    relay
        .parse(&json!({}))
        .unwrap()
        .build(Context::detached(), &AnyClient::none(), Spill::temporary())
        .await
        .unwrap();
    assert_eq!(script.all_calls().into_keys().collect::<Vec<_>>(), [Site::Read, Site::Build, Site::Open]);
}
