//! Calling something for every item of a batch, one after the other.

use std::sync::Arc;

use super::trail::Stretch;
use super::{Batch, Content, gather};
use crate::error::{Error, Result};
use crate::lineage::{Lineage, Step};
use crate::outcome::{Attribution, Outcome, Outcomes, Reason};
use crate::primitive::{Any, Item, Kind, Payload, Primitive};
use crate::token::Tokens;

impl Batch {
    /// Calls `call` for every item, and gathers the outcomes.
    ///
    /// As long as items are edited in place, dropped or failed, the columns that the batch
    /// shares are lent to one item after the other: no count is touched but the payload's, and
    /// not that either if nobody else holds the payloads.
    pub(crate) fn call_each<K: Kind>(
        mut self,
        step: &Arc<Step>,
        mut call: impl FnMut(Primitive) -> Outcome<K>,
    ) -> Result<Outcomes> {
        let payloads = Payloads::of(self.take_payloads().content);
        let (Some(metadata), Some(Stretch { link, indices })) =
            (self.envelopes.the_one(), self.trail.the_one())
        else {
            let outcomes = payloads.enumerate().map(|(at, payload)| call(self.with(at, payload))).collect();
            return Outcomes::collect(&self, step, outcomes);
        };
        let mut plain = Plain::with_capacity(self.len());
        let mut lent = None;
        let mut payloads = payloads.enumerate();
        while let Some((index, payload)) = payloads.next() {
            let (lent_metadata, lent_link) = lent.take().unwrap_or_else(|| (metadata.clone(), link.clone()));
            let (id, at) = (self.ids.get(index), indices.get(index));
            let lineage = Lineage { link: lent_link, index: at };
            let item = Primitive::from_parts(id, payload, lent_metadata, lineage);
            let odd = match call(item) {
                Outcome::Emit(item) => {
                    let (new_id, payload, new_metadata, lineage) = item.into_primitive().into_parts();
                    let edited = new_id == id
                        && lineage.index == at
                        && Arc::ptr_eq(&lineage.link, link)
                        && Arc::ptr_eq(&new_metadata, metadata);
                    if edited {
                        plain.emit(index, payload);
                        lent = Some((new_metadata, lineage.link));
                        continue;
                    }
                    let item = Primitive::from_parts(new_id, payload, new_metadata, lineage);
                    Outcome::Emit(item.typed::<Any>()?)
                }
                Outcome::EmitAll(items) => Outcome::EmitAll(items.into_iter().map(Item::into_any).collect()),
                Outcome::Drop(reason) => {
                    plain.dropped.push((index as u32, reason));
                    continue;
                }
                Outcome::Fail(error) => {
                    plain.failed.push((index as u32, error));
                    continue;
                }
            };
            // This one was more than edited: the rest goes the long way.
            let mut outcomes = plain.into_outcomes(&self, index)?;
            outcomes.push(odd);
            outcomes.extend(payloads.map(|(at, payload)| call(self.with(at, payload)).into_any()));
            return Outcomes::collect(&self, step, outcomes);
        }
        Ok(plain.finish(&self, step))
    }

    /// Returns the item at `index` with a payload that was taken out.
    fn with(&self, index: usize, payload: Payload) -> Primitive {
        let (metadata, lineage) = (self.envelopes.get(index).clone(), self.trail.get(index));
        Primitive::from_parts(self.ids.get(index), payload, metadata, lineage)
    }
}

/// The payloads of a batch, one after the other: its own if nobody else holds them.
enum Payloads {
    Own(std::vec::IntoIter<Payload>),
    Shared(Content, std::ops::Range<usize>),
}

impl Payloads {
    fn of(content: Content) -> Self {
        let len = content.len();
        match content {
            Content::Items(items) => match Arc::try_unwrap(items) {
                Ok(items) => Self::Own(items.payloads.into_iter()),
                Err(items) => Self::Shared(Content::Items(items), 0..len),
            },
            content => Self::Shared(content, 0..len),
        }
    }
}

impl Iterator for Payloads {
    type Item = Payload;

    fn next(&mut self) -> Option<Payload> {
        match self {
            Self::Own(payloads) => payloads.next(),
            Self::Shared(content, indices) => indices.next().map(|index| content.payload(index)),
        }
    }
}

/// The outcomes of items that were edited, dropped or failed, and nothing else.
struct Plain {
    payloads: Vec<Payload>,
    kept: Vec<u32>,
    dropped: Vec<(u32, Reason)>,
    failed: Vec<(u32, Error)>,
}

