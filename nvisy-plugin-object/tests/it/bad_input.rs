//! Records and objects that are broken: the rest arrives, and what does not is named.

use nvisy_core::prelude::*;
use nvisy_core::{BatchLimits, ErrorKind};
use nvisy_plugin_object::{
    Bytes, ColumnType, Csv, Drift, Ipc, IpcSink, Json, Jsonl, JsonlSink, Parquet, ParquetSink, Text,
};
use parquet::file::metadata::{ParquetMetaDataReader, ParquetMetaDataWriter};
use serde_json::{Value, json};

use crate::support::{Read, Store, check_resume, read};

fn check(read: &Read, items: &[Value], rejected: &[(u64, &str)]) {
    assert_eq!(read.items, items);
    assert_eq!(read.rejected.len(), rejected.len(), "{:?}", read.rejected);
    for ((offset, message), (place, says)) in read.rejected.iter().zip(rejected) {
        assert_eq!(offset, place, "{message}");
        assert!(message.contains(says), "{message}");
    }
    assert!(read.error.is_none(), "{:?}", read.error);
}

#[tokio::test]
async fn malformed_lines_are_rejected_with_object_line_and_byte() {
    let store = Store::new();
    let text = b"{\"n\":1}\n{\"n\":\n\n{\"n\":2} {\"n\":3}\n[1]\n{\"n\":\"x\"}\n\xff{\"n\":4}\n{\"n\":5}\n{\"m\":6}\n{\"n\":7}";
    store.put("a.jsonl", text);
    let read = store.read(&Jsonl::path("a.jsonl")).await.unwrap();
    // The sample shows the column `m` too.
    let n = |n: i64| json!({"n": n.to_string(), "m": null});
    check(
        &read,
        &[n(1), json!({"n": "x", "m": null}), n(5), json!({"n": null, "m": 6}), n(7)],
        &[
            (8, "object \"a.jsonl\", line 2, byte 13"),
            (15, "line 4"),
            (31, "line 5"),
            (45, "line 7, byte 45: the text is not UTF-8"),
        ],
    );
    let typed = Jsonl::path("a.jsonl").column("n", ColumnType::Int);
    let read = store.read(&typed).await.unwrap();
    assert_eq!(read.items, [json!({"n": 1}), json!({"n": 5}), json!({"n": 7})]);
    assert!(read.rejected.iter().any(|(_, why)| why.contains("column `n`: this is no int")));
    assert!(read.rejected.iter().any(|(_, why)| why.contains("no column `m`")));
    let loose = store.read(&typed.clone().drift(Drift::Ignore)).await.unwrap();
    assert_eq!(loose.items[2], json!({"n": null}));
    check_resume(&store, &typed, BatchLimits::items(2)).await;
}

#[tokio::test]
async fn a_number_that_no_float_holds_is_rejected_and_not_taken_for_infinity() {
    let store = Store::new();
    store.put("a.jsonl", "{\"x\":1.5}\n{\"x\":1e400}\n{\"x\":-1e999}\n{\"x\":2e300}\n");
    let typed = Jsonl::path("a.jsonl").column("x", ColumnType::Float);
    let read = store.read(&typed).await.unwrap();
    assert_eq!(read.items, [json!({"x": 1.5}), json!({"x": 2e300})]);
    assert_eq!(read.rejected.len(), 2, "{:?}", read.rejected);
    store.put("a.csv", "x\n1.5\n1e400\n2e300\n");
    let read = store.read(&Csv::path("a.csv").column("x", ColumnType::Float)).await.unwrap();
    assert_eq!((read.items.len(), read.rejected.len()), (2, 1), "{:?}", read.rejected);
}

#[tokio::test]
async fn what_is_set_aside_is_the_record_as_it_stands() {
    use futures::StreamExt;
    let store = Store::new();
    store.put("a.jsonl", b"{\"n\":1}\nnot json\n\xff\xfe\n");
    let source = Jsonl::path("a.jsonl");
    let context = crate::support::context(&source, store.client().await, BatchLimits::default());
    let partition = Partition::new("a.jsonl");
    let mut stream = std::pin::pin!(source.read(&partition, None, &context));
    let batch = stream.next().await.unwrap().unwrap();
    let raw: Vec<Value> =
        batch.rejected.iter().map(|r| nvisy_core::testing::plain(r.primitive.payload())).collect();
    assert_eq!(raw[0], json!("not json"));
    assert_eq!(raw[1], json!({"bytes": "//4="}));
}

