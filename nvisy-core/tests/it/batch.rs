//! A batch is held against a plain list of primitives, through random operations.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{BinaryArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use nvisy_core::batch::{BatchReader, BatchWriter};
use nvisy_core::lineage::{Merges, Step};
use nvisy_core::primitive::document::Document;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::primitive::row::Row;
use nvisy_core::token::{Settlement, SlotWatch, Token, Tokens};
use nvisy_core::{Batch, Kind, Lineage, Metadata, Payload, Positions, Primitive, SourceIdentity};
use proptest::prelude::*;

/// Remembers how each slot resolved.
#[derive(Default)]
struct Log(Mutex<BTreeMap<u64, Vec<Settlement>>>);

impl SlotWatch for Log {
    fn landed(&self, _: u64) {}

    fn resolved(&self, slot: u64, worst: Settlement) {
        self.0.lock().unwrap().entry(slot).or_default().push(worst);
    }
}

/// How the payloads of a new batch lie.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Raw,
    Documents,
    Rows,
    Views,
}

/// What can be done to a batch. Numbers are taken modulo what is there.
#[derive(Clone, Debug)]
enum Operation {
    Select(Vec<u16>),
    Slice(u16, u16),
    Filter(u64),
    CutAndJoin(Vec<u16>),
    Join { layout: Layout, len: u8, before: bool },
    Interleave { layout: Layout, len: u8, picks: Vec<u16> },
    Derive(Vec<u16>),
    Merge(Vec<u16>),
    Edit,
    Ids(u16),
    Payloads,
    Tag(u64),
    Copy,
}

fn layouts() -> impl Strategy<Value = Layout> {
    prop_oneof![Just(Layout::Raw), Just(Layout::Documents), Just(Layout::Rows), Just(Layout::Views)]
}

fn operations() -> impl Strategy<Value = Operation> {
    prop_oneof![
        prop::collection::vec(any::<u16>(), 0..12).prop_map(Operation::Select),
        (any::<u16>(), any::<u16>()).prop_map(|(a, b)| Operation::Slice(a, b)),
        any::<u64>().prop_map(Operation::Filter),
        prop::collection::vec(any::<u16>(), 0..4).prop_map(Operation::CutAndJoin),
        (layouts(), 0..6_u8, any::<bool>()).prop_map(|(layout, len, before)| Operation::Join {
            layout,
            len,
            before
        }),
        (layouts(), 0..6_u8, prop::collection::vec(any::<u16>(), 0..12))
            .prop_map(|(layout, len, picks)| Operation::Interleave { layout, len, picks }),
        prop::collection::vec(any::<u16>(), 0..8).prop_map(Operation::Derive),
        prop::collection::vec(any::<u16>(), 0..6).prop_map(Operation::Merge),
        Just(Operation::Edit),
        any::<u16>().prop_map(Operation::Ids),
        Just(Operation::Payloads),
        any::<u64>().prop_map(Operation::Tag),
        Just(Operation::Copy),
    ]
}

/// One item of the list: the primitive, and the slot it comes from.
#[derive(Clone)]
struct Modelled {
    item: Primitive,
    slot: u64,
}

struct World {
    log: Arc<Log>,
    slots: u64,
    steps: u32,
    /// How the items of each slot ended that ended so far.
    worst: BTreeMap<u64, Settlement>,
}

impl World {
    fn step(&mut self) -> Arc<Step> {
        self.steps += 1;
        let time = Metadata::default().created_at + chrono::Duration::seconds(self.steps.into());
        Arc::new(Step::new(format!("node {}", self.steps), "operation", time))
    }

    fn end(&mut self, slot: u64, settlement: Settlement) {
        let worst = self.worst.entry(slot).or_insert(Settlement::Delivered);
        *worst = (*worst).max(settlement);
    }

