//! Names of objects that hold one item each: no item overwrites another one.

use nvisy_core::prelude::*;
use nvisy_core::primitive::document::Document;
use nvisy_core::primitive::object::Object;
use nvisy_core::{ErrorKind, OpenContext, Primitive};
use nvisy_plugin_object::{BytesSink, Jsonl, JsonlSink, Memory, OnExisting, Text, TextSink};
use serde_json::json;

use crate::support::{Store, batch, read};

/// The documents of a store, as a source reads them.
async fn documents(store: &Store, prefix: &str) -> Vec<Item<Document>> {
    use futures::StreamExt;
    let source = Text::prefix(prefix);
    let mut stream = std::pin::pin!(nvisy_core::stream::read(&source, store.client().await));
    let mut items = Vec::new();
    while let Some(batch) = stream.next().await {
        items.extend(batch.unwrap().iter().map(|item| item.typed().unwrap()));
    }
    items
}

async fn write(sink: &impl Sink, items: &[Primitive]) -> WriteReport {
    sink.write(&Batch::from_primitives(items.to_vec()), &Context::detached()).await.unwrap()
}

fn conflicts(report: &WriteReport) -> Vec<u32> {
    let conflict = |(index, status): &(u32, WriteStatus)| match status {
        WriteStatus::Rejected(error) if error.kind() == ErrorKind::Conflict => {
            assert!(error.message().contains("put {id} in the path"), "{error}");
            *index
        }
        other => panic!("{other:?}"),
    };
    report.others().iter().map(conflict).collect()
}

#[tokio::test]
async fn passages_of_one_file_do_not_overwrite_each_other() {
    let store = Store::new();
    store.put("in/a.md", "all of it");
    let file = documents(&store, "in/").await.remove(0);
    let passages: Vec<Primitive> = (0..3)
        .map(|n| file.derive("chunk", n, Document::new(format!("passage {n}")).unwrap()).into_primitive())
        .collect();

    let sink = store.open(&TextSink::path("clean/{stem}.md")).await.unwrap();
    assert_eq!(conflicts(&write(&sink, &passages[..2]).await), [1]);
    assert_eq!(conflicts(&write(&sink, &passages).await), [1, 2], "in batches to come, too");
    assert_eq!(store.get("clean/in/a.md"), "passage 0");

    let newer = passages[0].clone().typed::<Document>().unwrap();
    let newer = newer.map_text(|_| "passage 0, again".to_owned()).unwrap().into_primitive();
    assert!(write(&sink, &[newer]).await.is_applied(), "the same item may be written again");
    assert_eq!(store.get("clean/in/a.md"), "passage 0, again");

    let sink = store.open(&TextSink::path("by id/{stem}-{id}.md")).await.unwrap();
    assert!(write(&sink, &passages).await.is_applied());
    assert_eq!(store.files().iter().filter(|file| file.starts_with("by id/")).count(), 3);
}

#[tokio::test]
async fn files_that_differ_in_their_suffix_alone_do_not_overwrite_each_other() {
    let store = Store::new();
    store.put("in/a.md", "markdown").put("in/a.txt", "text").put("in/b.md", "other");
    let items: Vec<Primitive> =
        documents(&store, "in/").await.into_iter().map(Item::into_primitive).collect();
    let sink = store.open(&TextSink::path("out/{stem}")).await.unwrap();
    assert_eq!(conflicts(&write(&sink, &items).await), [1]);
    assert_eq!((store.get("out/in/a"), store.get("out/in/b")), ("markdown".into(), "other".into()));
    let sink = store.open(&TextSink::path("out/{key}")).await.unwrap();
    assert!(write(&sink, &items).await.is_applied());
}

#[tokio::test]
async fn a_name_for_all_holds_one_item() {
    let store = Store::new();
    let objects = batch((0..3).map(|n| Object::new(format!("{n}"), format!("{n}")).unwrap()));
    let sink = store.open(&BytesSink::path("last.bin")).await.unwrap();
    assert_eq!(conflicts(&write(&sink, objects.clone().into_primitives().as_slice()).await), [1, 2]);
    assert_eq!(store.get("last.bin"), "0");
}

#[test]
fn only_a_name_by_the_id_alone_promises_that_an_item_is_there_once() {
    for (path, replace) in [("{id}.txt", true), ("{graph}/{stem}-{id}.txt", true), ("{key}", false)] {
        let expected = if replace { Guarantee::Upsert } else { Guarantee::Append };
        assert_eq!(TextSink::path(path).guarantee(), expected, "{path}");
        assert_eq!(BytesSink::path(path).guarantee(), expected, "{path}");
    }
    for path in ["out.txt", "{stem}.txt", "{run}/{id}.txt", "{date}/{id}.txt"] {
        assert_eq!(TextSink::path(path).guarantee(), Guarantee::Append, "{path}");
    }
    let numbered = TextSink::path("{id}.txt").on_existing(OnExisting::Number);
    assert_eq!(numbered.guarantee(), Guarantee::Append);
}