#[tokio::test]
async fn ragged_rows_and_stray_quotes_are_rejected() {
    let store = Store::new();
    let text = "a,b\n1,x\n2\n3,y,z\n4,\"q\"q\n5,\"two\nlines\"\n6,\"open\n7,w\n";
    store.put("a.csv", text);
    let source = Csv::path("a.csv");
    let read = store.read(&source).await.unwrap();
    check(
        &read,
        &[json!({"a": 1, "b": "x"}), json!({"a": 5, "b": "two\nlines"}), json!({"a": 7, "b": "w"})],
        &[
            (8, "line 3, byte 8: the record has 1 fields, the header 2"),
            (10, "line 4"),
            (16, "behind a closing quote"),
            (37, "line 8, byte 39: a quote opens a field and never closes"),
        ],
    );
    assert_eq!(read.offsets, [4, 23, 45]);
    for limits in [BatchLimits::items(1), BatchLimits::items(2), BatchLimits::default()] {
        check_resume(&store, &source, limits).await;
    }
}

#[tokio::test]
async fn a_field_that_does_not_fit_its_column_is_rejected() {
    let store = Store::new();
    store.put("a.csv", "zip,n\n00501,1\n10001,x\n,\n");
    let source = Csv::path("a.csv").column("zip", ColumnType::Text).column("n", ColumnType::Int);
    let read = store.read(&source).await.unwrap();
    let expected = [json!({"zip": "00501", "n": 1}), json!({"zip": null, "n": null})];
    check(&read, &expected, &[(14, "line 3, byte 20: column `n`: this is no int")]);
    let inferred = store.read(&Csv::path("a.csv").sample(1)).await.unwrap();
    assert_eq!(inferred.items[0], json!({"zip": "00501", "n": 1}), "an id with leading zeros stays text");
}

#[tokio::test]
async fn an_id_that_loses_its_zeros_as_a_number_is_rejected_not_changed() {
    let store = Store::new();
    store.put("a.csv", "zip\n10001\n00501\n");
    let read = store.read(&Csv::path("a.csv").sample(1)).await.unwrap();
    check(&read, &[json!({"zip": 10001})], &[(10, "this is no int")]);
}

#[tokio::test]
async fn a_line_over_the_limit_is_rejected_and_its_neighbours_arrive() {
    let store = Store::new();
    for (long, limit) in [(300, 100), (700_000, 1_000), (700_000, 600_000)] {
        let long = "x".repeat(long);
        store.put("a.jsonl", format!("{{\"t\":\"a\"}}\n{{\"t\":\"{long}\"}}\n{{\"t\":\"b\"}}\n"));
        let source = Jsonl::path("a.jsonl").max_record(limit);
        let limits = BatchLimits::default().with_bytes(1 << 16);
        let got = read(&source, store.client().await, limits).await.unwrap();
        check(
            &got,
            &[json!({"t": "a"}), json!({"t": "b"})],
            &[(10, "line 2, byte 10: the record is longer than")],
        );
        check_resume(&store, &source, limits).await;

        store.put("a.csv", format!("t,u\na,1\n\"{long}\",2\nb,3\n"));
        let got = read(&Csv::path("a.csv").max_record(limit), store.client().await, limits).await.unwrap();
        check(&got, &[json!({"t": "a", "u": 1}), json!({"t": "b", "u": 3})], &[(8, "line 3")]);

        store.put("a.json", format!("[{{\"t\":\"a\"}},\n{{\"t\":\"{long}\"}},{{\"t\":\"b\"}}]"));
        let got = read(&Json::path("a.json").max_record(limit), store.client().await, limits).await.unwrap();
        check(&got, &[json!({"t": "a"}), json!({"t": "b"})], &[(12, "line 2")]);
    }
}

