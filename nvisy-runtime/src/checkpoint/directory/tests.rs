//! What becomes of a log on disks that fail, lose power, or flip a bit.

use std::sync::Arc;

use nvisy_core::{Changes, Checkpoint, ErrorKind, Recovery, Result};

use super::log::{Growth, Log, recover};
use super::simulated::{Dice, Fault, Simulated};
use crate::torture::Torture;

const GRAPH: &str = "tickets";

/// A new file every few commits.
const SMALL: Growth = Growth { free: 400, factor: 2 };
/// One file.
const LARGE: Growth = Growth { free: u64::MAX, factor: 1 };

/// What the `n`-th commit changes: the history that all tests here write.
fn changes(n: u64) -> Changes {
    let mut changes = Changes::default();
    changes.put("position", format!("after item {n}")).put(format!("partition {}", n % 5), vec![n as u8; 9]);
    if n.is_multiple_of(7) {
        changes.remove(format!("partition {}", n % 3));
    }
    changes
}

/// The state after `n` commits.
fn state(n: u64) -> Checkpoint {
    let mut checkpoint = Checkpoint::default();
    (1..=n).for_each(|n| checkpoint.apply(changes(n)));
    checkpoint
}

fn open(disk: &Simulated, growth: Growth) -> Result<(Log, Checkpoint, Option<Recovery>)> {
    Log::open(Arc::new(disk.clone()), GRAPH, growth)
}

fn commit(log: &mut Log, last: &mut Checkpoint) -> Result<()> {
    let changes = changes(last.generation + 1);
    let generation = log.commit(&changes)?;
    last.apply(changes);
    assert_eq!(generation, last.generation);
    if log.is_long() {
        log.shrink(last);
    }
    Ok(())
}

fn written(commits: u64, growth: Growth) -> Simulated {
    let disk = Simulated::default();
    let (mut log, mut last, _) = open(&disk, growth).unwrap();
    (0..commits).for_each(|_| commit(&mut log, &mut last).unwrap());
    disk
}

fn copy(disk: &Simulated) -> Simulated {
    let copy = Simulated::default();
    disk.names().iter().for_each(|name| copy.put(name, &disk.get(name)));
    copy
}

/// Opens what is left, demands a state that was once committed, and that it can be gone on with.
fn reopened(disk: &Simulated, what: &str) -> (u64, Option<Recovery>) {
    let (mut log, mut last, recovery) = open(disk, SMALL).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    let generation = last.generation;
    assert!(last == state(generation), "{what}: a state that was never committed");
    if let Some(recovery) = &recovery {
        assert_eq!(recovery.generation, generation, "{what}");
    }
    commit(&mut log, &mut last).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    drop(log);
    let (_, again, recovery_again) = open(disk, SMALL).unwrap();
    assert!(again == last, "{what}: what was committed after it is not there");
    assert_eq!(recovery_again, None, "{what}");
    (generation, recovery)
}

/// Every way in which a file is cut or has one bit flipped.
fn damages(bytes: &[u8]) -> impl Iterator<Item = (String, Vec<u8>)> {
    let cuts = (0..bytes.len()).map(|at| (format!("cut at byte {at}"), bytes[..at].to_vec()));
    let flips = (0..bytes.len()).map(|at| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1 << (at % 8);
        (format!("a bit of byte {at} flipped"), bytes)
    });
    cuts.chain(flips)
}

#[test]
fn a_log_that_is_cut_or_flipped_anywhere_gives_an_earlier_state_or_a_clear_error() {
    let disk = written(30, LARGE);
    let bytes = disk.get("checkpoint-1.log");
    let (mut errors, mut states) = (0, std::collections::BTreeSet::new());
    for (what, bytes) in damages(&bytes) {
        let disk = copy(&disk);
        disk.put("checkpoint-1.log", &bytes);
        match open(&disk, LARGE) {
            Err(error) => {
                errors += 1;
                assert_eq!(error.kind(), ErrorKind::Validation, "{what}: {error:?}");
                assert!(error.message().contains("\"checkpoint-1.log\""), "{error}");
                assert!(error.message().contains("remove the directory to begin again"), "{error}");
            }
            Ok(_) => {
                let disk = copy(&disk);
                disk.put("checkpoint-1.log", &bytes);
                let (generation, recovery) = reopened(&disk, &what);
                assert!(generation < 30, "{what}");
                // Cut between two commits it is a whole log.
                assert!(recovery.is_some() || what.starts_with("cut"), "{what}");
                states.insert(generation);
            }
        }
    }
    assert_eq!(states.len(), 30, "every earlier state was seen");
    assert!(errors > 0);
}

