//! A first record over the limit: what follows it is read as if it had been short.

use nvisy_core::prelude::*;
use nvisy_core::{BatchLimits, ErrorKind};
use nvisy_plugin_object::{ColumnType, Csv, Json, Jsonl, ObjectClient};
use serde_json::json;

use crate::support::{Read, Store, check_resume, read};

/// Longer than what is read at once, also for a sample.
const LONG: usize = 700_000;
const LIMIT: usize = 1_000;

/// Blocks as small as they get.
fn limits() -> BatchLimits {
    BatchLimits::default().with_bytes(1 << 16)
}

async fn got<S: Source<Client = ObjectClient>>(store: &Store, source: &S) -> Read {
    read(source, store.client().await, limits()).await.unwrap()
}

#[tokio::test]
async fn a_first_element_over_the_limit_is_rejected_alone() {
    let long = format!("{{\"t\":\"{}\"}}", "x".repeat(LONG));
    let [a, b] = ["{\"t\":\"a\"}", "{\"t\":\"b\"}"];
    let list = format!("[{}]", "1,".repeat(LONG / 2) + "1");
    for (place, text) in [
        (1, format!("[{long},{a},\n{b}]")),
        (4, format!(" \n[\n{long}\n,\n{a}\n,{b}\n]\n")),
        (1, format!("[{list},{a},{b}]")),
        (1, format!("[{long}{a}{b}]")),
        (0, format!("{long}\n{a}\n{b}\n")),
        (0, format!("{long}{a}{b}")),
    ] {
        let store = Store::new();
        store.put("a.json", &text);
        let begin: String = text.chars().take(20).collect();
        for source in [Json::path("a.json"), Json::path("a.json").column("t", ColumnType::Text)] {
            let source = source.max_record(LIMIT);
            let got = got(&store, &source).await;
            assert!(got.error.is_none(), "{begin}: {:?}", got.error);
            assert_eq!(got.items, [json!({"t": "a"}), json!({"t": "b"})], "{begin}");
            assert_eq!(got.rejected.len(), 1, "{begin}: {:?}", got.rejected);
            assert_eq!(got.rejected[0].0, place, "{begin}");
            assert!(got.rejected[0].1.contains("longer than 1000 bytes: raise `max_record`"));
            for limits in [limits(), BatchLimits { items: 1, ..limits() }] {
                check_resume(&store, &source, limits).await;
            }
        }
    }
}

#[tokio::test]
async fn what_follows_a_first_element_over_the_limit_is_held_to_what_the_object_is() {
    let store = Store::new();
    let long = format!("{{\"t\":\"{}\"}}", "x".repeat(LONG));
    let open = long.strip_suffix("\"}").unwrap();
    let check = async |text: String, items: usize, rejected: usize, error: Option<&str>| {
        store.put("a.json", &text);
        let begin: String = text.chars().take(5).collect();
        let end = &text[text.len() - 20..];
        let source = Json::path("a.json").column("t", ColumnType::Text).max_record(LIMIT);
        let got = got(&store, &source).await;
        assert_eq!((got.items.len(), got.rejected.len()), (items, rejected), "{begin}…{end}: {got:?}");
        let told = got.error.as_ref().map(Error::message).unwrap_or_default();
        assert!(told.contains(error.unwrap_or_default()), "{begin}…{end}: {told}");
        assert_eq!(got.error.is_some(), error.is_some(), "{begin}…{end}: {told}");
    };
    check(format!("[{long}]"), 0, 1, None).await;
    check(format!("[{long},{long},{{\"t\":\"a\"}}]"), 1, 2, None).await;
    // A list is an element as any other, and no array of its own.
    check(format!("[{long},[{{\"t\":\"a\"}}],{{\"t\":\"b\"}}]"), 1, 2, None).await;
    check(format!("{long} [{{\"t\":\"a\"}}] {{\"t\":\"b\"}}"), 1, 2, None).await;
    check(format!("[{long},{{\"t\":\"a\"}}"), 1, 1, Some("the array does not end")).await;
    check(format!("[{long}, "), 0, 1, Some("the array does not end")).await;
    check(format!("[{open}"), 0, 1, Some("the array does not end")).await;
    check(format!("[{long},{{\"t\":\"a\"}}] {{\"t\":\"b\"}}"), 1, 1, Some("something behind the array"))
        .await;
    check(open.to_owned(), 0, 1, None).await;
}