#[tokio::test]
async fn a_quote_that_never_closes_costs_one_line_however_much_follows() {
    let store = Store::new();
    let rest = "1,ordinary\n".repeat(30_000);
    store.put("a.csv", format!("n,t\n0,first\n9,\"open\n{rest}"));
    let source = Csv::path("a.csv").max_record(100_000);
    let limits = BatchLimits::default().with_bytes(1 << 16);
    let got = read(&source, store.client().await, limits).await.unwrap();
    assert_eq!(got.items.len(), 30_001);
    assert_eq!(got.rejected.len(), 1, "{:?}", &got.rejected[..got.rejected.len().min(3)]);
    assert_eq!(got.rejected[0].0, 12);
}

#[tokio::test]
async fn a_byte_order_mark_is_not_part_of_the_data() {
    let store = Store::new();
    store.put("a.jsonl", "\u{feff}{\"n\":1}\n").put("a.csv", "\u{feff}n\n1\n").put("a.md", "\u{feff}# T");
    store.put("a.json", "\u{feff}[{\"n\":1}]");
    check(&store.read(&Jsonl::path("a.jsonl")).await.unwrap(), &[json!({"n": 1})], &[]);
    check(&store.read(&Csv::path("a.csv")).await.unwrap(), &[json!({"n": 1})], &[]);
    check(&store.read(&Json::path("a.json")).await.unwrap(), &[json!({"n": 1})], &[]);
    let text = store.read(&Text::path("a.md")).await.unwrap();
    assert_eq!(text.items[0]["text"], "# T");
    assert_eq!(text.items[0]["byte_range"], json!({"start": 3, "end": 6}));
}

#[tokio::test]
async fn an_empty_object_is_fine() {
    let store = Store::new();
    for key in ["a.jsonl", "a.csv", "a.json", "a.txt", "a.arrow", "b.jsonl.gz", "a.bin"] {
        store.put(key, "");
    }
    store.put("blank.jsonl", "\n \n\r\n").put("header.csv", "a,b\n").put("empty.json", "[ ]");
    check(&store.read(&Jsonl::all().glob("*.jsonl")).await.unwrap(), &[], &[]);
    check(&store.read(&Csv::all()).await.unwrap(), &[], &[]);
    check(&store.read(&Json::all()).await.unwrap(), &[], &[]);
    check(&store.read(&Ipc::all()).await.unwrap(), &[], &[]);
    assert_eq!(store.read(&Text::all()).await.unwrap().items[0]["text"], "");
    assert_eq!(store.read(&Bytes::path("a.bin")).await.unwrap().items[0]["size"], 0);
}

#[tokio::test]
async fn a_cut_container_fails_its_object_by_name() {
    let store = Store::new();
    let rows: String =
        (0..20_000).map(|n| format!("{{\"n\":{n},\"t\":\"text {}\"}}\n", n * 7919 % 10_007)).collect();
    store.put("in.jsonl", rows);
    let source = Jsonl::path("in.jsonl");
    store.copy(&source, &JsonlSink::path("cut.jsonl.gz")).await.unwrap();
    store.copy(&source, &JsonlSink::path("cut.jsonl.zst")).await.unwrap();
    store.copy(&source, &ParquetSink::path("cut.parquet")).await.unwrap();
    store.copy(&source, &IpcSink::path("cut.arrow")).await.unwrap();
    for key in ["cut.jsonl.gz", "cut.jsonl.zst", "cut.parquet", "cut.arrow"] {
        let bytes = std::fs::read(store.path(key)).unwrap();
        let mut arrived = 0;
        for keep in [0.9, 0.5, 0.001] {
            store.put(key, &bytes[..(bytes.len() as f64 * keep) as usize]);
            let read = match key.rsplit('.').next().unwrap() {
                "parquet" => store.read(&Parquet::path(key)).await.unwrap(),
                "arrow" => store.read(&Ipc::path(key)).await.unwrap(),
                _ => store
                    .read(&Jsonl::path(key).column("n", ColumnType::Int).drift(Drift::Ignore))
                    .await
                    .unwrap(),
            };
            let error = read.error.unwrap_or_else(|| panic!("{key} at {keep} was read"));
            assert_eq!(error.kind(), ErrorKind::Validation, "{error:?}");
            assert!(error.message().contains(key), "{error}");
            assert_eq!(error.retry_class(), nvisy_core::RetryClass::Permanent);
            arrived = arrived.max(read.items.len());
        }
        assert!(arrived > 0 || !key.contains("gz"), "what stands before the cut arrives");
    }
    store.put("fake.parquet", "no parquet").put("fake.jsonl.gz", "no gzip").put("fake.arrow", "ARROW1 no");
    assert!(store.read(&Parquet::path("fake.parquet")).await.unwrap().error.is_some());
    assert!(store.read(&Jsonl::path("fake.jsonl.gz")).await.unwrap().error.is_some());
    assert!(store.read(&Ipc::path("fake.arrow")).await.unwrap().error.is_some());
}

