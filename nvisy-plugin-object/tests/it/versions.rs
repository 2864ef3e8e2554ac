//! What tells whether an object has changed.

use std::fs::{self, File};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nvisy_core::prelude::*;
use nvisy_plugin_object::{Local, Memory, ObjectClient, Text};

/// Returns the version of the one object, as an incremental run is told.
async fn listed(client: &Arc<ObjectClient>, source: &Text) -> Partition {
    let context = OpenContext::new(Context::detached().in_generation(1), client.clone());
    source.partitions(&context).await.unwrap().remove(0)
}

async fn is_unchanged(client: &Arc<ObjectClient>, now: &Partition, before: &Partition) -> bool {
    let context = OpenContext::new(Context::detached().in_generation(1), client.clone());
    let asked = [(now.clone(), before.version.clone().unwrap())];
    Text::all().unchanged(&asked, &context).await.unwrap()[0]
}

#[tokio::test]
async fn the_content_tells_while_the_time_is_fresh_and_the_time_when_it_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.md");
    let client = Local::at(directory.path()).connect(&ConnectContext::detached()).await.unwrap();
    let client = Arc::new(client);
    let put = |text: &str, age: u64| {
        fs::write(&path, text).unwrap();
        let time = SystemTime::now() - Duration::from_secs(age);
        File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
    };
    for source in [Text::all(), Text::path("a.md")] {
        put("one", 0);
        let fresh = listed(&client, &source).await;
        assert_eq!(fresh.version.as_ref().unwrap().split('-').count(), 3, "size, time and hash: {fresh:?}");
        put("one", 100);
        let old = listed(&client, &source).await;
        assert_eq!(old.version.as_ref().unwrap().split('-').count(), 2, "size and time: {old:?}");
        assert!(is_unchanged(&client, &old, &fresh).await);
        put("two", 100);
        let other = listed(&client, &source).await;
        assert!(!is_unchanged(&client, &other, &fresh).await && !is_unchanged(&client, &other, &old).await);
        assert_eq!(other, listed(&client, &source).await);
    }
    let detached = OpenContext::new(Context::detached(), client.clone());
    assert_eq!(Text::all().partitions(&detached).await.unwrap()[0].version, None, "nobody asks");
}

#[tokio::test]
async fn a_store_in_memory_goes_by_content() {
    let connect = async |text: &str| {
        let store = Memory::new().with("a.md", text);
        Arc::new(store.connect(&ConnectContext::detached()).await.unwrap())
    };
    let (one, two) = (connect("one").await, connect("two").await);
    let before = listed(&one, &Text::all()).await;
    assert!(!is_unchanged(&two, &listed(&two, &Text::all()).await, &before).await);
    let again = connect("one").await;
    assert!(is_unchanged(&again, &listed(&again, &Text::all()).await, &before).await);
}

#[tokio::test]
async fn the_content_tells_where_the_time_is_not_behind_1970() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.md");
    let client = Local::at(directory.path()).connect(&ConnectContext::detached()).await.unwrap();
    let client = Arc::new(client);
    let put = |text: &str, before: u64| {
        fs::write(&path, text).unwrap();
        let time = SystemTime::UNIX_EPOCH - Duration::from_secs(before);
        File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
    };
    put("one", 0);
    let one = listed(&client, &Text::all()).await;
    put("one", 1_000);
    let again = listed(&client, &Text::all()).await;
    assert!(again == one || is_unchanged(&client, &again, &one).await);
    put("two", 1_000);
    let two = listed(&client, &Text::all()).await;
    assert_ne!(two, one);
    assert!(!is_unchanged(&client, &two, &one).await);
}
