//! Random bytes never panic, offsets are exact, and what was written reads back.

use std::sync::Arc;

use nvisy_core::BatchLimits;
use nvisy_plugin_object::{ColumnType, Csv, CsvSink, Drift, Json, Jsonl, JsonlSink};
use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::support::{Read, Store, read};

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn read_bytes<S: nvisy_core::Source<Client = nvisy_plugin_object::ObjectClient>>(
    key: &str,
    bytes: &[u8],
    source: &S,
) -> Read {
    run(async {
        let store = Store::new();
        store.put(key, bytes);
        read(source, store.client().await, BatchLimits::items(3)).await.unwrap()
    })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e12..1e12_f64).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map("[a-c]", inner, 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        read_bytes("a.jsonl", &bytes, &Jsonl::path("a.jsonl"));
        read_bytes("a.csv", &bytes, &Csv::path("a.csv"));
        read_bytes("a.json", &bytes, &Json::path("a.json"));
    }

    #[test]
    fn random_punctuation_never_panics(text in "[\\[\\]{}\",:\\\\ntrue0-9.e\n\r -]{0,120}") {
        let typed = Jsonl::path("a.jsonl").column("n", ColumnType::Int).drift(Drift::Ignore);
        read_bytes("a.jsonl", text.as_bytes(), &typed);
        read_bytes("a.csv", text.as_bytes(), &Csv::path("a.csv").header(false));
        read_bytes("a.json", text.as_bytes(), &Json::path("a.json"));
    }

    #[test]
    fn every_line_is_an_item_or_rejected_at_its_offset(lines in proptest::collection::vec("(\\{\"n\":[0-9]{1,3}\\}|[a-z{}\" ]{0,9})\r?", 0..30)) {
        let text = lines.join("\n");
        let source = Jsonl::path("a.jsonl").column("n", ColumnType::Int);
        let read = read_bytes("a.jsonl", text.as_bytes(), &source);
        let mut seen: Vec<(u64, bool)> = read.offsets.iter().map(|o| (*o, true)).collect();
        seen.extend(read.rejected.iter().map(|(o, _)| (*o, false)));
        seen.sort_unstable();
        let mut expected = Vec::new();
        let mut offset = 0;
        for line in &lines {
            let good = serde_json::from_str::<std::collections::BTreeMap<String, i64>>(line);
            if !line.trim().is_empty() {
                expected.push((offset, good.is_ok_and(|fields| fields.keys().all(|key| key == "n"))));
            }
            offset += line.len() as u64 + 1;
        }
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn any_table_survives_csv(rows in proptest::collection::vec((any::<Option<i64>>(), proptest::option::of(".{0,8}"), proptest::option::of("[\",\n\ra]{0,6}")), 1..20)) {
        let lines: String = rows.iter().map(|(a, b, c)| serde_json::json!({"a": a, "b": b, "c": c}).to_string() + "\n").collect();
        run(async {
            let store = Store::new();
            store.put("in.jsonl", &lines);
            let columns = [("a", ColumnType::Int), ("b", ColumnType::Text), ("c", ColumnType::Text)];
            let (mut source, mut back) = (Jsonl::path("in.jsonl"), Csv::path("out.csv"));
            for (name, column_type) in columns {
                source = source.column(name, column_type);
                back = back.column(name, column_type);
            }
            store.copy(&source, &CsvSink::path("out.csv")).await.unwrap();
            let (original, copied) = (store.read(&source).await.unwrap(), store.read(&back).await.unwrap());
            assert_eq!(original.items, copied.items);
            // The offsets are those of the records: each reads alone.
            let text = std::fs::read(store.path("out.csv")).unwrap();
            for (offset, item) in copied.offsets.iter().zip(&copied.items) {
                let alone = [b"a,b,c\n".as_slice(), &text[usize::try_from(*offset).unwrap()..]].concat();
                let store = Arc::new(Store::new());
                store.put("out.csv", alone);
                assert_eq!(&store.read(&back).await.unwrap().items[0], item);
            }
        });
    }

    #[test]
    fn any_records_survive_json_lines(rows in proptest::collection::vec(proptest::collection::btree_map("[a-d]", value(), 0..4), 1..8)) {
        let lines: String = rows.iter().map(|row| serde_json::to_string(row).unwrap() + "\n").collect();
        run(async {
            let store = Store::new();
            store.put("in.jsonl", &lines);
            let original = store.read(&Jsonl::path("in.jsonl")).await.unwrap();
            assert_eq!(original.items.len(), rows.len(), "{:?} of {lines}", original.rejected);
            store.copy(&Jsonl::path("in.jsonl"), &JsonlSink::path("out.jsonl")).await.unwrap();
            let copied = store.read(&Jsonl::path("out.jsonl")).await.unwrap();
            assert_eq!(original.items, copied.items, "{lines}");
        });
    }
}