#[tokio::test]
async fn damaged_containers_never_panic() {
    let store = Store::new();
    let rows: String = (0..50).map(|n| format!("{{\"n\":{n},\"t\":\"text {n}\"}}\n")).collect();
    store.put("in.jsonl", rows);
    let source = Jsonl::path("in.jsonl");
    store.copy(&source, &ParquetSink::path("a.parquet")).await.unwrap();
    store.copy(&source, &IpcSink::path("a.arrow")).await.unwrap();
    for key in ["a.parquet", "a.arrow"] {
        let bytes = std::fs::read(store.path(key)).unwrap();
        for at in (0..bytes.len()).step_by(29) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x55;
            store.put(key, bytes);
            // A wrong value may go unnoticed; an error names the object.
            let read = if key == "a.parquet" {
                store.read(&Parquet::path(key)).await.unwrap()
            } else {
                store.read(&Ipc::path(key)).await.unwrap()
            };
            assert!(read.error.is_none_or(|error| error.message().contains(key)));
        }
    }
}

/// The Parquet file with a footer whose row groups claim so many rows and bytes.
fn claiming(file: &[u8], rows: i64, bytes: i64) -> Vec<u8> {
    // The writer adds rows up: it writes numbers that it can add, which are replaced then.
    let written = if rows > 1 << 62 { [(1 << 62) + 5, -(1 << 62) - 5] } else { [rows; 2] };
    let metadata =
        ParquetMetaDataReader::new().parse_and_finish(&bytes::Bytes::copy_from_slice(file)).unwrap();
    let groups = metadata.row_groups().iter().cloned().zip(written.into_iter().cycle());
    let groups = groups.map(|(group, rows)| {
        group.into_builder().set_num_rows(rows).set_total_byte_size(bytes).build().unwrap()
    });
    let groups = groups.collect();
    let metadata = metadata.into_builder().set_row_groups(groups).build();
    let mut footer = Vec::new();
    ParquetMetaDataWriter::new(&mut footer, &metadata).finish().unwrap();
    for written in written {
        let (from, to) = (varint(written), varint(rows));
        while let Some(at) = footer.windows(from.len()).position(|bytes| bytes == from && from != to) {
            footer[at..at + from.len()].copy_from_slice(&to);
        }
    }
    [file, &footer].concat()
}

/// A number as the footer writes it.
fn varint(number: i64) -> Vec<u8> {
    let mut left = ((number << 1) ^ (number >> 63)) as u64;
    let mut bytes = Vec::new();
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}

