//! Outcomes account for every input, or say what is wrong.

use std::sync::Arc;

use nvisy_core::lineage::{Inputs, Step};
use nvisy_core::outcome::{Attribution, Breach};
use nvisy_core::primitive::raw::Raw;
use nvisy_core::{
    Any, Batch, Error, ErrorKind, Item, Kind, Metadata, Outcome, Outcomes, WriteReport, WriteStatus,
};
use proptest::prelude::*;

fn input(len: usize) -> Batch {
    (0..len).map(|n| Item::detached(&n.to_string(), Raw::Json(n.into()))).collect()
}

fn step() -> Arc<Step> {
    Arc::new(Step::new("node", "operation", Metadata::default().created_at))
}

fn raw(n: u64) -> Any {
    Raw::Json(n.into()).into_payload()
}

/// What becomes of an input.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Edited,
    Derived,
    Expanded(u8),
    Dropped(bool),
    Failed,
}

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![
        Just(Fate::Edited),
        Just(Fate::Derived),
        (0..4_u8).prop_map(Fate::Expanded),
        any::<bool>().prop_map(Fate::Dropped),
        Just(Fate::Failed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn outcomes_account_for_every_input(fates in prop::collection::vec(fates(), 0..12)) {
        let input = input(fates.len());
        let outcome = |(index, fate): (usize, &Fate)| -> Outcome {
            let item: Item = input.primitive(index).typed().unwrap();
            match fate {
                Fate::Edited => Outcome::emit(item.with(raw(1_000))),
                Fate::Derived => Outcome::emit(item.derive("salt", 0, raw(2_000))),
                Fate::Expanded(n) => Outcome::expand(&item, "salt", (0..u64::from(*n)).map(raw)),
                Fate::Dropped(again) => Outcome::drop(if *again { "seen before" } else { "not wanted" }),
                Fate::Failed => Outcome::fail(Error::new(ErrorKind::Validation, "bad")),
            }
        };
        let outcomes = Outcomes::collect(&input, &step(), fates.iter().enumerate().map(outcome).collect()).unwrap();
        outcomes.check(fates.len()).unwrap();

        let mut emitted = 0;
        let (mut dropped, mut failed) = (0, Vec::new());
        for (index, fate) in fates.iter().enumerate() {
            let count = match fate {
                Fate::Edited | Fate::Derived => 1,
                Fate::Expanded(n) => usize::from(*n),
                Fate::Dropped(_) | Fate::Failed => 0,
            };
            for ordinal in 0..count {
                prop_assert_eq!(outcomes.attribution.of(emitted), index as u32);
                let item = outcomes.emitted.primitive(emitted);
                let derived = !matches!(fate, Fate::Edited);
                let id = if derived { input.id(index).derive("salt", ordinal as u64) } else { input.id(index) };
                prop_assert_eq!(item.id(), id);
                prop_assert_eq!(item.root(), input.primitive(index).root());
                let records = item.lineage().records();
                prop_assert_eq!(records.len(), 2);
                prop_assert_eq!(matches!(records[1].inputs, Inputs::From(_)), derived);
                emitted += 1;
            }
            dropped += u64::from(count == 0 && !matches!(fate, Fate::Failed));
            if matches!(fate, Fate::Failed) {
                failed.push(index as u32);
            }
        }
        prop_assert_eq!(outcomes.emitted.len(), emitted);
        prop_assert_eq!(outcomes.dropped.iter().map(|(_, n)| n).sum::<u64>(), dropped);
        prop_assert_eq!(outcomes.failed.iter().map(|(index, _)| *index).collect::<Vec<_>>(), failed);
        prop_assert!(outcomes.dropped.len() <= 3, "reasons are counted, not listed");
        let emitting = fates.len() as u64 - dropped - outcomes.failed.len() as u64;
        prop_assert_eq!(outcomes.emitting(fates.len()), emitting);
    }
}

#[test]
fn as_many_outcomes_as_inputs() {
    for count in [0, 1, 3] {
        let outcomes: Vec<Outcome> = (0..count).map(|_| Outcome::drop("gone")).collect();
        let error = Outcomes::collect(&input(2), &step(), outcomes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.message().contains(&format!("{count} outcomes for 2 inputs")), "{error}");
    }
}

#[test]
fn siblings_with_one_id_fail_their_input_alone() {
    let input = input(2);
    let items: Vec<Item> = input.iter().map(|item| item.typed().unwrap()).collect();
    let twice = Outcome::emit_all([items[0].derive("salt", 0, raw(1)), items[0].derive("salt", 0, raw(2))]);
    let good = Outcome::emit(items[1].clone());
    let outcomes = Outcomes::collect(&input, &step(), vec![twice, good]).unwrap();
    outcomes.check(2).unwrap();
    assert_eq!(outcomes.attribution, Attribution::Each(vec![1]));
    assert_eq!((outcomes.failed[0].0, outcomes.failed[0].1.kind()), (0, ErrorKind::Validation));
}

#[test]
fn whoever_counts_wrongly_is_told() {
    let outcomes = |emitted: usize, attribution: Attribution, dropped: u64, failed: &[u32]| Outcomes {
        emitted: input(emitted),
        attribution,
        dropped: vec![("gone".into(), dropped)],
        absorbed: 0,
        failed: failed.iter().map(|index| (*index, Error::internal("bad"))).collect(),
    };
    let each = |of: &[u32]| Attribution::Each(of.to_vec());
    outcomes(3, Attribution::Same, 0, &[]).check(3).unwrap();
    outcomes(3, each(&[0, 0, 2]), 1, &[3]).check(4).unwrap();
    let wrong = [
        ("a missing one", outcomes(2, Attribution::Same, 0, &[]), 3),
        ("one too many", outcomes(4, Attribution::Same, 0, &[]), 3),
        ("emitted and failed", outcomes(2, each(&[0, 1]), 0, &[1]), 2),
        ("failed twice", outcomes(1, each(&[0]), 0, &[1, 1]), 3),
        ("a stranger emitted", outcomes(1, each(&[7]), 0, &[]), 1),
        ("a stranger failed", outcomes(1, each(&[0]), 0, &[7]), 2),
        ("too few attributions", outcomes(2, each(&[0]), 0, &[]), 1),
        ("too many attributions", outcomes(1, each(&[0, 1]), 1, &[]), 2),
        ("dropped too often", outcomes(1, each(&[0]), 2, &[]), 2),
    ];
    for (what, outcomes, inputs) in wrong {
        let error = outcomes.check(inputs).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Internal, "{what}");
    }
}

#[test]
fn a_report_of_a_sink_speaks_of_each_item_once_and_of_no_other() {
    let rejected = |why: &str| WriteStatus::Rejected(Error::invalid("n", why));
    let twice = WriteReport::applied(3).with(1, rejected("first")).with(1, rejected("second"));
    assert_eq!(twice.others().len(), 1, "{twice:?}");
    assert!(matches!(twice.status(1), WriteStatus::Rejected(error) if error.message().contains("second")));
    assert!(twice.check(3).is_ok());

    for (report, says) in [
        (WriteReport::applied(2), "reported on 2 of 3 items"),
        (WriteReport::applied(3).with(3, rejected("none")), "item 3 of 3"),
        (WriteReport::new([WriteStatus::Applied]).with(7, rejected("none")), "reported on 1 of 3 items"),
    ] {
        let error = report.check(3).unwrap_err();
        assert!(error.message().contains(says), "{error}");
        assert!(Breach::caused(&error) && error.kind() == ErrorKind::Internal);
    }
}
