//! What runs remember survives what happens to machines.

use nvisy_core::testing::conformance;
use nvisy_runtime::checkpoint::{DirectoryStore, MemoryStore};

#[tokio::test]
async fn checkpoints_in_memory_keep_the_contract() {
    conformance::checkpoints(&MemoryStore::new()).await.assert_passed_except(&[]);
}

#[tokio::test]
async fn checkpoints_in_a_directory_keep_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let store = DirectoryStore::new(directory.path().join("made/when/needed"));
    conformance::checkpoints(&store).await.assert_passed_except(&[]);
}