#[tokio::test]
async fn a_footer_that_claims_more_than_there_can_be_fails_its_object_by_name() {
    let store = Store::new();
    let rows: String = (0..30).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    store.put("in.jsonl", rows);
    let sink = ParquetSink::path("a.parquet").row_group_rows(10);
    store.copy(&Jsonl::path("in.jsonl"), &sink).await.unwrap();
    let file = std::fs::read(store.path("a.parquet")).unwrap();
    // Three row groups: the sums of what they claim are beyond any integer.
    store.put("a.parquet", claiming(&file, 10, i64::MAX));
    let read = store.read(&Parquet::path("a.parquet")).await.unwrap();
    assert_eq!((read.items.len(), read.error.is_none()), (30, true), "sizes are no more than a hint");
    for rows in [i64::MAX, (1 << 62) + 1, -1] {
        store.put("a.parquet", claiming(&file, rows, 100));
        let error = store.read(&Parquet::path("a.parquet")).await.unwrap().error.unwrap();
        assert_eq!(error.kind(), ErrorKind::Validation, "{rows}: {error:?}");
        assert!(error.message().contains("a.parquet") && error.message().contains("rows"), "{rows}: {error}");
    }
    // What could be, and is not: it never panics, and what it reads is there.
    store.put("a.parquet", claiming(&file, 1 << 40, 100));
    let read = store.read(&Parquet::path("a.parquet")).await.unwrap();
    assert!(read.error.is_none_or(|error| error.message().contains("a.parquet")));
}

#[tokio::test]
async fn a_json_array_is_read_element_by_element() {
    let store = Store::new();
    store.put(
        "a.json",
        " [ {\"n\": 1, \"s\": \"]}\\\"\"},\n  {\"n\": 2.5, \"s\": null} , 7, {\"n\": x}, {\"n\": 3}\n]\n",
    );
    let source = Json::path("a.json");
    let read = store.read(&source).await.unwrap();
    check(
        &read,
        &[json!({"n": 1.0, "s": "]}\""}), json!({"n": 2.5, "s": null}), json!({"n": 3.0, "s": null})],
        &[(52, "`{` is missing"), (55, "expected value")],
    );
    check_resume(&store, &source, BatchLimits::items(1)).await;
    store.put("one.json", "{\n \"n\": {\"deep\": [1, 2]}\n}\n");
    check(&store.read(&Json::path("one.json")).await.unwrap(), &[json!({"n": {"deep": [1, 2]}})], &[]);
    store.put("many.json", "{\"n\": 1} {\"n\": 2}\n{\"n\": 3}");
    assert_eq!(store.read(&Json::path("many.json")).await.unwrap().items.len(), 3);
}

#[tokio::test]
async fn a_json_array_that_does_not_end_fails_behind_what_there_is() {
    let store = Store::new();
    for (text, items) in [
        ("[{\"n\":1},{\"n\":2}", 2),
        ("[{\"n\":1},{\"n\"", 1),
        ("[", 0),
        ("[{\"n\":1}] x", 1),
        ("[{\"n\":1},{\"n\":[},{\"n\":2}]", 1),
    ] {
        store.put("a.json", text);
        let read = store.read(&Json::path("a.json").column("n", ColumnType::Int)).await.unwrap();
        assert_eq!(read.items.len(), items, "{text}");
        let error = read.error.unwrap();
        assert!(error.message().contains("a.json"), "{error}");
    }
}

#[tokio::test]
async fn objects_of_one_source_share_a_schema() {
    let store = Store::new();
    store.put("d/1.csv", "a,b\n1,x\n").put("d/2.csv", "b,a\ny,2\n").put("d/3.csv", "a\n3\n");
    let read = store.read(&Csv::prefix("d/")).await.unwrap();
    let row = |a: i64, b: Value| json!({"a": a, "b": b});
    check(&read, &[row(1, json!("x")), row(2, json!("y")), row(3, Value::Null)], &[]);
    store.put("d/4.csv", "a,z\n4,?\n");
    let strict = store.read(&Csv::prefix("d/").sample(1)).await.unwrap();
    assert!(strict.error.unwrap().message().contains("no column `z`"));
    let loose = store.read(&Csv::prefix("d/").sample(1).drift(Drift::Ignore)).await.unwrap();
    assert_eq!(loose.items[3], row(4, Value::Null));
}

#[tokio::test]
async fn texts_that_are_not_utf8_or_too_large_are_rejected() {
    let store = Store::new();
    store.put("bad.txt", b"good\n\xffbad").put("large.txt", "x".repeat(100)).put("ok.txt", "ok");
    let read = store.read(&Text::all().max_bytes(50)).await.unwrap();
    assert_eq!(read.items.len(), 1);
    assert!(read.rejected[0].1.contains("object \"bad.txt\", line 2, byte 5"), "{:?}", read.rejected);
    assert!(read.rejected[1].1.contains("\"large.txt\" is larger than 50 bytes"), "{:?}", read.rejected);
}

