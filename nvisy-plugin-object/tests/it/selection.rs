//! Which objects are read, and that none outside the root ever is.

use nvisy_core::ErrorKind;
use nvisy_core::prelude::*;
use nvisy_plugin_object::{Bytes, BytesSink, Csv, Jsonl, JsonlSink, Local, Memory, Text};
use serde_json::json;

use crate::support::{Store, batch, read};

#[tokio::test]
async fn a_prefix_and_a_glob_select() {
    let store = Store::new();
    store
        .put("docs/a.md", "# A\n\ntext")
        .put("docs/deep/b.txt", "b")
        .put("docs/c.bin", "c")
        .put("other/d.md", "d");
    let titles = |read: &crate::support::Read| {
        read.items.iter().map(|item| item["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(titles(&store.read(&Text::prefix("docs/")).await.unwrap()), ["# A\n\ntext", "b"]);
    assert_eq!(titles(&store.read(&Text::prefix("docs/").glob("*.md")).await.unwrap()), ["# A\n\ntext"]);
    assert_eq!(titles(&store.read(&Text::all().glob("**/*.md")).await.unwrap()), ["# A\n\ntext", "d"]);
    assert_eq!(store.read(&Bytes::prefix("docs/")).await.unwrap().items.len(), 3);
    assert_eq!(store.read(&Text::prefix("docs/nothing")).await.unwrap().items.len(), 0);
    assert_eq!(store.read(&Text::all().glob("nothing/*.md")).await.unwrap().items.len(), 0);
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_an_error_unless_it_may_be_missing() {
    let store = Store::new();
    store.put("docs/a.md", "text").put("file", "");
    std::fs::create_dir(store.path("empty")).unwrap();
    let memory = Memory::new().with("docs/a.md", "text");
    let memory = std::sync::Arc::new(memory.connect(&ConnectContext::detached()).await.unwrap());
    for client in [store.client().await, memory.clone()] {
        for prefix in ["nothing/", "docs/nothing/", "docs/nothing/a"] {
            let source = Text::prefix(prefix);
            let error = read(&source, client.clone(), BatchLimits::default()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{prefix}: {error}");
            assert!(error.message().contains("say `allow_missing` where it may be missing"), "{error}");
            let read = read(&source.allow_missing(), client.clone(), BatchLimits::default()).await.unwrap();
            assert!(read.items.is_empty() && read.error.is_none(), "{prefix}");
        }
        let source = Text::path("b.md");
        assert!(read(&source, client.clone(), BatchLimits::default()).await.is_err());
        let read = read(&source.allow_missing(), client, BatchLimits::default()).await.unwrap();
        assert!(read.items.is_empty() && read.error.is_none());
    }
    // One that is there, and empty, is no error.
    assert!(store.read(&Text::prefix("empty/")).await.unwrap().items.is_empty());
    assert_eq!(store.read(&Text::prefix("file/")).await.unwrap_err().kind(), ErrorKind::NotFound);
    let json = serde_json::to_value(Jsonl::prefix("docs/").allow_missing()).unwrap();
    assert_eq!(json, json!({ "prefix": "docs/", "allow_missing": true }));
}

#[tokio::test]
async fn a_path_names_one_object_and_its_absence() {
    let store = Store::new();
    store.put("a.jsonl", "{\"n\":1}\n").put("a.jsonl.bak", "no");
    assert_eq!(store.read(&Jsonl::path("a.jsonl")).await.unwrap().items, [json!({"n": 1})]);
    let error = store.read(&Jsonl::path("b.jsonl")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("b.jsonl"), "{error}");
}

#[tokio::test]
async fn a_missing_root_is_named_or_created() {
    let store = Store::new();
    let root = store.path("new/root");
    let error = Local::at(&root).connect(&ConnectContext::detached()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("root"), "{error}");
    assert!(Local::at(&root).create().connect(&ConnectContext::detached()).await.is_ok());
    store.put("file", "");
    let error = Local::at(store.path("file")).connect(&ConnectContext::detached()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}

#[tokio::test]
async fn ids_do_not_depend_on_how_the_root_is_named() {
    let store = Store::new();
    store.put("in/a.csv", "n\n1\n2\n");
    let direct = store.read(&Csv::path("in/a.csv")).await.unwrap();
    let detour = Local::at(store.path("in/../in/..")).connect(&ConnectContext::detached()).await.unwrap();
    let detour = read(&Csv::path("in/a.csv"), detour.into(), BatchLimits::default()).await.unwrap();
    assert_eq!(direct.ids, detour.ids);
}

#[tokio::test]
async fn nothing_outside_the_root_is_read() {
    let outer = Store::new();
    outer.put("secret.jsonl", "{\"secret\":1}\n").put("root/in.jsonl", "{\"n\":1}\n");
    let local = Local::at(outer.path("root"));
    let client = || async { std::sync::Arc::new(local.connect(&ConnectContext::detached()).await.unwrap()) };
    for path in ["../secret.jsonl", "x/../../secret.jsonl", outer.path("secret.jsonl").to_str().unwrap()] {
        for source in [Jsonl::path(path), Jsonl::prefix(path)] {
            let error = read(&source, client().await, BatchLimits::default()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Permission, "{path}");
        }
        let source = Jsonl::all();
        let context = crate::support::context(&source, client().await, BatchLimits::default());
        let mut got = crate::support::Read::default();
        crate::support::read_partition(&source, &Partition::new(path), None, &context, &mut got).await;
        assert_eq!(got.error.unwrap().kind(), ErrorKind::Permission);
        assert!(got.items.is_empty());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn symlinks_that_lead_out_are_refused_and_those_within_followed() {
    use std::os::unix::fs::symlink;
    let outer = Store::new();
    outer.put("out/secret.jsonl", "{\"secret\":1}\n").put("root/in/a.jsonl", "{\"n\":1}\n");
    symlink(outer.path("out"), outer.path("root/away")).unwrap();
    symlink(outer.path("out/secret.jsonl"), outer.path("root/file.jsonl")).unwrap();
    symlink(outer.path("root/in"), outer.path("root/near")).unwrap();
    symlink(outer.path("root"), outer.path("root/in/loop")).unwrap();
    let client = Local::at(outer.path("root")).connect(&ConnectContext::detached()).await.unwrap();
    let client = std::sync::Arc::new(client);
    let named = ["away/secret.jsonl", "file.jsonl"].map(Jsonl::path);
    let prefixes = ["away/", "away", "file.jsonl"].map(Jsonl::prefix);
    for source in named.into_iter().chain(prefixes) {
        let error = read(&source, client.clone(), BatchLimits::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permission, "{source:?}");
    }
    let near = read(&Jsonl::prefix("near/a"), client.clone(), BatchLimits::default()).await.unwrap();
    assert_eq!(near.items, [json!({"n": 1})]);

    let open = nvisy_core::OpenContext::new(Context::detached(), client);
    for path in ["away/new.jsonl", "away/deep/new.jsonl", "file.jsonl", "../new.jsonl", "/tmp/new.jsonl"] {
        let result = match JsonlSink::path(path).open(&open).await {
            Ok(sink) => sink.write(&batch([document("x")]), &Context::detached()).await.map(|_| ()),
            Err(error) => Err(error),
        };
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Permission, "{path}");
    }
    let sink = BytesSink::path("away/{key}").open(&open).await.unwrap();
    let object = nvisy_core::primitive::object::Object::new("../../x", "bytes").unwrap();
    let report = sink.write(&batch([object]), &Context::detached()).await.unwrap();
    assert!(matches!(report.status(0), WriteStatus::Rejected(e) if e.kind() == ErrorKind::Permission));
    let outside: Vec<String> = outer.files().into_iter().filter(|file| !file.starts_with("root/")).collect();
    assert_eq!(outside, ["out/secret.jsonl"], "nothing was written");
    assert_eq!(outer.get("out/secret.jsonl"), "{\"secret\":1}\n");
}

#[cfg(unix)]
#[tokio::test]
async fn symlinks_that_lead_nowhere_are_passed_by() {
    use std::os::unix::fs::symlink;
    let outer = Store::new();
    outer.put("out/secret.jsonl", "{\"secret\":1}\n").put("root/in/a.jsonl", "{\"n\":1}\n");
    symlink(outer.path("out"), outer.path("root/in/away")).unwrap();
    symlink(outer.path("out/secret.jsonl"), outer.path("root/in/away.jsonl")).unwrap();
    symlink(outer.path("root/nowhere"), outer.path("root/in/dangling.jsonl")).unwrap();
    symlink("self.jsonl", outer.path("root/in/self.jsonl")).unwrap();
    symlink("a.jsonl", outer.path("root/in/b.jsonl")).unwrap();
    let client = Local::at(outer.path("root")).connect(&ConnectContext::detached()).await.unwrap();
    let client = std::sync::Arc::new(client);
    for source in [Jsonl::all(), Jsonl::prefix("in/"), Jsonl::all().glob("*/[ab].jsonl")] {
        let read = read(&source, client.clone(), BatchLimits::default()).await.unwrap();
        assert_eq!(read.items, [json!({"n": 1}), json!({"n": 1})], "{source:?}");
        assert!(read.error.is_none(), "{:?}", read.error);
    }
    for path in ["in/dangling.jsonl", "in/away.jsonl"] {
        let error = read(&Jsonl::path(path), client.clone(), BatchLimits::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permission, "{path}");
    }
}

fn document(text: &str) -> nvisy_core::primitive::document::Document {
    nvisy_core::primitive::document::Document::new(text).unwrap()
}

#[tokio::test]
async fn a_store_in_memory_reads_and_writes_like_a_directory() {
    let memory = Memory::new().with("in/a.jsonl", "{\"n\":1}\n{\"n\":2}\n").with("in/b.txt", "b");
    let client = std::sync::Arc::new(memory.connect(&ConnectContext::detached()).await.unwrap());
    let source = Jsonl::prefix("in/");
    assert_eq!(read(&source, client.clone(), BatchLimits::default()).await.unwrap().items.len(), 2);
    let open = nvisy_core::OpenContext::new(Context::detached(), client.clone());
    let sink = JsonlSink::path("out/b.jsonl").open(&open).await.unwrap();
    let written =
        sink.drain(nvisy_core::stream::read(&source, client.clone()), &Context::detached()).await.unwrap();
    assert_eq!(written, 2);
    let back = read(&Jsonl::path("out/b.jsonl"), client.clone(), BatchLimits::default()).await.unwrap();
    assert_eq!(back.items, [json!({"n": 1}), json!({"n": 2})]);
    assert_eq!(JsonlSink::path("out/b.jsonl").open(&open).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[cfg(unix)]
#[tokio::test]
async fn odd_names_are_read_and_what_is_no_file_is_not() {
    let store = Store::new();
    let names = [
        "a b",
        "ü 漢",
        "100%",
        "a%20b",
        "q?",
        "star*",
        "br[1]{2}",
        "ha#sh",
        "back\\slash",
        "quote\"'",
        "~tilde",
    ];
    for (n, name) in names.iter().enumerate() {
        store.put(&format!("in/{name}.jsonl"), format!("{{\"n\":{n}}}\n"));
    }
    let all = store.read(&Jsonl::prefix("in/")).await.unwrap();
    assert_eq!(all.items.len(), names.len(), "{:?}", all.error);
    for (n, name) in names.iter().enumerate() {
        let one = store.read(&Jsonl::path(format!("in/{name}.jsonl"))).await.unwrap();
        assert_eq!(one.items, [json!({"n": n})], "{name}");
        let copy = JsonlSink::path(format!("out/{}.jsonl", name.replace(['{', '}'], "_")));
        store.copy(&Jsonl::path(format!("in/{name}.jsonl")), &copy).await.unwrap();
    }
    assert_eq!(store.read(&Jsonl::prefix("out/")).await.unwrap().items.len(), names.len());
    let error = store.read(&Jsonl::path("in")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("it is no file"), "{error}");
    for reserved in ["notes#1", "#20"] {
        store.put(reserved, "{}");
        let read = store.read(&Jsonl::prefix(reserved)).await.unwrap();
        assert!(read.error.unwrap().message().contains("reserved"), "{reserved}");
    }
}

#[tokio::test]
async fn a_name_that_ends_in_a_hash_is_one_like_any_other() {
    let store = Store::new();
    store.put("in.jsonl", "{\"n\":1}\n");
    for name in ["notes#", "#", "a#1#", "a#b#1", "run#7/notes#"] {
        store.copy(&Jsonl::path("in.jsonl"), &JsonlSink::path(name)).await.unwrap();
        for source in [Jsonl::path(name), Jsonl::prefix(name)] {
            let read = store.read(&source).await.unwrap();
            assert!(read.error.is_none(), "{name}: {:?}", read.error);
            assert_eq!(read.items, [json!({"n": 1})], "{name}");
        }
    }
}