    /// Reads a new batch of its own slot.
    fn read(&mut self, layout: Layout, len: usize) -> (Batch, Vec<Modelled>) {
        self.slots += 1;
        let slot = self.slots;
        let source = SourceIdentity::new(format!("source {slot}"));
        let (step, metadata) =
            (self.step(), Arc::new(Metadata::new("graph", "source", Metadata::default().created_at)));
        let positions = Positions::from(slot * 100);
        let rows = rows(slot, len);
        let view = |index: usize| Payload::Row(Row::new(Arc::new(rows.clone()), index as u32).unwrap());
        let payloads: Vec<Payload> = (0..len)
            .map(|n| match layout {
                Layout::Raw => Raw::Json((slot * 1_000 + n as u64).into()).into_payload(),
                Layout::Documents => Document::new(format!("{slot}.{n}")).unwrap().into_payload(),
                Layout::Rows | Layout::Views => view(n),
            })
            .collect();
        let read = match layout {
            Layout::Rows => {
                Batch::read_rows(rows.clone(), positions.clone(), &source, step.clone(), metadata.clone())
            }
            _ => Batch::read(payloads.clone(), positions.clone(), &source, step.clone(), metadata.clone()),
        };
        let batch = read.unwrap().with_tokens(Tokens::one(Token::open(slot, self.log.clone())));
        let modelled = payloads.into_iter().enumerate().map(|(n, payload)| {
            let position = positions.get(n as u32).unwrap();
            let lineage = Lineage::origin(step.clone(), source.clone(), position.clone());
            Modelled { item: Primitive::new(source.id(&position), payload, metadata.clone(), lineage), slot }
        });
        (batch, modelled.collect())
    }
}

fn rows(slot: u64, len: usize) -> RecordBatch {
    let schema = Schema::new(vec![
        Field::new("number", DataType::Int64, false),
        Field::new("text", DataType::Utf8, true),
    ]);
    let numbers: Int64Array = (0..len as i64).map(|n| slot as i64 * 1_000 + n).map(Some).collect();
    let texts: StringArray = (0..len).map(|n| (n % 3 > 0).then(|| format!("{slot}.{n}"))).collect();
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(numbers), Arc::new(texts)]).unwrap()
}