#[test]
fn of_two_files_either_may_be_damaged_anywhere() {
    let disk = written(30, SMALL);
    let names = disk.names();
    let [older, newer] = &names[..] else { panic!("{names:?}") };
    let kept = recover(&disk, GRAPH).unwrap().unwrap().checkpoint.generation;
    assert_eq!(kept, 30);
    for (what, bytes) in damages(&disk.get(newer)) {
        let disk = copy(&disk);
        disk.put(newer, &bytes);
        let (generation, recovery) = reopened(&disk, &what);
        assert!(generation > 0 && generation <= 30, "{what}: {generation}");
        assert!(recovery.is_some() || what.starts_with("cut"), "{what}");
    }
    for (what, bytes) in damages(&disk.get(older)) {
        let disk = copy(&disk);
        disk.put(older, &bytes);
        assert_eq!(reopened(&disk, &what), (30, None), "{what}");
    }
}

#[test]
fn a_newer_file_that_is_damaged_or_gone_is_told_of_and_set_aside() {
    let disk = written(30, SMALL);
    let names = disk.names();
    let [older, newer] = &names[..] else { panic!("{names:?}") };

    let damaged = copy(&disk);
    damaged.put(newer, b"garbage, and a good deal of it");
    let (generation, recovery) = reopened(&damaged, "garbage");
    let told = recovery.unwrap().to_string();
    assert!(told.contains(newer) && told.contains(older), "{told}");
    assert!(told.ends_with(&format!("going on from generation {generation}")), "{told}");
    assert_eq!(damaged.get(&format!("{newer}.damaged")), b"garbage, and a good deal of it");

    let gone = Simulated::default();
    gone.put(older, &disk.get(older));
    let (_, recovery) = reopened(&gone, "gone");
    let told = recovery.unwrap().to_string();
    assert!(told.contains(newer) && told.contains("missing"), "{told}");

    let both = Simulated::default();
    names.iter().for_each(|name| both.put(name, b"garbage"));
    let error = open(&both, SMALL).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Validation);
    assert!(names.iter().all(|name| error.message().contains(name.as_str())), "{error}");
    assert_eq!(both.names(), names, "nothing was touched");
}

#[test]
fn a_call_that_fails_costs_at_most_the_commit_that_it_belongs_to() {
    const COMMITS: u64 = 25;
    let calls = written(COMMITS, SMALL).calls();
    for fault in [Fault::Once, Fault::Full, Fault::Gone] {
        let mut failed = 0;
        for call in 0..calls {
            let what = format!("{fault:?} at call {call}");
            let disk = Simulated::default();
            disk.fail_after(call, fault);
            let mut acknowledged = 0;
            let mut ambiguous = false;
            if let Ok((mut log, mut last, _)) = open(&disk, SMALL) {
                for _ in 0..COMMITS {
                    let done = commit(&mut log, &mut last);
                    acknowledged = last.generation;
                    if let Err(error) = done {
                        failed += 1;
                        ambiguous |= error.kind() == ErrorKind::Ambiguous;
                        assert!(!error.message().is_empty(), "{what}");
                        if fault == Fault::Full {
                            assert!(error.message().contains("full") || ambiguous, "{what}: {error}");
                        }
                    }
                }
            } else {
                failed += 1;
            }
            disk.mend();
            let (generation, _) = reopened(&disk, &what);
            let most = acknowledged + u64::from(ambiguous);
            assert!((acknowledged..=most).contains(&generation), "{what}: {acknowledged}, then {generation}");
        }
        assert!(failed > 0, "{fault:?} did something");
    }
}

#[test]
fn a_disk_that_is_full_for_a_while_holds_up_a_run_that_goes_on_trying() {
    let disk = written(3, LARGE);
    let (mut log, mut last, _) = open(&disk, LARGE).unwrap();
    disk.fail_after(0, Fault::Full);
    for _ in 0..3 {
        let error = commit(&mut log, &mut last).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permission);
        assert!(error.message().contains("the disk is full: free some space"), "{error}");
    }
    disk.mend();
    commit(&mut log, &mut last).unwrap();
    assert_eq!(reopened(&disk, "full for a while"), (4, None));
}

