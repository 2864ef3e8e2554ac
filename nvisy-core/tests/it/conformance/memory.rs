//! Sinks that remember what they have written in a run; broken ones are caught.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use nvisy_core::prelude::*;
use nvisy_core::testing::conformance::{self, SinkHarness, Target, samples};
use nvisy_core::{PrimitiveId, RunId, Staging};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const RULE: &str = "adds_once_what_comes_again_in_a_run";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum Flaw {
    #[default]
    Nothing,
    ForgetsAtOnce,
    ForgetsWhenItOpens,
    KnowsOnlyTheRun,
    ForgetsWhenItIsClosed,
    RemembersForEver,
}

/// Adds objects to a list.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
struct List {
    flaw: Flaw,
}

#[derive(Default)]
struct Place {
    items: Vec<Value>,
    written: HashSet<PrimitiveId>,
    run: Option<RunId>,
    complete: bool,
}

#[derive(Clone, Default)]
struct Far(Arc<Mutex<Place>>);

impl Client for Far {
    const FAMILY: &'static str = "list";
}

struct Open(Far, Flaw, bool);

impl SinkConfig for List {
    const NAME: &'static str = "test/list";
    type Input = Any;
    type Client = Far;
    type Sink = Open;

    fn guarantee(&self) -> Guarantee {
        Guarantee::Append
    }

    fn remembers(&self) -> bool {
        true
    }

    async fn open(&self, context: &OpenContext<Far>) -> Result<Open> {
        let far = (**context.client()).clone();
        let remembers = *context.staging() == Staging::Remember;
        if remembers {
            let mut place = far.0.lock().unwrap();
            let run = context.context().run();
            let goes_on = match self.flaw {
                Flaw::ForgetsWhenItOpens => false,
                Flaw::KnowsOnlyTheRun => place.run == run,
                Flaw::RemembersForEver => true,
                _ => place.run == run || !place.complete,
            };
            if !goes_on {
                place.written.clear();
            }
            (place.run, place.complete) = (run, false);
        }
        Ok(Open(far, self.flaw, remembers))
    }
}

impl Sink for Open {
    async fn write(&self, batch: &Batch, _: &Context) -> Result<WriteReport> {
        let mut place = self.0.0.lock().unwrap();
        let mut report = WriteReport::applied(batch.len());
        for (index, item) in (0..).zip(batch.iter()) {
            if self.2 && self.1 != Flaw::ForgetsAtOnce && !place.written.insert(item.id()) {
                report = report.with(index, WriteStatus::AlreadyApplied);
            } else {
                place.items.push(nvisy_core::testing::plain(item.payload()));
            }
        }
        Ok(report)
    }

    async fn close(&self, _: &Context) -> Result<()> {
        let mut place = self.0.0.lock().unwrap();
        place.complete = true;
        if self.1 == Flaw::ForgetsWhenItIsClosed {
            place.written.clear();
        }
        Ok(())
    }
}

fn harness(flaw: Flaw) -> SinkHarness {
    SinkHarness::new(
        move || async move {
            let far = Far::default();
            let look = far.clone();
            Ok(Target::new(List { flaw }, far, move || {
                let found = look.0.lock().unwrap().items.clone();
                async { Ok(found) }
            }))
        },
        |n| samples::rows(&[json!({"id": n})]).remove(0),
    )
}

#[tokio::test(start_paused = true)]
async fn the_rule_of_what_is_remembered_can_fail() {
    let report = conformance::sink(&harness(Flaw::Nothing)).await;
    report.assert_passed();
    assert!(!report.skipped().contains(&RULE), "{report}");
    for flaw in [
        Flaw::ForgetsAtOnce,
        Flaw::ForgetsWhenItOpens,
        Flaw::KnowsOnlyTheRun,
        Flaw::ForgetsWhenItIsClosed,
        Flaw::RemembersForEver,
    ] {
        let report = conformance::sink(&harness(flaw)).await;
        assert_eq!(report.failed(), [RULE], "{flaw:?}\n{report}");
    }
}