/// Does one thing to a batch and to the list.
fn apply(
    world: &mut World,
    batch: Batch,
    model: Vec<Modelled>,
    operation: &Operation,
) -> (Batch, Vec<Modelled>) {
    let len = batch.len();
    match operation {
        Operation::Select(numbers) => {
            let indices: Vec<u32> = if len == 0 {
                Vec::new()
            } else {
                numbers.iter().map(|n| u32::from(*n) % len as u32).collect()
            };
            let part = batch.select(&indices);
            part_of(world, batch, &model);
            (part, indices.iter().map(|i| model[*i as usize].clone()).collect())
        }
        Operation::Slice(from, more) => {
            let from = usize::from(*from) % (len + 1);
            let more = usize::from(*more) % (len - from + 1);
            let part = batch.slice(from, more);
            part_of(world, batch, &model);
            (part, model[from..from + more].to_vec())
        }
        Operation::Filter(bits) => {
            let kept = |i: usize| (bits >> (i % 64)) & 1 == 1;
            // A null bit drops as an unset one does.
            let mask: BooleanArray =
                (0..len).map(|i| if i % 7 == 6 { None } else { Some(kept(i)) }).collect();
            let (kept, gone): (Vec<_>, Vec<_>) =
                model.into_iter().enumerate().partition(|(i, _)| i % 7 != 6 && kept(*i));
            gone.iter().for_each(|(_, gone)| world.end(gone.slot, Settlement::Dropped));
            (batch.filter(&mask), kept.into_iter().map(|(_, kept)| kept).collect())
        }
        Operation::CutAndJoin(cuts) => {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| usize::from(*cut) % (len + 1)).collect();
            cuts.extend([0, len]);
            cuts.sort_unstable();
            let parts = cuts.windows(2).map(|ends| batch.slice(ends[0], ends[1] - ends[0])).collect();
            let mut joined = Batch::concat(parts);
            part_of(world, batch, &model);
            assert_eq!(joined.len(), 1);
            (joined.pop().unwrap(), model)
        }
        Operation::Join { layout, len, before } => {
            let (other, others) = world.read(*layout, usize::from(*len));
            let (batches, model) = if *before {
                (vec![other, batch], others.into_iter().chain(model).collect())
            } else {
                (vec![batch, other], model.into_iter().chain(others).collect())
            };
            (Batch::concat(batches).pop().unwrap(), model)
        }
        Operation::Interleave { layout, len: more, picks } => {
            let (other, others) = world.read(*layout, usize::from(*more));
            let all: Vec<_> = model.into_iter().chain(others).collect();
            let flat: Vec<usize> = match all.len() {
                0 => Vec::new(),
                all => picks.iter().map(|pick| usize::from(*pick) % all).collect(),
            };
            let of = |at: &usize| if *at < len { (0, *at) } else { (1, *at - len) };
            let picks: Vec<_> = flat.iter().map(of).collect();
            let merged = Batch::interleave(&[&batch, &other], &picks);
            assert!(merged.tokens().is_empty());
            let joined = Batch::concat(vec![batch, other]).pop().unwrap();
            let tokens = joined.tokens().split_for(flat.iter().map(|at| *at as u32));
            part_of(world, joined, &all);
            (merged.with_tokens(tokens), flat.into_iter().map(|at| all[at].clone()).collect())
        }
        Operation::Derive(numbers) => {
            let mut parents: Vec<u32> = if len == 0 {
                Vec::new()
            } else {
                numbers.iter().map(|n| u32::from(*n) % len as u32).collect()
            };
            parents.sort_unstable();
            let ordinals: Vec<u64> = (0..parents.len() as u64).collect();
            let payloads: Vec<Payload> =
                ordinals.iter().map(|n| Raw::Json((*n).into()).into_payload()).collect();
            let step = world.step();
            let derived = batch.derive(&step, "salt", payloads.clone(), &parents, &ordinals).unwrap();
            let derived = derived.with_tokens(batch.tokens().split_for(parents.iter().copied()));
            part_of(world, batch, &model);
            let modelled = parents.iter().zip(ordinals).zip(payloads).map(|((parent, ordinal), payload)| {
                let Modelled { item, slot } = &model[*parent as usize];
                let lineage = Lineage::derived(step.clone(), [(item.id(), item.lineage().clone())]);
                Modelled { item: item.derive("salt", ordinal, payload).with_lineage(lineage), slot: *slot }
            });
            (derived, modelled.collect())
        }
        Operation::Merge(numbers) => merge(world, batch, &model, numbers),
        Operation::Edit => {
            let step = world.step();
            let edited = |modelled: Modelled| Modelled {
                item: modelled.item.clone().with_lineage(modelled.item.lineage().edited(step.clone())),
                ..modelled
            };
            let batch = batch.edited(&step);
            (batch, model.into_iter().map(edited).collect())
        }
        Operation::Ids(salt) => {
            let ids: Vec<_> =
                model.iter().map(|modelled| modelled.item.id().derive("own", (*salt).into())).collect();
            let same = |(modelled, id): (Modelled, _)| {
                let Modelled { item, slot } = modelled;
                // What the lineage says of the first id is checked where the batch is read.
                let item = Primitive::new(
                    id,
                    item.payload().clone(),
                    item.metadata().clone(),
                    item.lineage().clone(),
                );
                Modelled { item, slot }
            };
            let batch = batch.with_ids(ids.clone()).unwrap();
            let keyed = (0..batch.len()).map(|index| batch.lineage(index));
            let model = model.into_iter().zip(ids).map(same);
            let model = model.zip(keyed).map(|(modelled, lineage)| Modelled {
                item: modelled.item.with_lineage(lineage),
                ..modelled
            });
            let model = model.collect();
            (batch, model)
        }
        Operation::Payloads => {
            let payloads: Vec<Payload> = (0..len).map(|n| Raw::Json(n.into()).into_payload()).collect();
            let model = model.into_iter().zip(payloads.clone());
            let model = model.map(|(m, payload)| Modelled { item: m.item.with_payload(payload), ..m });
            (batch.with_payloads(payloads).unwrap(), model.collect())
        }
        Operation::Tag(bits) => {
            let tag = |index: usize, item: Primitive| {
                if (bits >> (index % 64)) & 1 == 0 {
                    return item;
                }
                item.edit_metadata(|metadata| {
                    metadata.tags.insert("tag".into(), index.to_string());
                })
            };
            let mut batch = batch;
            let tokens = batch.take_tokens();
            let items = batch.into_primitives().into_iter().enumerate().map(|(index, item)| tag(index, item));
            let model = model.into_iter().enumerate();
            let model = model.map(|(index, m)| Modelled { item: tag(index, m.item), ..m });
            (Batch::from_primitives(items.collect()).with_tokens(tokens), model.collect())
        }
        Operation::Copy => {
            let copy = batch.clone();
            part_of(world, batch, &model);
            (copy, model)
        }
    }
}