impl Plain {
    fn with_capacity(len: usize) -> Self {
        let (payloads, kept) = (Vec::with_capacity(len), Vec::with_capacity(len));
        Self { payloads, kept, dropped: Vec::new(), failed: Vec::new() }
    }

    fn emit(&mut self, index: usize, payload: Payload) {
        self.kept.push(index as u32);
        self.payloads.push(payload);
    }

    fn finish(self, input: &Batch, step: &Arc<Step>) -> Outcomes {
        let all = self.kept.len() == input.len();
        let emitted = Batch {
            content: gather(self.payloads),
            ids: if all { input.ids.clone() } else { input.ids.take(&self.kept) },
            envelopes: input.envelopes.clone(),
            trail: if all { input.trail.clone() } else { input.trail.take(&self.kept) }.edited(step),
            tokens: Tokens::none(),
        };
        let mut dropped: Vec<(Reason, u64)> = Vec::new();
        for (_, reason) in self.dropped {
            match dropped.last_mut() {
                Some((known, count)) if *known == reason => *count += 1,
                _ => match dropped.iter_mut().find(|(known, _)| *known == reason) {
                    Some((_, count)) => *count += 1,
                    None => dropped.push((reason, 1)),
                },
            }
        }
        let attribution = if all { Attribution::Same } else { Attribution::Each(self.kept) };
        Outcomes { emitted, attribution, dropped, absorbed: 0, failed: self.failed }
    }

    /// Returns the outcomes of the first `len` items one by one.
    fn into_outcomes(self, input: &Batch, len: usize) -> Result<Vec<Outcome<Any>>> {
        let mut outcomes: Vec<Option<Outcome<Any>>> = (0..len).map(|_| None).collect();
        for (index, payload) in self.kept.into_iter().zip(self.payloads) {
            let item = input.with(index as usize, payload);
            outcomes[index as usize] = Some(Outcome::Emit(item.typed()?));
        }
        for (index, reason) in self.dropped {
            outcomes[index as usize] = Some(Outcome::Drop(reason));
        }
        for (index, error) in self.failed {
            outcomes[index as usize] = Some(Outcome::Fail(error));
        }
        Ok(outcomes.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Context;
    use crate::id::SourceIdentity;
    use crate::position::Positions;
    use crate::primitive::raw::Raw;

    fn numbers(len: u64) -> Batch {
        let payloads = (0..len).map(|n| Raw::Json(n.into()).into_payload()).collect();
        let context = Context::detached();
        let source = SourceIdentity::new("numbers");
        Batch::read(payloads, Positions::from(0), &source, context.step(), context.metadata()).unwrap()
    }

    /// Whatever each item meets with, the outcomes are those of the long way round.
    fn check(call: impl Fn(Primitive) -> Outcome<Any>) {
        let (batch, step) = (numbers(7), Context::detached().step());
        let long = Outcomes::collect(&batch, &step, batch.iter().map(&call).collect()).unwrap();
        // Once with payloads that others hold too, once with its own.
        for batch in [batch.without_tokens(), batch] {
            let short = batch.call_each(&step, &call).unwrap();
            assert_eq!(short.emitted.into_primitives(), long.emitted.iter().collect::<Vec<_>>());
            assert_eq!(short.attribution, long.attribution);
            assert_eq!(short.dropped, long.dropped);
            assert_eq!(short.failed.len(), long.failed.len());
        }
    }

    fn number(item: &Primitive) -> u64 {
        let Payload::Raw(raw) = item.payload() else { return 0 };
        raw.as_json().and_then(serde_json::Value::as_u64).unwrap_or_default()
    }

    fn emit(item: Primitive) -> Outcome<Any> {
        Outcome::Emit(item.typed().unwrap())
    }

    #[test]
    fn edits_drops_and_failures_keep_the_columns() {
        check(emit);
        check(|item| match number(&item) % 3 {
            0 => Outcome::drop("three"),
            1 => Outcome::fail(Error::cancelled()),
            _ => emit(item.with_payload(Raw::Json("edited".into()))),
        });
    }

    #[test]
    fn anything_else_goes_the_long_way() {
        check(|item| match number(&item) {
            0 => Outcome::drop("first"),
            1 => Outcome::fail(Error::cancelled()),
            3 => emit(item.derive("half", 0, Raw::Json(1.into()))),
            5 => Outcome::EmitAll(
                (0..2).map(|n| item.derive("two", n, Raw::Json(n.into())).typed().unwrap()).collect(),
            ),
            _ => emit(item),
        });
        check(|item| emit(item.edit_metadata(|metadata| metadata.tags.clear())));
    }
}