#[tokio::test]
async fn a_sample_sees_what_follows_a_first_element_over_the_limit_as_it_is_read() {
    let store = Store::new();
    let long = format!("{{\"t\":\"{}\"}}", "x".repeat(LONG));
    store.put("a.json", format!("[{long},[{{\"u\":1}}],{{\"t\":\"a\"}}]"));
    let got = got(&store, &Json::path("a.json").max_record(LIMIT)).await;
    assert_eq!(got.items, [json!({"t": "a"})], "an element of a list within is no record");
}

#[tokio::test]
async fn a_first_line_over_the_limit_is_rejected_alone() {
    let store = Store::new();
    let long = "x".repeat(LONG);
    store.put("a.jsonl", format!("{{\"t\":\"{long}\"}}\n{{\"t\":\"a\"}}\n"));
    store.put("a.csv", format!("{long},1\na,2\n"));
    let lines = Jsonl::path("a.jsonl").max_record(LIMIT);
    let fields = Csv::path("a.csv").header(false).max_record(LIMIT);
    let (first, second) = (got(&store, &lines).await, got(&store, &fields).await);
    assert_eq!(first.items, [json!({"t": "a"})]);
    assert_eq!(second.items, [json!({"column_1": "a", "column_2": 2})]);
    for got in [first, second] {
        assert!(got.error.is_none(), "{:?}", got.error);
        assert_eq!(got.rejected.len(), 1);
        assert_eq!(got.rejected[0].0, 0);
    }
    check_resume(&store, &lines, limits()).await;
    check_resume(&store, &fields, limits()).await;
}

/// Checks that a CSV object of rows behind a header that cannot be told fails, however much is
/// read at once.
async fn check_header(text: &str, place: &str, fault: &str) {
    let store = Store::new();
    store.put("a.csv", text);
    let typed = Csv::path("a.csv").column("n", ColumnType::Int).column("t", ColumnType::Text);
    for source in [Csv::path("a.csv"), typed.clone(), typed.drift(nvisy_plugin_object::Drift::Ignore)] {
        let source = source.max_record(100_000);
        for limits in [limits(), BatchLimits::default().with_bytes(8 << 20)] {
            let got = read(&source, store.client().await, limits).await.unwrap();
            let error = got.error.unwrap_or_else(|| panic!("{} items were read", got.items.len()));
            assert_eq!(error.kind(), ErrorKind::Validation, "{error}");
            let told = [&format!("object \"a.csv\" cannot be read: {place}"), ": the header is ", fault];
            assert!(told.iter().all(|told| error.message().contains(*told)), "{error}");
            assert_eq!((got.items.len(), got.rejected.len()), (0, 0));
        }
    }
}

#[tokio::test]
async fn a_header_over_the_limit_fails_its_object_and_loses_no_row() {
    let rows = "1,ordinary\n".repeat(60_000);
    let remedy = "is longer than 100000 bytes: close its quotes, or raise `max_record`";
    check_header(&format!("n,{}\n{rows}", "t".repeat(LONG)), "line 1, byte 0", remedy).await;
    check_header(&format!("\n\r\nn,{}\n{rows}", "t".repeat(LONG)), "line 3, byte 3", remedy).await;
    check_header(&format!("n,{}", "t".repeat(LONG)), "line 1, byte 0", remedy).await;
}

#[tokio::test]
async fn a_header_with_a_stray_quote_fails_its_object_and_loses_no_row() {
    for rows in [1, 60_000] {
        let rows = "1,ordinary\n".repeat(rows);
        check_header(&format!("n,\"t\n{rows}"), "line 1, byte ", "quote").await;
    }
    check_header("\"n\n1,\"x\"\n2,\"y\"\n", "line 2, byte 6", "behind a closing quote").await;
    check_header("n,\"t\"s\n1,x\n", "line 1, byte 5", "behind a closing quote").await;
}

#[tokio::test]
async fn a_header_that_cannot_be_told_names_no_columns_of_other_objects() {
    let store = Store::new();
    let rows = "1,ordinary\n".repeat(60_000);
    for bad in [format!("n,\"t\n{rows}"), "n,\"t\n1,x\n".to_owned()] {
        store.put("1.csv", bad).put("2.csv", "n,t\n7,good\n");
        let got = got(&store, &Csv::all().max_record(100_000)).await;
        assert_eq!(got.items, [json!({"n": 7, "t": "good"})]);
        assert!(got.error.unwrap().message().contains("\"1.csv\""));
    }
}
