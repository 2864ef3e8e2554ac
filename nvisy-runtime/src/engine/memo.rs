//! The memo of one node: what is known of a batch before a call, and what is kept after it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nvisy_core::hash::ContentHash;
use nvisy_core::id::{Derivation, Derivations};
use nvisy_core::lineage::Step;
use nvisy_core::observability::{Meter, ModelUsage, RateHint};
use nvisy_core::outcome::Outcome;
use nvisy_core::{Any, Batch, Context, Lineage, Outcomes, Payload, Primitive, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::ledger::NodeMeter;
use crate::compiler::plan::{PlanConnection, PlanNode};
use crate::memo::MemoStore;

/// The version of what is kept, and of how keys are made.
const FORMAT: u8 = 1;
/// How much of its SHA-256 stands at the end of what is kept.
const CHECKSUM: usize = 8;

/// The memo of one node.
pub(super) struct Memo {
    store: Arc<dyn MemoStore>,
    /// Hash of everything that decides a result but the item.
    scope: [u8; 32],
    meter: Arc<NodeMeter>,
}

/// What is kept of one item.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    emitted: Vec<Made>,
    /// Its share of what the model used.
    usage: Vec<ModelUsage>,
}

/// An item that was emitted: how its id follows from the input's, not at all for an edit.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    path: Vec<Derivation>,
    payload: Payload,
}

/// What was heard while an action was called.
#[derive(Debug, Default)]
pub(super) struct Heard {
    derivations: Derivations,
    usage: Vec<ModelUsage>,
}

impl Memo {
    pub(super) fn new(
        store: Arc<dyn MemoStore>,
        node: &PlanNode,
        version: &str,
        connection: Option<&PlanConnection>,
        meter: Arc<NodeMeter>,
    ) -> Self {
        let connection = connection.map(|connection| (&connection.operation, public(connection)));
        let runtime = env!("CARGO_PKG_VERSION");
        // Maps of JSON are sorted: the order in which a config is written says nothing.
        let scope = json!([FORMAT, runtime, node.operation, version, node.parameters, connection]);
        Self { store, scope: Sha256::digest(scope.to_string()).into(), meter }
    }

    fn keys(&self, input: &Batch) -> Vec<ContentHash> {
        let key = |item: Primitive| {
            let mut hash = Sha256::new();
            hash.update(self.scope);
            hash.update(item.content_hash().as_bytes());
            ContentHash::from_bytes(hash.finalize().into())
        };
        input.iter().map(key).collect()
    }

    /// Returns for each item what a call would make of it, where that is known.
    pub(super) async fn recall(&self, input: &Batch) -> Vec<Option<Outcome<Any>>> {
        let keys = self.keys(input);
        let found = self.store.get(&keys).await.unwrap_or_else(|error| {
            self.meter.note_memo_error(error);
            Vec::new()
        });
        let mut known: Vec<Option<Outcome<Any>>> = Vec::with_capacity(input.len());
        let mut saved = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let entry = found.get(index).and_then(Option::as_deref).and_then(|bytes| Entry::read(key, bytes));
            let outcome = entry.as_ref().and_then(|entry| entry.outcome(&input.primitive(index)));
            if outcome.is_some() {
                saved.extend(entry.into_iter().flat_map(|entry| entry.usage));
            }
            known.push(outcome);
        }
        self.meter.count_memo_hits(known.iter().flatten().count() as u64, &saved);
        known
    }

    /// Makes a call, and hears what it derives and uses.
    pub(super) async fn hear<T, F: Future<Output = T>>(
        &self,
        context: Context,
        call: impl FnOnce(Context) -> F,
    ) -> (T, Heard) {
        let ear = Arc::new(Ear { meter: self.meter.clone(), usage: Mutex::default() });
        let (output, derivations) = Derivations::during(call(context.with_meter(ear.clone()))).await;
        let usage = std::mem::take(&mut *ear.usage.lock().unwrap_or_else(PoisonError::into_inner));
        (output, Heard { derivations, usage })
    }

    /// Keeps what was emitted for the items of a batch that a call was made with.
    pub(super) async fn keep(&self, input: &Batch, outcomes: &Outcomes, step: &Arc<Step>, heard: &Heard) {
        match self.entries(input, outcomes, step, heard) {
            Ok(entries) if entries.is_empty() => {}
            Ok(entries) => {
                if let Err(error) = self.store.put(entries).await {
                    self.meter.note_memo_error(error);
                }
            }
            Err(error) => self.meter.note_memo_error(error),
        }
    }

    /// Keeps what was emitted for one item.
    pub(super) async fn keep_one(
        &self,
        item: Primitive,
        outcome: &Outcome<Any>,
        step: &Arc<Step>,
        heard: &Heard,
    ) {
        let input: Batch = [item].into_iter().collect();
        match Outcomes::collect(&input, step, vec![outcome.clone()]) {
            Ok(outcomes) => self.keep(&input, &outcomes, step, heard).await,
            Err(error) => self.meter.note_memo_error(error),
        }
    }

    /// Writes down what was emitted, of those items for which the entry makes just that again.
    fn entries(
        &self,
        input: &Batch,
        outcomes: &Outcomes,
        step: &Arc<Step>,
        heard: &Heard,
    ) -> Result<Vec<(ContentHash, bytes::Bytes)>> {
        let mut emitted: Vec<Vec<Primitive>> = vec![Vec::new(); input.len()];
        for (index, item) in outcomes.emitted.iter().enumerate() {
            emitted[outcomes.attribution.of(index) as usize].push(item);
        }
        let share = Share::of(&heard.usage, emitted.iter().filter(|items| !items.is_empty()).count());
        let mut nth = 0;
        let mut entries = Vec::new();
        for ((index, key), emitted) in self.keys(input).into_iter().enumerate().zip(emitted) {
            if emitted.is_empty() {
                continue;
            }
            let usage = share.nth(nth);
            nth += 1;
            let item = input.primitive(index);
            let made = emitted.iter().map(|emitted| {
                let path = heard.derivations.path(item.id(), emitted.id())?;
                Some(Made { path, payload: emitted.payload().clone() })
            });
            let Some(made) = made.collect() else { continue };
            let Some(bytes) = (Entry { emitted: made, usage }).write(&key) else { continue };
            let again = Entry::read(&key, &bytes).and_then(|entry| entry.outcome(&item));
            let Some(again) = again else { continue };
            let again = Outcomes::collect(&input.select(&[index as u32]), step, vec![again])?;
            if again.emitted.len() == emitted.len()
                && again.emitted.iter().zip(&emitted).all(|(a, b)| same(&a, b))
            {
                entries.push((key, bytes.into()));
            }
        }
        Ok(entries)
    }
}