/// Makes rows of an item each, and of another one.
fn merge(world: &mut World, batch: Batch, model: &[Modelled], numbers: &[u16]) -> (Batch, Vec<Modelled>) {
    let len = batch.len();
    let mut firsts: Vec<usize> = numbers.iter().filter_map(|n| usize::from(*n).checked_rem(len)).collect();
    firsts.sort_unstable();
    let (steps, source) = ([world.step(), world.step()], SourceIdentity::new("merges"));
    let whole = batch.without_tokens();
    let halves = [whole.slice(0, len / 2), whole.slice(len / 2, len - len / 2)].map(|h| h.without_payloads());
    let mut merges = Merges::default();
    let known = halves.each_ref().map(|half| merges.batch(half));
    let rows = Arc::new(rows(7, firsts.len()));
    let mut modelled = Vec::new();
    for (at, first) in firsts.iter().enumerate() {
        let parents = [*first, (first * 7 + at) % len];
        for parent in parents {
            let half = usize::from(parent >= len / 2);
            merges.input(&halves[half], known[half], parent - half * (len / 2));
        }
        merges.end(&steps[at % 2]);
        let inputs = parents.map(|at| (model[at].item.id(), model[at].item.lineage().clone()));
        let lineage = Lineage::derived(steps[at % 2].clone(), inputs);
        let row = Row::new(rows.clone(), at as u32).unwrap();
        let item = Primitive::new(source.id_of_key(&[at as u8]), row, Arc::default(), lineage);
        modelled.push(Modelled { item, slot: model[*first].slot });
    }
    let keys = BinaryArray::from_iter_values((0..firsts.len()).map(|at| [at as u8]));
    let merged = Batch::merged(RecordBatch::clone(&rows), (source, keys), merges, Arc::default()).unwrap();
    let merged = merged.with_tokens(batch.tokens().split_for(firsts.iter().map(|first| *first as u32)));
    part_of(world, batch, model);
    (merged, modelled)
}

/// Finishes a batch of which a part goes on: its items go on or are left out without a word.
fn part_of(world: &mut World, mut batch: Batch, model: &[Modelled]) {
    for modelled in model {
        world.end(modelled.slot, Settlement::Delivered);
    }
    batch.take_tokens().settle(Settlement::Delivered);
}

fn check(batch: &Batch, model: &[Modelled]) {
    assert_eq!(batch.len(), model.len());
    assert_eq!(batch.ids(), model.iter().map(|modelled| modelled.item.id()).collect::<Vec<_>>());
    for (index, modelled) in model.iter().enumerate() {
        assert_eq!(batch.primitive(index), modelled.item, "item {index}");
        assert_eq!(batch.lineage(index).root(), modelled.item.root());
        assert_eq!(batch.metadata(index), modelled.item.metadata());
    }
    assert_eq!(batch.kinds(), model.iter().map(|modelled| modelled.item.kind()).collect());
}