#[test]
fn a_log_that_somebody_else_changed_or_removed_is_a_conflict() {
    let bytes = written(3, LARGE).get("checkpoint-1.log");
    let longer = [bytes.clone(), vec![0]].concat();
    for changed in [Some(longer), Some(bytes[..20].to_vec()), None] {
        let disk = written(3, LARGE);
        let (mut log, mut last, _) = open(&disk, LARGE).unwrap();
        match changed {
            Some(bytes) => disk.put("checkpoint-1.log", &bytes),
            None => super::disk::Disk::remove(&disk, "checkpoint-1.log").unwrap(),
        }
        assert_eq!(commit(&mut log, &mut last).unwrap_err().kind(), ErrorKind::Conflict);
    }
}

#[test]
fn a_power_cut_loses_nothing_that_was_committed_and_invents_nothing() {
    let mut torture = Torture::of("power", 300, 0);
    let repeated = torture.each(|seed| {
        let mut dice = Dice(seed);
        let mut repeated = 0;
        let disk = Simulated::default();
        let mut acknowledged = 0;
        for life in 0..6 {
            let what = format!("seed {seed}, life {life}");
            disk.fail_after(dice.below(120) as u64, Fault::Gone);
            let mut attempted = acknowledged;
            if let Ok((mut log, mut last, _)) = open(&disk, SMALL) {
                assert!(last.generation >= acknowledged, "{what}: less than was acknowledged");
                assert!(last == state(last.generation), "{what}: a state that was never committed");
                acknowledged = last.generation;
                while commit(&mut log, &mut last).is_ok() {
                    acknowledged = last.generation;
                }
                attempted = acknowledged + 1;
            }
            disk.lose_power(&mut dice);
            let found = recover(&disk, GRAPH).unwrap_or_else(|error| panic!("{what}: {error:?}"));
            let found = found.map(|found| found.checkpoint).unwrap_or_default();
            let generation = found.generation;
            assert!(
                (acknowledged..=attempted).contains(&generation),
                "{what}: {acknowledged}, then {generation}"
            );
            assert!(found == state(generation), "{what}: a state that was never committed");
            repeated += attempted - generation;
            acknowledged = generation;
        }
        repeated
    });
    torture.tell_well(repeated);
}

#[test]
fn a_log_stays_small_for_what_it_holds_and_two_files_are_kept() {
    let disk = Simulated::default();
    let (mut log, mut last, _) = open(&disk, SMALL).unwrap();
    for _ in 0..500 {
        commit(&mut log, &mut last).unwrap();
        let names = disk.names();
        assert!(names.len() <= 2, "{names:?}");
        assert!(names.iter().all(|name| disk.get(name).len() < 900), "{names:?}");
    }
}

#[test]
fn names_of_graphs_become_names_of_directories_that_differ_whatever_the_file_system() {
    let long = "long ".repeat(100);
    let names = ["", ".", "..", "a", "A", "a/b", "a\\b", "%41", "ä", "con", "a b", "\0", &long, &long[1..]];
    let made: std::collections::BTreeSet<_> =
        names.iter().map(|name| super::directory_name(name).to_ascii_lowercase()).collect();
    assert_eq!(made.len(), names.len());
    for name in made {
        assert!(name.len() <= 150 && name.starts_with("graph-"), "{name}");
        assert!(!name.contains(['/', '\\', '.', '\0', ' ']), "{name}");
    }
    assert_eq!(super::directory_name("tickets_2"), "graph-tickets_2");
}

#[test]
fn a_file_of_a_newer_format_or_of_another_graph_is_named_and_left_alone() {
    let disk = written(30, SMALL);
    let names = disk.names();
    let [_, newer] = &names[..] else { panic!("{names:?}") };
    let mut bytes = disk.get(newer);
    bytes[8] = 2;
    let checksum = crc32c::crc32c(&bytes[..12]);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    disk.put(newer, &bytes);
    let error = open(&disk, SMALL).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert_eq!(
        error.message(),
        format!(
            "checkpoints of graph \"tickets\": \"{newer}\" is of format 2, written by a newer version of this \
             library: run that version, or remove the directory to begin again"
        )
    );
    assert_eq!(disk.get(newer), bytes);

    let error = Log::open(Arc::new(written(3, LARGE)), "letters", LARGE).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert_eq!(
        error.message(),
        "checkpoints of graph \"letters\": \"checkpoint-1.log\" belongs to graph \"tickets\": move it away"
    );
}