#[tokio::test]
async fn a_number_in_a_directory_finds_the_next_that_is_free() {
    let path = "out/{part}/x.jsonl";
    let store = Store::new();
    store.put("out/00000/x.jsonl", "old").put("out/00001/x.jsonl", "old");
    let memory = Memory::new().with("out/00000/x.jsonl", "{}").with("out/00001/x.jsonl", "{}");
    let memory = std::sync::Arc::new(memory.connect(&ConnectContext::detached()).await.unwrap());
    for client in [store.client().await, memory.clone()] {
        let open = OpenContext::new(Context::detached(), client);
        let sink = JsonlSink::path(path).on_existing(OnExisting::Number).open(&open).await.unwrap();
        let items = batch([Document::new("new").unwrap()]);
        assert!(sink.write(&items, open.context()).await.unwrap().is_applied());
        sink.close(open.context()).await.unwrap();
    }
    assert_eq!(store.files(), ["out/00000/x.jsonl", "out/00001/x.jsonl", "out/00002/x.jsonl"]);
    assert!(store.get("out/00002/x.jsonl").contains("new"));
    let found = read(&Jsonl::prefix("out/00002/"), memory, BatchLimits::default()).await.unwrap();
    assert_eq!(found.items[0]["text"], json!("new"));
}

#[tokio::test]
async fn a_key_with_braces_is_numbered_like_any_other() {
    let store = Store::new();
    store.put("{part}/{stem}.bin", "old");
    let sink = store.open(&BytesSink::path("{key}").on_existing(OnExisting::Number)).await.unwrap();
    let object = batch([Object::new("{part}/{stem}.bin", "new").unwrap()]);
    assert!(sink.write(&object, &Context::detached()).await.unwrap().is_applied());
    assert_eq!(store.files(), ["{part}/{stem}-1.bin", "{part}/{stem}.bin"]);
    assert_eq!(store.get("{part}/{stem}-1.bin"), "new");
}

#[tokio::test]
async fn sinks_of_one_connection_do_not_overwrite_each_other() {
    let store = Store::new();
    store.put("in/a.md", "all of it");
    let file = documents(&store, "in/").await.remove(0);
    let passages: Vec<Primitive> = (0..2)
        .map(|n| file.derive("chunk", n, Document::new(format!("passage {n}")).unwrap()).into_primitive())
        .collect();
    let client = store.client().await;
    let of = |node: &str| OpenContext::new(Context::new("graph", node, "object/files"), client.clone());

    let texts = TextSink::path("clean/{stem}.md");
    let (one, other) = (texts.open(&of("one")).await.unwrap(), texts.open(&of("other")).await.unwrap());
    assert!(write(&one, &passages[..1]).await.is_applied());
    assert_eq!(conflicts(&write(&other, &passages).await), [0, 1], "nor with another text of the same item");
    assert_eq!(store.get("clean/in/a.md"), "passage 0");

    for on_existing in [OnExisting::Fail, OnExisting::Replace] {
        let path = format!("{on_existing:?}.jsonl");
        let lines = |path: &str| JsonlSink::path(path).on_existing(on_existing);
        let sink = lines(&path).open(&of("one")).await.unwrap();
        let error = lines(&format!("./{path}")).open(&of("other")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.message().contains("is written by the node \"one\", too"), "{error}");
        lines("{node}.jsonl").open(&of("other")).await.unwrap();
        drop(sink);
        lines(&path).open(&of("one")).await.unwrap();
    }
    let numbered = JsonlSink::path("numbered.jsonl").on_existing(OnExisting::Number);
    let (one, other) = (numbered.open(&of("one")).await.unwrap(), numbered.open(&of("other")).await.unwrap());
    for sink in [one, other] {
        assert!(write(&sink, &passages).await.is_applied());
        sink.flush(&Context::detached()).await.unwrap();
    }
    let numbered = store.files().into_iter().filter(|file| file.starts_with("numbered"));
    assert_eq!(numbered.collect::<Vec<_>>(), ["numbered-1.jsonl", "numbered.jsonl"]);
}

/// A client of a directory, as each connection has its own.
async fn client(root: &std::path::Path) -> std::sync::Arc<nvisy_plugin_object::ObjectClient> {
    let local = nvisy_plugin_object::Local::at(root);
    std::sync::Arc::new(local.connect(&ConnectContext::detached()).await.unwrap())
}

fn node(run: u64, name: &str) -> Context {
    Context::new("graph", name, "object/files").in_run(nvisy_core::RunId::from_parts(run, 4711))
}