/// Settles every item of a batch by itself. Each slot has to resolve with its last item, once,
/// as its worst item ended.
fn check_tokens(world: &mut World, mut batch: Batch, model: &[Modelled], ends: &[u8]) {
    let tokens = batch.take_tokens();
    let parts: Vec<_> = (0..model.len()).map(|index| tokens.split_for([index as u32].into_iter())).collect();
    tokens.settle(Settlement::Delivered);
    for (index, part) in parts.into_iter().enumerate() {
        let slot = model[index].slot;
        let settlement = [
            Settlement::Delivered,
            Settlement::Dropped,
            Settlement::DeadLettered,
            Settlement::Failed,
            Settlement::Abandoned,
        ][usize::from(ends[index % ends.len()]) % 5];
        assert!(!world.log.0.lock().unwrap().contains_key(&slot), "slot {slot} resolved before item {index}");
        world.end(slot, settlement);
        match settlement {
            Settlement::Abandoned => drop(part),
            other => part.settle(other),
        }
        let last = !model[index + 1..].iter().any(|later| later.slot == slot);
        assert_eq!(world.log.0.lock().unwrap().contains_key(&slot), last, "slot {slot} at item {index}");
    }
    let resolved = world.log.0.lock().unwrap();
    for slot in 1..=world.slots {
        let worst = world.worst.get(&slot).copied();
        // A slot without items ends as the test ends it, or as nothing worse than dropped.
        let expected = worst.unwrap_or(Settlement::Delivered);
        let found = resolved.get(&slot).map(Vec::as_slice);
        match worst {
            Some(_) => assert_eq!(found, Some([expected].as_slice()), "slot {slot}"),
            None => assert_eq!(found.map(<[_]>::len), Some(1), "slot {slot}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_is_a_list_of_primitives(
        layout in layouts(),
        len in 0..8_usize,
        operations in prop::collection::vec(operations(), 0..10),
        ends in prop::collection::vec(any::<u8>(), 1..8),
    ) {
        let mut world = World { log: Arc::default(), slots: 0, steps: 0, worst: BTreeMap::new() };
        let (mut batch, mut model) = world.read(layout, len);
        let (mut writer, mut reader) = (BatchWriter::default(), BatchReader::default());
        check(&batch, &model);
        for operation in &operations {
            (batch, model) = apply(&mut world, batch, model, operation);
            check(&batch, &model);
            let read = reader.read(&writer.write(&batch).unwrap()).unwrap();
            check(&read, &model);
            assert_eq!(read.as_rows().is_some(), batch.as_rows().is_some());
        }
        check_tokens(&mut world, batch, &model, &ends);
    }
}

#[test]
fn a_batch_of_the_users_keys_names_its_roots_by_them() {
    let mut world = World { log: Arc::default(), slots: 0, steps: 0, worst: BTreeMap::new() };
    let (batch, _) = world.read(Layout::Raw, 3);
    let ids: Vec<_> = (0..3).map(|n| SourceIdentity::new("own").id_of_key(&[n])).collect();
    let step = world.step();
    let batch = batch.with_ids(ids.clone()).unwrap().edited(&step).select(&[2, 0]);
    assert_eq!(batch.ids(), [ids[2], ids[0]]);
    assert_eq!(batch.lineage(0).root().unwrap().id, ids[2]);
    let read = Lineage::from_records(batch.lineage(0).records()).unwrap();
    assert_eq!(read.root().unwrap().id, ids[2]);
}

#[test]
fn wrong_lengths_are_errors_and_not_panics() {
    let mut world = World { log: Arc::default(), slots: 0, steps: 0, worst: BTreeMap::new() };
    let (batch, _) = world.read(Layout::Rows, 3);
    let step = world.step();
    assert!(batch.without_tokens().with_rows(rows(1, 2)).is_err());
    assert!(batch.without_tokens().with_payloads(Vec::new()).is_err());
    assert!(batch.without_tokens().with_ids(Vec::new()).is_err());
    let one = || vec![Raw::Json(1.into()).into_payload()];
    assert!(batch.derive(&step, "salt", one(), &[3], &[0]).is_err());
    assert!(batch.derive(&step, "salt", one(), &[0, 1], &[0]).is_err());
    let keys = (SourceIdentity::new("source"), BinaryArray::from_vec(vec![b"key"]));
    assert!(Batch::merged(rows(1, 1), keys, Merges::default(), Arc::default()).is_err());
    let positions = Positions::each([]);
    let (source, metadata) = (SourceIdentity::new("source"), Arc::default());
    assert!(Batch::read(one(), positions, &source, step, metadata).is_err());
}

#[test]
fn what_batches_share_is_written_once_and_what_is_cut_is_refused() {
    let mut world = World { log: Arc::default(), slots: 0, steps: 0, worst: BTreeMap::new() };
    let step = world.step();
    let (batch, model) = world.read(Layout::Rows, 8);
    let batch = batch.without_tokens().edited(&step);
    let mut writer = BatchWriter::default();
    let [first, second] = [writer.write(&batch).unwrap(), writer.write(&batch).unwrap()];
    assert!(second.len() < first.len(), "{} and {}", first.len(), second.len());
    assert!(BatchReader::default().read(&second).is_err(), "it needs what stood in the first");
    for len in 0..first.len() {
        assert!(BatchReader::default().read(&first[..len]).is_err(), "cut at {len}");
    }
    let mut reader = BatchReader::default();
    reader.read(&first).unwrap();
    assert_eq!(reader.read(&second).unwrap().ids(), model.iter().map(|m| m.item.id()).collect::<Vec<_>>());
}

#[test]
fn rows_of_one_batch_become_rows_again() {
    let mut world = World { log: Arc::default(), slots: 0, steps: 0, worst: BTreeMap::new() };
    let (batch, _) = world.read(Layout::Rows, 4);
    let tail = Batch::from_primitives(batch.slice(1, 3).into_primitives());
    assert_eq!(tail.as_rows().map(|rows| rows.num_rows()), Some(3));
    let (other, _) = world.read(Layout::Rows, 2);
    let joined = Batch::concat(vec![batch.without_tokens(), other]).pop().unwrap();
    assert_eq!(joined.as_rows().map(|rows| rows.num_rows()), Some(6));
}

#[test]
fn many_slots_make_several_batches() {
    let mut world = World { log: Arc::default(), slots: 0, steps: 0, worst: BTreeMap::new() };
    let batches: Vec<_> = (0..70_000).map(|_| world.read(Layout::Raw, 1).0).collect();
    let joined = Batch::concat(batches);
    assert_eq!(joined.iter().map(Batch::len).collect::<Vec<_>>().iter().sum::<usize>(), 70_000);
    assert!(joined.len() > 1);
    for mut batch in joined {
        batch.take_tokens().settle(Settlement::Delivered);
    }
    let resolved = world.log.0.lock().unwrap();
    assert!(resolved.len() == 70_000 && resolved.values().all(|ends| *ends == [Settlement::Delivered]));
}

#[test]
fn texts_that_no_column_can_hold_together_lose_no_item() {
    // 40 times 64 MiB is more than the 32 bits of an offset can say.
    let text = StringArray::from(vec!["x".repeat(64 << 20)]);
    let schema = Schema::new(vec![Field::new("text", DataType::Utf8, false)]);
    let rows = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(text)]).unwrap();
    let source = SourceIdentity::new("large");
    let step = Arc::new(Step::new("node", "operation", Metadata::default().created_at));
    let batch =
        Batch::read_rows(rows, Positions::from(0), &source, step, Arc::new(Metadata::default())).unwrap();

    let many = batch.select(&[0; 40]);
    assert_eq!((many.len(), many.ids().len(), many.iter().len()), (40, 40, 40));
    let Payload::Row(row) = many.payload(39) else { panic!("{many:?}") };
    assert_eq!(row.get_str("text").map(str::len), Some(64 << 20));
}
