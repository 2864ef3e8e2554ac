//! Searching collections.

use std::future::Future;
use std::task::Poll;

use nvisy_core::prelude::*;
use nvisy_core::primitive::embedding::Metric;
use nvisy_plugin_vector::{Filter, Hit, Search, SqliteSink};
use serde_json::json;

use crate::index::{Index, document, embedding, filled, item, samples, write};

fn uris(hits: &[Hit]) -> Vec<&str> {
    hits.iter().map(|hit| hit.source_uri.as_deref().unwrap()).collect()
}

#[tokio::test]
async fn the_nearest_come_first_by_every_metric() {
    let cases = [
        (Metric::Cosine, ["owner.md", "borrow.md", "trait.md", "unwrap.md"], [1.0, 0.993_883_7]),
        (Metric::L2, ["owner.md", "borrow.md", "trait.md", "unwrap.md"], [0.0, -0.141_421_36]),
        (Metric::Dot, ["owner.md", "borrow.md", "trait.md", "unwrap.md"], [1.0, 0.9]),
    ];
    for (metric, order, scores) in cases {
        let index = Index::new();
        let client = index.client().await;
        let sink = SqliteSink::collection("docs").create().metric(metric);
        write(&sink, &client, &Batch::from_primitives(samples())).await.unwrap();
        let hits = Search::by_vector([1.0, 0.0, 0.0]).run(&client, "docs").await.unwrap();
        assert_eq!(uris(&hits)[..2], order[..2], "{metric:?}");
        assert_eq!(hits.len(), 4);
        for (hit, score) in hits.iter().zip(scores) {
            assert!((hit.score - score).abs() < 1e-6, "{metric:?}: {} for {score}", hit.score);
        }
        let two = Search::by_vector([1.0, 0.0, 0.0])
            .k(2)
            .filter(Filter::eq("year", 2022))
            .run(&client, "docs")
            .await
            .unwrap();
        assert_eq!(uris(&two), ["trait.md"], "{metric:?}");
    }
}

#[tokio::test]
async fn a_hit_knows_where_it_came_from() {
    let (_index, client) = filled().await;
    let hits = Search::by_text("who owns a value?").run(&client, "docs").await.unwrap();
    let (hit, sample) = (&hits[0], &samples()[0]);
    assert_eq!(hit.id, sample.id());
    assert_eq!(hit.root, sample.root().map(|root| root.id));
    assert_eq!(hit.lineage, sample.lineage().records());
    assert_eq!(hit.text.as_deref(), Some("Every value has an owner; ownership moves."));
    assert_eq!(hit.title.as_deref(), Some("Title of owner.md"));
    assert_eq!(hit.byte_range, Some(7..49));
    assert_eq!(hit.chunk, Some(3));
    assert_eq!(hit.attributes["year"], 2020);
    assert!(hit.score > 0.0);
}

#[tokio::test]
async fn words_are_found_in_their_other_forms() {
    let (_index, client) = filled().await;
    for (question, uri) in [
        ("How do the BORROW-CHECKERS compare a scope?", "borrow.md"),
        ("unwrap_or_else", "unwrap.md"),
        ("defining traits", "trait.md"),
    ] {
        let hits = Search::by_text(question).run(&client, "docs").await.unwrap();
        assert_eq!(hits.first().and_then(|hit| hit.source_uri.as_deref()), Some(uri), "{question}");
    }
}

#[tokio::test]
async fn a_question_is_never_taken_for_a_query() {
    let (_index, client) = filled().await;
    for question in [
        "\"",
        "NEAR(",
        "title:x",
        "a AND",
        "* ^ - + ( ) { }",
        "'; DROP TABLE nvisy_points_1; --",
        "\0",
        "",
        "   ",
        "trait OR",
        "\" OR trait",
        "text : trait",
        "🦀",
    ] {
        Search::by_text(question).run(&client, "docs").await.unwrap();
    }
    assert_eq!(client.count("docs").await.unwrap(), 4);
    assert!(Search::by_text("nothing of the sort").run(&client, "docs").await.unwrap().is_empty());
}