#[tokio::test]
async fn a_foreign_position_is_refused() {
    let store = Store::new();
    store.put("a.jsonl", "{\"n\":1}\n");
    let source = Jsonl::path("a.jsonl");
    let context = crate::support::context(&source, store.client().await, BatchLimits::default());
    let mut got = Read::default();
    let partition = Partition::new("a.jsonl");
    crate::support::read_partition(&source, &partition, Some(Position::Offset(3)), &context, &mut got).await;
    assert_eq!(got.error.unwrap().kind(), ErrorKind::Configuration);
}

#[tokio::test]
async fn reading_goes_on_only_behind_a_record() {
    let store = Store::new();
    let lines = "{\"n\": 1}\n{\"n\": 2}\n{\"n\": 3}\n";
    store.put("a.jsonl", lines).put("a.json", lines).put("a.csv", "number\n1\n2\n3\n").put("none.jsonl", "");
    let long = format!("{{\"n\": 1, \"long\": \"{}\"}}\n{lines}", "x".repeat(200_000));
    store.put("long.jsonl", long);
    let limits = BatchLimits::default();
    check_goes_on(&store, &Jsonl::path("a.jsonl"), limits, &[9], &[3, 8, 10, 27, 1_000]).await;
    check_goes_on(&store, &Json::path("a.json"), limits, &[9], &[3, 8, 10, 27, 1_000]).await;
    check_goes_on(&store, &Csv::path("a.csv"), limits, &[9], &[0, 3, 8, 13, 1_000]).await;
    check_goes_on(&store, &Jsonl::path("none.jsonl"), limits, &[], &[0, 9]).await;
    let short = Jsonl::path("long.jsonl").column("n", ColumnType::Int).max_record(1_000);
    let small = BatchLimits { bytes: 1_000, ..limits };
    check_goes_on(&store, &short, small, &[0], &[100_000]).await;

    let lines = Jsonl::path("a.jsonl");
    store.copy(&lines, &ParquetSink::path("a.parquet")).await.unwrap();
    store.copy(&lines, &IpcSink::path("a.arrow")).await.unwrap();
    check_goes_on(&store, &Parquet::path("a.parquet"), limits, &[0, 1], &[3, 1_000]).await;
    check_goes_on(&store, &Ipc::path("a.arrow"), limits, &[0, 1], &[3, 1_000]).await;
    store.put("none.arrow", "");
    check_goes_on(&store, &Ipc::path("none.arrow"), limits, &[], &[0]).await;
}

/// Checks that reading goes on behind some bytes of an object, and is refused behind others.
async fn check_goes_on<S: Source<Client = nvisy_plugin_object::ObjectClient>>(
    store: &Store,
    source: &S,
    limits: BatchLimits,
    good: &[u64],
    bad: &[u64],
) {
    let client = store.client().await;
    let context = crate::support::context(source, client.clone(), limits);
    let partitions = source.partitions(&OpenContext::new(Context::detached(), client)).await.unwrap();
    for offset in good.iter().chain(bad) {
        let mut got = Read::default();
        let after = Position::Marker { object: partitions[0].id.clone(), offset: *offset };
        crate::support::read_partition(source, &partitions[0], Some(after), &context, &mut got).await;
        if good.contains(offset) {
            assert!(got.error.is_none() && !got.items.is_empty(), "{} {offset}: {:?}", S::NAME, got.error);
            continue;
        }
        let error = got.error.unwrap_or_else(|| panic!("{} {offset}: {:?}", S::NAME, got.items));
        assert_eq!(error.kind(), ErrorKind::Conflict, "{} {offset}: {error}", S::NAME);
        let told = [format!("has no record at byte {offset}"), format!("has no row {offset}")];
        assert!(told.iter().any(|told| error.message().contains(told)), "{error}");
        assert!(got.items.is_empty(), "{} {offset}: {:?}", S::NAME, got.items);
    }
}

