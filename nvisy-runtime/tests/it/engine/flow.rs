//! Where items go.

use std::time::Duration;

use futures::StreamExt;
use nvisy_core::DeadLetter;
use nvisy_core::prelude::*;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::testing::memory::{Form, MemoryStore};
use nvisy_runtime::engine::{NodeStatus, RunStatus};
use serde_json::json;

use crate::fixture::*;

#[tokio::test(start_paused = true)]
async fn what_a_source_reads_arrives_in_order_and_is_acknowledged() {
    let store = unique("out");
    let report = run(json!({ "in": batches(10, 3), "out": sink(&store, "in") })).await;

    assert_eq!(report.status, RunStatus::Success, "{report}");
    let arrived: Vec<_> =
        MemoryStore::named(&store).plain().iter().map(|item| item["n"].as_u64().unwrap()).collect();
    assert_eq!(arrived, all(10));
    assert_eq!(settled_items(&report), 10);
    assert_eq!(report.partitions[0].position, Some(Position::Offset(9)));
    assert_eq!((node(&report, "in").received, node(&report, "out").emitted_from), (10, 10));
}

#[tokio::test(start_paused = true)]
async fn every_form_of_action_emits_expands_and_drops() {
    for form in Form::ALL {
        let store = unique("out");
        let work = |item: Item| {
            let of = n(&item);
            Ok(match of % 3 {
                0 => Outcome::emit(item),
                1 => Outcome::expand(
                    &item,
                    "twice",
                    [0, 1].map(|i| Raw::Json(json!({ "n": of * 100 + i })).into_payload()),
                ),
                _ => Outcome::drop("a third"),
            })
        };
        let report =
            run(json!({ "in": batches(9, 4), "act": each(form, "in", work), "out": sink(&store, "act") }))
                .await;

        assert_eq!(report.status, RunStatus::Success, "{form:?}: {report}");
        assert_eq!(written(&store), [0, 3, 6, 100, 101, 400, 401, 700, 701], "{form:?}");
        assert_eq!(settled_items(&report), 9, "{form:?}");
        let act = node(&report, "act");
        assert_eq!((act.received, act.emitted), (9, 9), "{form:?}");
        if form != Form::Pipe {
            assert_eq!((act.emitted_from, act.dropped), (6, 3), "{form:?}");
            assert_eq!(act.dropped_because["a third"], 3);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_branch_sends_each_item_down_its_first_route() {
    let [small, even, rest] = ["small", "even", "rest"].map(unique);
    let report = run(json!({
        "in": batches(10, 4),
        "by": { "type": "branch", "inputs": ["in"], "default": "rest", "routes": [
            { "route": "small", "when": "raw.n < 3" },
            { "route": "even", "when": "raw.n % 2 == 0" },
        ] },
        "small": sink(&small, "by.small"), "even": sink(&even, "by.even"), "rest": sink(&rest, "by.rest"),
    }))
    .await;

    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(written(&small), [0, 1, 2]);
    assert_eq!(written(&even), [4, 6, 8]);
    assert_eq!(written(&rest), [3, 5, 7, 9]);
    assert_eq!(settled_items(&report), 10);
}

#[tokio::test(start_paused = true)]
async fn what_fits_no_route_is_dropped_and_counted_as_that() {
    let store = unique("small");
    let report = run(json!({
        "in": batches(10, 4),
        "by": { "type": "branch", "inputs": ["in"], "routes": { "small": "raw.n < 3" } },
        "small": sink(&store, "by.small"),
    }))
    .await;

    assert_eq!(report.status, RunStatus::Success, "{report}");
    let by = node(&report, "by");
    assert_eq!((by.received, by.emitted_from, by.emitted, by.dropped), (10, 3, 3, 7));
    assert_eq!(by.dropped_because["no route matched"], 7);
    assert_eq!(settled_items(&report), 10);
}

#[tokio::test(start_paused = true)]
async fn an_item_whose_route_cannot_be_found_out_goes_aside() {
    let [big, aside] = ["big", "aside"].map(unique);
    let source = json!({ "type": "source", "use": "memory/source",
        "config": { "items": [{ "n": 1 }, { "n": "x" }, { "n": 3 }] } });
    let report = run(json!({
        "in": source,
        "by": { "type": "branch", "inputs": ["in"], "routes": { "big": "raw.n > 2" } },
        "big": sink(&big, "by.big"), "aside": sink(&aside, "by.dead_letter"),
    }))
    .await;

    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(written(&big), [3]);
    let letter = DeadLetter::from_primitive(&MemoryStore::named(&aside).items()[0]).unwrap();
    assert_eq!(&*letter.node, "by");
    assert_eq!((node(&report, "by").dropped, node(&report, "by").dead_lettered), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_fan_out_gives_everyone_everything_and_a_fan_in_takes_it_all() {
    let [left, both] = ["left", "both"].map(unique);
    let more = |item: Item| {
        let of = n(&item);
        Ok(Outcome::emit(item.derive("more", 0, Raw::Json(json!({ "n": of + 100 })).into_payload())))
    };
    let report = run(json!({
        "in": batches(5, 2),
        "copies": { "type": "fan_out", "inputs": ["in"] },
        "left": sink(&left, "copies"),
        "more": each(Form::Batch, "copies", more),
        "same": each(Form::Transform, "copies", |item| Ok(Outcome::emit(item))),
        "all": { "type": "fan_in", "inputs": ["more", "same"] },
        "both": sink(&both, "all"),
    }))
    .await;

    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(written(&left), all(5));
    assert_eq!(written(&both), [0, 1, 2, 3, 4, 100, 101, 102, 103, 104]);
    assert_eq!(settled_items(&report), 5);
    let copies = node(&report, "copies");
    assert_eq!((copies.received, copies.emitted_from, copies.emitted), (5, 5, 15));
}

#[tokio::test(start_paused = true)]
async fn a_best_effort_copy_that_fails_holds_nobody_up_and_the_run_says_so() {
    let store = unique("good");
    let report = run(json!({
        "in": batches(6, 2),
        "copies": { "type": "fan_out", "inputs": ["in"], "best_effort": ["bad"] },
        "good": sink(&store, "copies"),
        "bad": write("copies", |_| async { Err(Error::new(ErrorKind::Permission, "no")) }),
    }))
    .await;

    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(written(&store), all(6));
    assert_eq!(settled_items(&report), 6);
    assert!(report.warnings.iter().any(|warning| warning.contains("\"bad\"")), "{:?}", report.warnings);
}

#[tokio::test(start_paused = true)]
async fn a_best_effort_copy_that_lags_misses_what_it_has_no_room_for() {
    let store = unique("good");
    let report = run(json!({
        "in": batches(40_000, 1_000),
        "copies": { "type": "fan_out", "inputs": ["in"], "best_effort": ["slow"] },
        "good": sink(&store, "copies"),
        "slow": write("copies", |items| async move {
            tokio::time::sleep(std::time::Duration::from_secs(20)).await;
            Ok(WriteReport::applied(items.len()))
        }),
    }))
    .await;

    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(MemoryStore::named(&store).len(), 40_000);
    assert_eq!(settled_items(&report), 40_000);
    let (missed, took) = (node(&report, "copies").missed, node(&report, "slow").received);
    assert!(missed > 10_000, "{report}");
    assert_eq!(missed + took, 40_000);
    assert!(report.warnings.iter().any(|warning| warning.contains("missed")), "{:?}", report.warnings);
}

#[tokio::test(start_paused = true)]
async fn partitions_are_read_side_by_side_and_settled_apart() {
    let store = unique("out");
    let source = with(batches(20, 3), json!({ "config": { "partitions": 4 }, "concurrency": 2 }));
    let report = run(json!({ "in": source, "out": sink(&store, "in") })).await;

    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(written(&store), all(20));
    let mut marks: Vec<_> =
        report.partitions.iter().map(|p| (p.partition.to_string(), p.position.clone(), p.items)).collect();
    marks.sort_by(|a, b| a.0.cmp(&b.0));
    let expected: Vec<_> = (0..4).map(|p| (p.to_string(), Some(Position::Offset(16 + p)), 5)).collect();
    assert_eq!(marks, expected);
}

#[tokio::test(start_paused = true)]
async fn a_function_is_an_action_by_name() {
    let store = unique("out");
    let engine = builder()
        .function("double", |item: Item<Raw>| {
            let n = item.as_json().and_then(|json| json["n"].as_u64()).unwrap_or(0);
            Ok(if n == 3 {
                Outcome::drop("three")
            } else {
                Outcome::emit(item.with(Raw::Json(json!({ "n": n * 2 }))))
            })
        })
        .build()
        .unwrap();
    let graph = graph(json!({
        "in": numbers(5),
        "act": { "type": "action", "use": "fn/double", "inputs": ["in"] },
        "out": sink(&store, "act"),
    }));
    let report = run_on(&engine, &graph).await;

    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(written(&store), [0, 2, 4, 8]);
}

#[tokio::test(start_paused = true)]
async fn a_key_decides_about_ids() {
    let store = unique("out");
    let items: Vec<_> = [7, 8, 7, 9].map(|n| json!({ "n": n })).into();
    let source =
        json!({ "type": "source", "use": "memory/source", "key": "raw.n", "config": { "items": items } });
    let report = run(json!({ "in": source, "out": sink(&store, "in") })).await;

    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(written(&store), [7, 8, 9], "the same key is the same item");
    assert_eq!(node(&report, "out").emitted_from, 4);
}

#[tokio::test(start_paused = true)]
async fn an_item_without_its_key_goes_aside_and_the_rest_arrives() {
    let [store, aside] = ["out", "aside"].map(unique);
    let source = json!({ "type": "source", "use": "memory/source", "key": "raw.k",
        "config": { "items": [{ "n": 0, "k": "a" }, { "n": 1, "k": null }, { "n": 2, "k": "c" }] } });
    let report =
        run(json!({ "in": source, "out": sink(&store, "in"), "aside": sink(&aside, "in.dead_letter") }))
            .await;

    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(written(&store), [0, 2]);
    assert_eq!((MemoryStore::named(&aside).len(), settled_items(&report)), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn no_item_one_item_and_a_batch_above_every_limit_work() {
    for items in [0, 1, 30_000] {
        let store = unique("out");
        // More items than an edge holds, in one batch.
        let source = with(batches(items, 30_000), json!({ "batch": { "items": 30_000 } }));
        let report = run(json!({
            "in": source,
            "act": with(each(Form::Batch, "in", |item| Ok(Outcome::emit(item))), json!({ "config": { "calls": "none" } })),
            "out": sink(&store, "act"),
        }))
        .await;

        assert_eq!(report.status, RunStatus::Success, "{report}");
        assert_eq!(MemoryStore::named(&store).len() as u64, items);
        assert_eq!(settled_items(&report), items);
        assert!(report.nodes.iter().all(|node| node.status == NodeStatus::Completed));
        assert_eq!(MemoryStore::named(&store).tally().closes, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_without_partitions_is_an_empty_one() {
    let store = unique("out");
    let report = run(json!({ "in": scripted(vec![]), "out": sink(&store, "in") })).await;
    assert_eq!(report.status, RunStatus::Success, "{report}");
}

#[tokio::test(start_paused = true)]
async fn concurrent_calls_keep_the_order() {
    let store = unique("out");
    let work = |items: Vec<Item>, _| async move {
        // The first ones take longest.
        tokio::time::sleep(std::time::Duration::from_millis(100 - n(&items[0]))).await;
        Ok(items.into_iter().map(Outcome::emit).collect())
    };
    for form in [Form::Transform, Form::Batch] {
        MemoryStore::named(&store).clear();
        let act = with(act(form, "in", work), json!({ "concurrency": 8 }));
        run(json!({ "in": batches(50, 2), "act": act, "out": sink(&store, "act") })).await;
        let arrived: Vec<_> =
            MemoryStore::named(&store).plain().iter().map(|item| item["n"].as_u64().unwrap()).collect();
        assert_eq!(arrived, all(50), "{form:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn partitions_may_claim_any_number_of_items() {
    let [a, b] = ["a", "b"].map(unique);
    let claiming = || {
        let script = (0..3).map(|n| vec![Step::Give(n * 2..n * 2 + 2), Step::Sleep(Duration::from_secs(1))]);
        with(scripted(script.collect()), json!({ "config": { "claims": u64::MAX } }))
    };
    let graph = graph(json!({
        "a": claiming(), "b": claiming(), "to_a": sink(&a, "a"), "to_b": sink(&b, "b"),
    }));
    let run = engine().start(&graph).await.unwrap();
    let progress = run.progress(Duration::from_millis(500));
    let expected: Vec<_> = progress.map(|progress| progress.expected).collect().await;
    assert!(expected.contains(&Some(u64::MAX)), "{expected:?}");
    let report = within(run.wait()).await.unwrap();
    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!((written(&a), written(&b)), (all(6), all(6)));
}

/// Two parts, whose offsets begin anew in each where they are not named after it.
#[derive(Clone, Debug, serde::Deserialize, schemars::JsonSchema, serde::Serialize)]
struct Shards {
    named: bool,
}

impl Source for Shards {
    const NAME: &'static str = "test/shards";
    type Output = Raw;
    type Client = NoClient;

    fn identity(&self, _: &NoClient) -> SourceIdentity {
        SourceIdentity::new("test/shards")
    }

    async fn partitions(&self, _: &OpenContext) -> Result<Vec<Partition>> {
        Ok(["east", "west"].map(Partition::new).to_vec())
    }

    fn read(
        &self,
        partition: &Partition,
        _: Option<Position>,
        context: &ReadContext,
    ) -> impl futures::Stream<Item = Result<SourceBatch>> + Send {
        let object = self.named.then(|| partition.id.clone());
        let items = [0, 1, 2].map(|n| Raw::Json(json!({ "n": n })));
        let positions = Positions::Sequence { object, start: 0 };
        futures::stream::iter([context.items(items, positions, Position::Offset(2))])
    }
}

#[tokio::test(start_paused = true)]
async fn partitions_that_give_one_position_fail_the_run_instead_of_losing_items() {
    for named in [true, false] {
        let out = unique("out");
        let source = json!({ "type": "source", "use": "test/shards", "config": { "named": named } });
        let engine = builder().source::<Shards>().build().unwrap();
        let report = run_on(&engine, &graph(json!({ "in": source, "out": sink(&out, "in") }))).await;
        assert_eq!(report.is_success(), named, "{report}");
        if named {
            assert_eq!(MemoryStore::named(&out).items().len(), 6);
        } else {
            let told = report.to_string();
            assert!(told.contains("\"east\" and \"west\" both have an item at offset 0"), "{told}");
        }
    }
}
