//! Lineages write themselves out as records and read back.

use std::sync::Arc;

use nvisy_core::lineage::{Inputs, Record, Step};
use nvisy_core::primitive::raw::Raw;
use nvisy_core::{ErrorKind, Item, Kind, Lineage, Metadata, Outcomes, Position, PrimitiveId, SourceIdentity};
use proptest::prelude::*;
use serde_json::{Value, json};

/// How a lineage came about.
#[derive(Clone, Debug)]
enum Story {
    Read(u64),
    Edited(Box<Self>, u8),
    Derived(Vec<Self>, u8),
}

fn stories() -> impl Strategy<Value = Story> {
    any::<u64>().prop_map(Story::Read).prop_recursive(6, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), any::<u8>()).prop_map(|(story, n)| Story::Edited(Box::new(story), n)),
            (prop::collection::vec(inner, 1..4), any::<u8>())
                .prop_map(|(stories, n)| Story::Derived(stories, n)),
        ]
    })
}

fn step(n: u8) -> Arc<Step> {
    let time = Metadata::default().created_at + chrono::Duration::milliseconds(n.into());
    let parameters = if n.is_multiple_of(2) { Value::Null } else { json!({ "n": n, "deep": [null, 1.5] }) };
    Arc::new(Step::new(format!("node {n}"), "operation", time).with_parameters(Arc::new(parameters)))
}

/// Returns the lineage, the id of the item, and the positions of the source items, in order.
fn tell(story: &Story) -> (PrimitiveId, Lineage, Vec<Position>) {
    match story {
        Story::Read(n) => {
            let (source, position) = (SourceIdentity::new("source"), Position::Offset(*n));
            (source.id(&position), Lineage::origin(step(0), source, position.clone()), vec![position])
        }
        Story::Edited(story, n) => {
            let (id, lineage, roots) = tell(story);
            (id, lineage.edited(step(*n)), roots)
        }
        Story::Derived(stories, n) => {
            let told: Vec<_> = stories.iter().map(tell).collect();
            let id = PrimitiveId::merge(told.iter().map(|(id, ..)| *id), "salt", 0);
            let roots = told.iter().flat_map(|(_, _, roots)| roots.clone()).collect();
            (id, Lineage::derived(step(*n), told.into_iter().map(|(id, lineage, _)| (id, lineage))), roots)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_lineage_reads_back_from_its_records(story in stories()) {
        let (_, lineage, roots) = tell(&story);
        prop_assert_eq!(lineage.root().map(|root| root.position), roots.first().cloned());
        let found: Vec<_> = lineage.roots().into_iter().map(|root| root.position).collect();
        prop_assert_eq!(&found, &roots);
        let ways = lineage.ways();
        prop_assert_eq!(ways.iter().map(|way| way.root.clone()).collect::<Vec<_>>(), lineage.roots());
        let first: Vec<_> = lineage.records().iter().map(|record| record.node.clone()).collect();
        prop_assert_eq!(ways[0].steps.iter().map(|step| step.node.clone()).collect::<Vec<_>>(), first);

        let read = Lineage::from_records(lineage.records()).unwrap();
        prop_assert_eq!(&read, &lineage);
        prop_assert_eq!(read.roots(), lineage.roots());

        let json = serde_json::to_string(&lineage).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Lineage>(&json).unwrap(), &lineage);
        let bytes = postcard::to_allocvec(&lineage).unwrap();
        prop_assert_eq!(&postcard::from_bytes::<Lineage>(&bytes).unwrap(), &lineage);
    }
}

#[test]
fn records_that_tell_no_story_are_refused() {
    let (_, lineage, _) = tell(&Story::Edited(Box::new(Story::Read(1)), 1));
    let records = lineage.records();
    let bad: [Vec<Record>; 3] =
        [Vec::new(), vec![records[1].clone()], vec![records[0].clone(), records[0].clone()]];
    for records in bad {
        let error = Lineage::from_records(records).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Validation);
    }
    let endless = std::iter::once(records[0].clone()).chain(std::iter::repeat_n(records[1].clone(), 5_000));
    assert!(Lineage::from_records(endless.collect()).is_err());
}

#[test]
fn a_long_lineage_neither_overflows_the_stack_nor_loses_its_root() {
    let (_, mut lineage, roots) = tell(&Story::Read(7));
    for n in 0..100_000_u32 {
        lineage = lineage.edited(step(n as u8));
    }
    assert_eq!(lineage.root().unwrap().position, roots[0]);
    drop(lineage);
    let (id, mut lineage, _) = tell(&Story::Read(7));
    for n in 0..100_000_u32 {
        lineage = Lineage::derived(step(n as u8), [(id, lineage)]);
    }
    assert_eq!(lineage.roots().len(), 1);
}

#[test]
fn what_leaves_an_action_names_its_parent() {
    let input: nvisy_core::Batch =
        ["a", "b"].map(|key| Item::detached(key, Raw::Json(json!(key)))).into_iter().collect();
    let step = step(1);
    let outcomes = (0..2).map(|index| {
        let item: Item = input.primitive(index).typed().unwrap();
        nvisy_core::Outcome::expand(&item, "salt", (0..2).map(|n| Raw::Json(n.into()).into_payload()))
    });
    let outcomes = Outcomes::collect(&input, &step, outcomes.collect()).unwrap();
    for (index, item) in outcomes.emitted.iter().enumerate() {
        let records = item.lineage().records();
        let Inputs::From(inputs) = &records.last().unwrap().inputs else { panic!("no derivation") };
        assert_eq!(inputs[0].id, input.id(index / 2));
        assert_eq!(item.root(), input.primitive(index / 2).root());
    }
}