#[tokio::test]
async fn a_header_as_long_as_a_record_may_be_is_refused_at_once() {
    let store = Store::new();
    store.put("a.csv", format!("{}\n1\n", ",".repeat(100_000)));
    let read = store.read(&Csv::path("a.csv")).await.unwrap();
    assert!(read.error.unwrap().message().contains("more than 10000 columns"), "{:?}", read.items.len());
    let keys: String = (0..20_000).map(|n| format!("\"c{n}\":1,")).collect();
    for (name, text) in [
        ("b.jsonl", format!("{{{keys}\"x\":1}}\n")),
        ("c.jsonl", (0..5_001).map(|n| format!("{{\"c{n}\":1,\"d\":{{\"e{n}\":1}}}}\n")).collect()),
    ] {
        store.put(name, text);
        let error = store.read(&Jsonl::path(name)).await.unwrap().error.unwrap();
        assert!(error.message().contains("more than 10000 columns"), "{error}");
    }
}

#[tokio::test]
async fn short_records_of_many_columns_are_decoded_a_part_at_a_time() {
    use futures::StreamExt;
    let store = Store::new();
    let names: String = (0..4_000).map(|n| format!("\"c{n}\":{n},")).collect();
    let empty = 1_500;
    let records = format!("{{{names}\"x\":0}}\n{}", "{}\n".repeat(empty));
    store.put("a.jsonl", &records);
    store.put("a.json", format!("[{}]", records.trim_end().replace('\n', ",")));
    let names: String = (0..4_000).map(|n| format!("c{n},")).collect();
    store.put("a.csv", format!("{names}x\n{}", format!("{}\n", ",".repeat(4_000)).repeat(1_500)));

    async fn count<S: Source<Client = nvisy_plugin_object::ObjectClient>>(
        store: &Store,
        key: &str,
        source: S,
    ) -> usize {
        let context = crate::support::context(&source, store.client().await, BatchLimits::default());
        let partition = Partition::new(key);
        let mut stream = std::pin::pin!(source.read(&partition, None, &context));
        let mut rows = 0;
        while let Some(batch) = stream.next().await {
            rows += batch.unwrap().batch.len();
        }
        rows
    }
    assert_eq!(count(&store, "a.jsonl", Jsonl::path("a.jsonl")).await, empty + 1);
    assert_eq!(count(&store, "a.json", Json::path("a.json")).await, empty + 1);
    assert_eq!(count(&store, "a.csv", Csv::path("a.csv")).await, 1_500);
}

#[tokio::test]
async fn a_buffer_that_claims_more_than_it_can_hold_is_refused() {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use arrow::ipc::CompressionType;
    use arrow::ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
    let column: ArrayRef = std::sync::Arc::new(Int64Array::from_iter_values(0..2_000));
    let rows = RecordBatch::try_from_iter([("n", column)]).unwrap();
    for compression in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        let options = IpcWriteOptions::default().try_with_compression(Some(compression)).unwrap();
        let mut file = FileWriter::try_new_with_options(Vec::new(), &rows.schema(), options.clone()).unwrap();
        file.write(&rows).unwrap();
        let mut stream = StreamWriter::try_new_with_options(Vec::new(), &rows.schema(), options).unwrap();
        stream.write(&rows).unwrap();
        for bytes in [file.into_inner().unwrap(), stream.into_inner().unwrap()] {
            let store = Store::new();
            store.put("a.arrow", &bytes);
            assert_eq!(store.read(&Ipc::path("a.arrow")).await.unwrap().items.len(), 2_000);
            // 2,000 integers are 16,000 bytes; what it says now no machine has.
            let claim = 16_000_i64.to_le_bytes();
            let at = bytes.windows(8).position(|window| window == claim).unwrap();
            let mut bytes = bytes;
            bytes[at..at + 8].copy_from_slice(&(1_i64 << 45).to_le_bytes());
            store.put("a.arrow", &bytes);
            let error = store.read(&Ipc::path("a.arrow")).await.unwrap().error.unwrap();
            assert!(error.message().contains("it is damaged"), "{error}");
        }
    }
}