#[tokio::test]
async fn both_rankings_are_fused() {
    let (_index, client) = filled().await;
    let hits = Search::hybrid([0.0, 1.0, 0.0], "borrow checker").run(&client, "docs").await.unwrap();
    assert_eq!(hits.len(), 4);
    assert_eq!(uris(&hits)[0], "borrow.md");
    assert!(hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
    let one = Search::hybrid([0.0, 1.0, 0.0], "borrow checker").k(1).run(&client, "docs").await.unwrap();
    assert_eq!(one[0].id, hits[0].id);
}

#[tokio::test]
async fn filters_choose_what_is_searched() {
    let (_index, client) = filled().await;
    let cases: Vec<(Filter, &[&str])> = vec![
        (Filter::eq("year", 2020), &["owner.md"]),
        (Filter::eq("year", 2020.0), &["owner.md"]),
        (Filter::eq("year", "2020"), &[]),
        (Filter::eq("draft", true), &["owner.md"]),
        (Filter::eq("draft", 1), &[]),
        (Filter::eq("tag", serde_json::Value::Null), &["unwrap.md"]),
        (Filter::is_in("year", [2020, 2022]), &["owner.md", "trait.md"]),
        (Filter::is_in("year", Vec::<i64>::new()), &[]),
        (Filter::between("year", 2020, 2021), &["borrow.md", "owner.md"]),
        (Filter::at_least("tag", "w"), &["borrow.md"]),
        (Filter::at_most("source_uri", "owner.md"), &["borrow.md", "owner.md"]),
        (Filter::eq("title", "Title of trait.md"), &["trait.md"]),
        (
            Filter::eq("chunk", 3).and(Filter::eq("language", "en")).and(Filter::at_least("year", 2022)),
            &["trait.md"],
        ),
        (Filter::eq("year", 2020).or(Filter::eq("tag", "x")), &["borrow.md", "owner.md"]),
        (Filter::at_least("year", 0).negate(), &["unwrap.md"]),
        (Filter::eq("attributes./deep/a~1b/1", "z"), &["trait.md"]),
        (Filter::eq("attributes./deep/a~1b/0", 1), &["trait.md"]),
        (Filter::eq("attributes./year/x", 1), &[]),
        (Filter::eq("weird') OR 1=1; --", "x"), &["unwrap.md"]),
        (Filter::eq("x') OR 1=1; --", "x"), &[]),
        (Filter::eq("run", serde_json::Value::Null), &["borrow.md", "owner.md", "trait.md", "unwrap.md"]),
        (Filter::All(vec![]), &["borrow.md", "owner.md", "trait.md", "unwrap.md"]),
        (Filter::Any(vec![]), &[]),
    ];
    for (filter, expected) in cases {
        let by_vector =
            Search::by_vector([1.0, 1.0, 1.0]).filter(filter.clone()).run(&client, "docs").await.unwrap();
        let mut found = uris(&by_vector);
        found.sort_unstable();
        assert_eq!(found, expected, "{filter:?}");
        let json = serde_json::to_value(&filter).unwrap();
        assert_eq!(serde_json::from_value::<Filter>(json).unwrap(), filter);
    }
    let by_text =
        Search::by_text("owner trait").filter(Filter::eq("year", 2022)).run(&client, "docs").await.unwrap();
    assert_eq!(uris(&by_text), ["trait.md"]);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let (_index, client) = filled().await;
    let cases = [
        (Search::by_vector([1.0]), "`vector`: has 1 dimensions, the collection \"docs\" has 3"),
        (Search::by_vector([f32::NAN, 0.0, 0.0]), "`vector`: holds something that is no finite number"),
        (Search::by_text("x").k(0), "`k`: is 0"),
        (Search::by_text("x").k(5_000), "`k`: is 5000"),
        (Search::by_text("x").filter(Filter::eq("a", json!([1]))), "`filter.eq.value`"),
    ];
    for (search, message) in cases {
        let error = search.run(&client, "docs").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Validation);
        assert!(error.message().contains(message), "{error}");
    }
    let error = Search::by_text("x").run(&client, "nothing").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(Search::by_vector([0.0; 3]).run(&client, "docs").await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_hit_shows_is_what_was_found() {
    let one = |text: &str, vector: [f32; 2]| {
        let document = document(text, &format!("{text}.md"), &json!({}));
        Batch::from_primitives(vec![item(text, embedding(&vector, Some(document)))])
    };
    let sink = SqliteSink::collection("docs").create();
    let (by_text, by_vector) = (Search::by_text("alpha"), Search::by_vector([1.0, 0.0]));
    for search in [by_text.clone(), by_vector.clone()] {
        // How often it gives way is the machine's business.
        let (mut between, mut steps) = (0, 0);
        for tries in 1.. {
            assert!(tries < 1_000, "nothing ever came between");
            steps += 1;
            let index = Index::new();
            let client = index.client().await;
            let first = one("alpha", [1.0, 0.0]);
            write(&sink, &client, &first).await.unwrap();

            let mut searching = std::pin::pin!(search.run(&client, "docs"));
            let mut polls = 0;
            let some = std::future::poll_fn(|cx| match searching.as_mut().poll(cx) {
                Poll::Ready(hits) => Poll::Ready(Some(hits)),
                Poll::Pending => {
                    polls += 1;
                    if polls < steps { Poll::Pending } else { Poll::Ready(None) }
                }
            });
            let done = some.await;
            let is_done = done.is_some();
            // Meanwhile another one takes its place, and its row id.
            let root = first.iter().next().unwrap().root().unwrap().id;
            assert_eq!(client.delete_by_root("docs", root).await.unwrap(), 1);
            write(&sink, &client, &one("beta", [0.0, 1.0])).await.unwrap();
            let hits = match done {
                Some(hits) => hits.unwrap(),
                None => searching.await.unwrap(),
            };
            for hit in hits {
                let score = match (hit.text.as_deref(), &search) {
                    (Some("alpha"), by) if *by == by_text => hit.score,
                    (Some("alpha"), _) => 1.0,
                    (Some("beta"), by) if *by == by_vector => 0.0,
                    other => panic!("after {steps} steps: {other:?}"),
                };
                assert!((hit.score - score).abs() < 1e-6, "after {steps} steps: {hit:?}");
                between += u32::from(!is_done && hit.text.as_deref() == Some("alpha"));
            }
            match (is_done, between) {
                (true, 0) => steps = 0,
                (true, _) => break,
                (false, _) => {}
            }
        }
    }
}

#[tokio::test]
async fn the_number_of_a_collection_that_is_gone_is_nobody_elses() {
    let (index, client) = filled().await;
    let pool = sqlx::SqlitePool::connect(index.path().to_str().unwrap()).await.unwrap();
    let number = || async {
        let number = sqlx::query_scalar("SELECT number FROM nvisy_collections WHERE name = 'docs'");
        number.fetch_one(&pool).await.map(|number: i64| number).unwrap()
    };
    let first = number().await;
    assert!(client.drop_collection("docs").await.unwrap());
    write(&SqliteSink::collection("docs").create(), &client, &Batch::from_primitives(samples()))
        .await
        .unwrap();
    assert_ne!(number().await, first);
}