impl Entry {
    fn write(&self, key: &ContentHash) -> Option<Vec<u8>> {
        // A user's own type may not become bytes: such a result is not kept.
        let mut bytes = postcard::to_extend(self, vec![FORMAT]).ok()?;
        let checksum = checksum(key, &bytes);
        bytes.extend_from_slice(&checksum);
        Some(bytes)
    }

    fn read(key: &ContentHash, bytes: &[u8]) -> Option<Self> {
        let (content, sum) = bytes.split_last_chunk::<CHECKSUM>()?;
        let (format, body) = content.split_first()?;
        if *format != FORMAT || *sum != checksum(key, content) {
            return None;
        }
        match postcard::take_from_bytes(body) {
            Ok((entry, [])) => Some(entry),
            _ => None,
        }
    }

    /// Returns what a call would make of an item.
    fn outcome(&self, item: &Primitive) -> Option<Outcome<Any>> {
        let emitted = self.emitted.iter().map(|Made { path, payload }| {
            let made = path.iter().fold(item.clone(), |item, Derivation { salt, ordinal }| {
                item.derive(salt, *ordinal, payload.clone())
            });
            made.with_payload(payload.clone()).typed::<Any>().ok()
        });
        let mut emitted: Vec<_> = emitted.collect::<Option<_>>()?;
        Some(match (emitted.len(), emitted.pop()) {
            (1, Some(one)) => Outcome::Emit(one),
            (_, last) => Outcome::emit_all(emitted.into_iter().chain(last)),
        })
    }
}

fn checksum(key: &ContentHash, content: &[u8]) -> [u8; CHECKSUM] {
    let mut hash = Sha256::new();
    hash.update(key.as_bytes());
    hash.update(content);
    let mut checksum = [0; CHECKSUM];
    checksum.copy_from_slice(&hash.finalize()[..CHECKSUM]);
    checksum
}

/// Whether two items are the same but for when the last step was done.
fn same(a: &Primitive, b: &Primitive) -> bool {
    let records = |item: &Primitive| {
        let mut records = Lineage::records(item.lineage());
        if let Some(last) = records.last_mut() {
            last.time = nvisy_core::metadata::Timestamp::UNIX_EPOCH;
        }
        records
    };
    a.id() == b.id() && a.payload() == b.payload() && a.metadata() == b.metadata() && records(a) == records(b)
}

/// A connection's config without the secrets that it names.
fn public(connection: &PlanConnection) -> Value {
    let secrets: Vec<Value> =
        connection.config.secrets().iter().filter_map(|secret| serde_json::to_value(secret).ok()).collect();
    let mut config = (*connection.config_json).clone();
    strip(&mut config, &secrets);
    config
}

fn strip(value: &mut Value, secrets: &[Value]) {
    match value {
        value if secrets.contains(value) => *value = Value::Null,
        Value::Array(values) => values.iter_mut().for_each(|value| strip(value, secrets)),
        Value::Object(fields) => fields.values_mut().for_each(|value| strip(value, secrets)),
        _ => {}
    }
}

/// What a call used, in equal shares that add up.
struct Share<'a> {
    usage: &'a [ModelUsage],
    items: u64,
}

impl<'a> Share<'a> {
    fn of(usage: &'a [ModelUsage], items: usize) -> Self {
        Self { usage, items: items.max(1) as u64 }
    }

    fn nth(&self, n: u64) -> Vec<ModelUsage> {
        let share = |all: u64| all / self.items + u64::from(n < all % self.items);
        let of = |usage: &ModelUsage| ModelUsage {
            model: usage.model.clone(),
            // Which calls a memo saves depends on how the items stand together.
            requests: 0,
            input_tokens: share(usage.input_tokens),
            output_tokens: share(usage.output_tokens),
            usd: usage.usd.map(|usd| usd / self.items as f64),
        };
        self.usage.iter().map(of).collect()
    }
}

/// Hears what a call uses, and tells the node's meter.
struct Ear {
    meter: Arc<NodeMeter>,
    usage: Mutex<Vec<ModelUsage>>,
}

impl Meter for Ear {
    fn model_usage(&self, usage: &ModelUsage) {
        self.meter.model_usage(usage);
        let mut heard = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        match heard.iter_mut().find(|known| known.model == usage.model) {
            Some(known) => known.add(usage),
            None => heard.push(usage.clone()),
        }
    }

    fn rate_hint(&self, hint: RateHint) {
        self.meter.rate_hint(hint);
    }

    fn warn(&self, warning: &str) {
        self.meter.warn(warning);
    }

    fn call(&self, operation: &str, duration: Duration, ok: bool) {
        self.meter.call(operation, duration, ok);
    }
}
