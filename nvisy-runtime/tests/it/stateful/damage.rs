//! Files of state that are damaged.

use std::fs;

use nvisy_core::prelude::*;
use nvisy_core::spill::Spill;
use nvisy_runtime::actions::Sort;

use super::{Dice, batches, context, entries, make, samples};

/// A folder with what a sort has saved, and the name of one of its files.
async fn saved() -> (tempfile::TempDir, Entries, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let mut dice = Dice::new(3);
    let samples = samples(&mut dice, 300);
    let mut action = make(&Sort::by("row.name").memory(4_000), Spill::kept(folder.path())).await;
    for batch in batches(&mut dice, &samples) {
        action.call(batch, 0, &context()).await.unwrap();
    }
    let entries = entries(&mut *action).await;
    let file = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    (folder, entries, file)
}

async fn restored(folder: &tempfile::TempDir, entries: &Entries) -> Result<()> {
    let mut action = make(&Sort::by("row.name").memory(4_000), Spill::kept(folder.path())).await;
    action.restore(entries.clone()).await
}

#[tokio::test]
async fn a_file_that_is_cut_or_flipped_anywhere_is_refused_by_its_name() {
    let (folder, entries, file) = saved().await;
    restored(&folder, &entries).await.unwrap();
    let whole = fs::read(&file).unwrap();
    let name = file.file_name().unwrap().to_str().unwrap();
    let refused = |result: Result<()>, how: &str| {
        let error = result.expect_err(how);
        assert_eq!(error.kind(), ErrorKind::Validation, "{how}");
        assert!(error.message().contains(name), "{how}: {error}");
    };
    let step = (whole.len() / 60).max(1);
    for at in (0..whole.len()).step_by(step) {
        fs::write(&file, &whole[..at]).unwrap();
        refused(restored(&folder, &entries).await, &format!("cut at {at}"));
        let mut flipped = whole.clone();
        flipped[at] ^= 0x20;
        fs::write(&file, &flipped).unwrap();
        refused(restored(&folder, &entries).await, &format!("flipped at {at}"));
    }
    fs::remove_file(&file).unwrap();
    refused(restored(&folder, &entries).await, "missing");
    fs::write(&file, &whole).unwrap();
    restored(&folder, &entries).await.unwrap();
}

#[tokio::test]
async fn files_that_no_checkpoint_names_are_deleted() {
    let (folder, entries, _) = saved().await;
    let before = fs::read_dir(folder.path()).unwrap().count();
    fs::write(folder.path().join("sort-00000000000000ff.run"), b"of a crash").unwrap();
    fs::write(folder.path().join("other"), b"of somebody else").unwrap();
    restored(&folder, &entries).await.unwrap();
    assert!(folder.path().join("other").exists());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), before + 1);
}

#[tokio::test]
async fn an_entry_that_does_not_read_is_refused() {
    let (folder, mut entries, _) = saved().await;
    let key = entries.keys().next().unwrap().clone();
    entries.insert(key.clone(), "x".into());
    let error = restored(&folder, &entries).await.unwrap_err();
    assert!(error.message().contains(&key), "{error}");
}
