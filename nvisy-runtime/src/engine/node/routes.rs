//! Branches, fan-outs and fan-ins: items on their way, unchanged.

use arrow::array::Array;
use nvisy_core::token::Settlement;
use nvisy_core::{Batch, Result};
use tokio::time::Instant;

use super::{Ended, Inbox};
use crate::engine::call::Failure;
use crate::engine::edge::Parcel;
use crate::engine::outlet::Outlets;
use crate::expression::{Expression, Mask};

/// Sends each item to the first route whose condition holds.
pub(super) async fn branch(
    routes: &[Expression],
    default: bool,
    inbox: &mut Inbox,
    outlets: &Outlets,
) -> Result<Ended> {
    while let Some(parcel) = inbox.next().await {
        match parcel {
            Parcel::Batch(mut batch) => {
                let tokens = batch.take_tokens();
                let began = Instant::now();
                let (of, failed) = route(routes, default, &batch);
                outlets.meter.busy.add_time(began.elapsed());
                let mut unmatched = 0;
                let mut parts = vec![Vec::new(); routes.len() + usize::from(default)];
                for (index, of) in (0..).zip(&of) {
                    match of {
                        Way::Route(at) => parts[*at].push(index),
                        Way::Nowhere => unmatched += 1,
                        Way::Failed => {}
                    }
                }
                outlets.meter.count_dropped(&"no route matched".into(), unmatched);
                outlets.meter.emitted_from.add(batch.len() as u64 - unmatched - failed.len() as u64);
                let parts: Vec<_> = parts
                    .into_iter()
                    .map(|part| batch.select(&part).with_tokens(tokens.split_for(part.iter().copied())))
                    .collect();
                let result = outlets.set_aside(&batch, &tokens, failed).await;
                tokens.settle(if unmatched > 0 { Settlement::Dropped } else { Settlement::Delivered });
                for (at, part) in parts.into_iter().enumerate() {
                    outlets.send_to(at, part).await;
                }
                result?;
            }
            Parcel::Pulse(pulse) => outlets.pulse(pulse),
            Parcel::End(_) => {}
        }
        tokio::task::consume_budget().await;
    }
    Ok(inbox.ended())
}

#[derive(Clone, Copy)]
enum Way {
    Route(usize),
    Nowhere,
    Failed,
}

fn route(routes: &[Expression], default: bool, batch: &Batch) -> (Vec<Way>, Vec<Failure>) {
    let mut ways: Vec<Option<Way>> = vec![None; batch.len()];
    let mut failed = Vec::new();
    for (at, route) in routes.iter().enumerate() {
        let Mask { bits: mask, faults } = route.filter_mask(batch);
        for (index, error) in faults {
            let way = &mut ways[index as usize];
            if way.is_none() {
                *way = Some(Way::Failed);
                failed.push(Failure { index, error, attempts: 1 });
            }
        }
        for (index, way) in ways.iter_mut().enumerate() {
            if way.is_none() && mask.is_valid(index) && mask.value(index) {
                *way = Some(Way::Route(at));
            }
        }
    }
    failed.sort_by_key(|failure| failure.index);
    let rest = if default { Way::Route(routes.len()) } else { Way::Nowhere };
    (ways.into_iter().map(|way| way.unwrap_or(rest)).collect(), failed)
}

/// Sends a copy of every batch to each outlet.
pub(super) async fn fan_out(inbox: &mut Inbox, outlets: &Outlets) -> Result<Ended> {
    while let Some(parcel) = inbox.next().await {
        match parcel {
            Parcel::Batch(batch) => {
                outlets.meter.emitted_from.add(batch.len() as u64);
                // All tokens are split before the first copy goes.
                let copies: Vec<Batch> = outlets.out.iter().skip(1).map(|_| batch.clone()).collect();
                for (at, copy) in std::iter::once(batch).chain(copies).enumerate() {
                    outlets.send_to(at, copy).await;
                }
            }
            Parcel::Pulse(pulse) => outlets.pulse(pulse),
            Parcel::End(_) => {}
        }
        tokio::task::consume_budget().await;
    }
    Ok(inbox.ended())
}

/// Passes on what comes over any edge.
pub(super) async fn fan_in(inbox: &mut Inbox, outlets: &Outlets) -> Result<Ended> {
    while let Some(parcel) = inbox.next().await {
        match parcel {
            Parcel::Batch(batch) => {
                outlets.meter.emitted_from.add(batch.len() as u64);
                outlets.send(batch).await;
            }
            Parcel::Pulse(pulse) => outlets.pulse(pulse),
            Parcel::End(_) => {}
        }
        tokio::task::consume_budget().await;
    }
    Ok(inbox.ended())
}