#[tokio::test]
async fn a_part_passes_over_the_name_of_another_sink() {
    for (path, other, files) in [
        ("shard.jsonl", "shard-1.jsonl", ["shard-1.jsonl", "shard-2.jsonl", "shard.jsonl"]),
        ("p-{part}.jsonl", "p-00001.jsonl", ["p-00000.jsonl", "p-00001.jsonl", "p-00002.jsonl"]),
    ] {
        for (mine, theirs) in [
            (OnExisting::Replace, OnExisting::Replace),
            (OnExisting::Fail, OnExisting::Replace),
            (OnExisting::Number, OnExisting::Replace),
        ] {
            let store = Store::new();
            let client = store.client().await;
            let of = |name: &str| OpenContext::new(node(1, name), client.clone());
            let parts = JsonlSink::path(path).on_existing(mine).roll_rows(1);
            let (parts, lone) = (
                parts.open(&of("parts")).await.unwrap(),
                JsonlSink::path(other).on_existing(theirs).open(&of("lone")).await.unwrap(),
            );
            let documents = |texts: &[&str]| {
                batch(texts.iter().map(|text| Document::new(*text).unwrap())).into_primitives()
            };
            assert!(write(&lone, &documents(&["lone"])).await.is_applied());
            assert!(write(&parts, &documents(&["one", "two"])).await.is_applied());
            lone.flush(&node(1, "lone")).await.unwrap();
            assert_eq!(store.files(), files, "{mine:?}");
            assert!(store.get(other).contains("lone"), "{mine:?}");
        }
    }
}

#[tokio::test]
async fn a_run_that_goes_on_leaves_each_sink_its_first_name() {
    for on_existing in [OnExisting::Replace, OnExisting::Fail] {
        let store = Store::new();
        let open = async |name: &str, path: &str, staging| {
            let context = OpenContext::new(node(1, name), store.client().await).with_staging(staging);
            JsonlSink::path(path).on_existing(on_existing).open(&context).await.unwrap()
        };
        let (mut staged, mut files) = ([None, None], Vec::new());
        for text in ["one", "two"] {
            // The one whose next part has the other's name comes first.
            let [before, beside] = staged.map(|staged| staged.map_or(Staging::On(None), Staging::Shown));
            let parts = open("parts", "shard.jsonl", before).await;
            let lone = open("lone", "shard-1.jsonl", beside).await;
            let documents = batch([Document::new(text).unwrap()]).into_primitives();
            let mut now = Vec::new();
            for (sink, name) in [(&parts, "parts"), (&lone, "lone")] {
                assert!(write(sink, &documents).await.is_applied());
                let held = sink.stage(&node(1, name)).await.unwrap().unwrap();
                sink.publish(&held, &node(1, name)).await.unwrap();
                now.push(held);
            }
            staged = [now.first().cloned(), now.last().cloned()];
            files = store.files();
        }
        assert_eq!(files, ["shard-1-1.jsonl", "shard-1.jsonl", "shard-2.jsonl", "shard.jsonl"]);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn sinks_of_two_connections_do_not_overwrite_each_other() {
    let store = Store::new();
    store.put("deep/x.txt", "");
    std::os::unix::fs::symlink(store.path("deep"), store.path("link")).unwrap();
    let deep = store.path("deep");
    let whole = store.directory.path();
    let object = |text: &'static str| batch([Object::new("a.bin", text).unwrap()]).into_primitives();
    let sink = async |root: &std::path::Path, path: &str, name: &str| {
        let context = OpenContext::new(node(2, name), client(root).await);
        BytesSink::path(path).open(&context).await.unwrap()
    };
    let first = sink(whole, "deep/{key}", "first").await;
    assert!(write(&first, &object("first")).await.is_applied());
    for (root, path) in
        [(whole, "deep/{key}"), (&deep, "{key}"), (whole, "link/{key}"), (whole, "deep//{key}")]
    {
        let other = sink(root, path, "other").await;
        assert_eq!(conflicts(&write(&other, &object("other")).await), [0], "{path} of {}", root.display());
    }
    assert_eq!(store.get("deep/a.bin"), "first");

    let lines = |path: &str| JsonlSink::path(path).on_existing(OnExisting::Replace);
    let open = async |root: &std::path::Path, path: &str, name: &str| {
        lines(path).open(&OpenContext::new(node(2, name), client(root).await)).await
    };
    let held = open(whole, "deep/all.jsonl", "first").await.unwrap();
    for (root, path) in [(whole, "./deep/all.jsonl"), (&deep, "all.jsonl"), (whole, "link/all.jsonl")] {
        let error = open(root, path, "other").await.unwrap_err();
        assert!(error.message().contains("is written by the node \"first\", too"), "{error}");
    }
    drop((first, held));
    open(&deep, "all.jsonl", "other").await.unwrap();
}
