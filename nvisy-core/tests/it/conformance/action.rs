//! Actions that keep the contract pass; broken ones are caught.

use std::sync::atomic::{AtomicU64, Ordering};

use nvisy_core::checkpoint::{Changes, Entries};
use nvisy_core::outcome::Attribution;
use nvisy_core::prelude::*;
use nvisy_core::primitive::document::Document;
use nvisy_core::primitive::{KindId, Kinds};
use nvisy_core::testing::conformance::{self, ACTION_RULES, ActionHarness, Expected, OpenAction, samples};
use nvisy_core::testing::memory::{Form, Hoard, Relay};
use nvisy_core::testing::plain;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

#[tokio::test(start_paused = true)]
async fn a_relay_keeps_the_contract_in_every_form() {
    for form in Form::ALL {
        let payloads = samples::documents().into_iter().chain(samples::rows(&samples::objects()));
        let cases = payloads.map(|payload| (payload.clone(), Expected::Emit(vec![plain(&payload)])));
        let open = move || async move { Ok(OpenAction::new(Relay::new(form).yielding(2), NoClient)) };
        conformance::action(&ActionHarness::new(open, cases)).await.assert_passed();
    }
    let rows = samples::rows(&samples::objects_with_nulls());
    let cases = rows.into_iter().map(|payload| (payload.clone(), Expected::Emit(vec![plain(&payload)])));
    let open = || async { Ok(OpenAction::new(Relay::new(Form::Columnar), NoClient)) };
    let report = conformance::action(&ActionHarness::new(open, cases)).await;
    report.assert_passed();
    assert!(!report.skipped().contains(&"treats_rows_and_items_alike"));
}

#[tokio::test(start_paused = true)]
async fn a_hoard_keeps_the_contract_whatever_it_keeps() {
    for keep in [0, 2, usize::MAX] {
        let cases = samples::documents().into_iter().map(|payload| (payload, Expected::Anything));
        let open = move || async move { Ok(OpenAction::new(Hoard::keeping(keep), NoClient)) };
        let report = conformance::action(&ActionHarness::new(open, cases)).await;
        report.assert_passed();
        for rule in ["goes_on_from_what_it_saved", "lets_go_of_what_it_absorbed"] {
            assert!(!report.skipped().contains(&rule), "{report}");
        }
    }
}

/// What is wrong with a [`Broken`] action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum Flaw {
    #[default]
    Nothing,
    LosesAnItem,
    CountsAnItemTwice,
    MakesSomethingElse,
    SaltsWithACounter,
    SaltsWithTheNode,
    GivesSiblingsOneId,
    ForgetsWhereItemsComeFrom,
    CallsAnEditADerivation,
    DeclaresOtherKinds,
    LooksAtTheNeighbours,
    ReadsNoRows,
    ChokesOnNothing,
    ChokesOnMany,
    FailsTheWholeBatch,
    StaysBusyWhenItIsDropped,
    ForgetsWhatItSaved,
    NeverStopsLettingGo,
    MistakesTheError,
    TellsTheSecret,
}

/// Cuts texts into words, drops numbers, and fails what is too long.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
struct Broken {
    flaw: Flaw,
    #[serde(default)]
    locked: bool,
}

static COUNTER: AtomicU64 = AtomicU64::new(0);

impl ActionConfig for Broken {
    const NAME: &'static str = "test/broken";
    type Input = Any;
    type Output<In: Kind> = Document;
    type Client = NoClient;

    fn input_kinds(&self) -> Kinds {
        Kinds::of(KindId::Document).union(Kinds::of(KindId::Row))
    }

    fn output_kinds(&self, _: Kinds) -> Kinds {
        Kinds::of(if self.flaw == Flaw::DeclaresOtherKinds { KindId::Embedding } else { KindId::Document })
    }

    fn optimum(&self) -> Option<BatchLimits> {
        Some(BatchLimits::items(10))
    }

    async fn build(&self, _: &OpenContext) -> Result<Action> {
        if self.locked {
            let secret = if self.flaw == Flaw::TellsTheSecret { "canary" } else { "***" };
            let wrong = self.flaw == Flaw::MistakesTheError;
            let kind = if wrong { ErrorKind::Internal } else { ErrorKind::Authentication };
            return Err(Error::new(kind, format!("the key is wrong: {secret}")));
        }
        if let Flaw::ForgetsWhatItSaved | Flaw::NeverStopsLettingGo = self.flaw {
            let flaw = self.flaw;
            return Ok(Action::stateful(move || Keeps { flaw, items: Vec::new() }));
        }
        Ok(Action::columnar(Words { flaw: self.flaw, busy: AtomicU64::new(0) }))
    }
}

/// Keeps everything until the end.
struct Keeps {
    flaw: Flaw,
    items: Vec<Primitive>,
}

impl Stateful for Keeps {
    async fn apply(&mut self, batch: Batch, _: usize, _: &Context) -> Result<Outcomes> {
        let absorbed = batch.len() as u64;
        self.items.extend(batch.into_primitives());
        let attribution = Attribution::Each(Vec::new());
        Ok(Outcomes {
            emitted: Batch::empty(),
            attribution,
            dropped: Vec::new(),
            absorbed,
            failed: Vec::new(),
        })
    }

    async fn release(&mut self, ended: bool, _: &Context) -> Result<Option<Batch>> {
        if !ended || self.items.is_empty() {
            return Ok(None);
        }
        let go = Batch::from_primitives(self.items.clone());
        if self.flaw != Flaw::NeverStopsLettingGo {
            self.items.clear();
        }
        Ok(Some(go))
    }

    async fn save(&mut self) -> Result<Changes> {
        Ok(Changes::default())
    }

    async fn restore(&mut self, _: Entries) -> Result<()> {
        Ok(())
    }
}

struct Words {
    flaw: Flaw,
    busy: AtomicU64,
}

fn text(item: &Payload) -> Option<String> {
    match item {
        Payload::Document(document) => Some(document.text.clone()),
        Payload::Row(row) => row.get_str("text").map(str::to_owned),
        _ => None,
    }
}

impl Columnar for Words {
    async fn apply(&self, batch: Batch, context: &Context) -> Result<Outcomes> {
        let refused = |message: &str| Err(Error::new(ErrorKind::Validation, message));
        match self.flaw {
            Flaw::ChokesOnNothing if batch.is_empty() => return refused("there is nothing"),
            Flaw::ChokesOnMany if batch.len() > 10 => return refused("more than ten"),
            Flaw::FailsTheWholeBatch if batch.iter().any(|item| text(item.payload()).is_none()) => {
                return refused("an item is no text");
            }
            Flaw::StaysBusyWhenItIsDropped if self.busy.swap(1, Ordering::AcqRel) == 1 => {
                return Err(Error::new(ErrorKind::Conflict, "another call goes on"));
            }
            _ => {}
        }
        tokio::task::yield_now().await;
        self.busy.store(0, Ordering::Release);
        let outcomes = (0..batch.len()).map(|index| self.one(&batch, index, context)).collect();
        let mut outcomes = Outcomes::collect::<Any>(&batch, &context.step(), outcomes)?;
        match self.flaw {
            Flaw::LosesAnItem => outcomes.dropped.clear(),
            Flaw::CountsAnItemTwice => outcomes.failed.extend(outcomes.failed.clone()),
            Flaw::ForgetsWhereItemsComeFrom => {
                outcomes.emitted = Batch::from_primitives(
                    outcomes
                        .emitted
                        .iter()
                        .map(|item| Item::detached("lost", item.payload().clone()).into())
                        .collect(),
                )
                .with_ids(outcomes.emitted.ids())?;
            }
            Flaw::CallsAnEditADerivation if batch.len() == outcomes.emitted.len() => {
                outcomes.attribution = Attribution::Same;
            }
            Flaw::CallsAnEditADerivation => {
                outcomes.emitted = outcomes.emitted.edited(&context.step());
            }
            _ => {}
        }
        Ok(outcomes)
    }
}

impl Words {
    fn one(&self, batch: &Batch, index: usize, context: &Context) -> Outcome {
        let item: Item = batch.primitive(index).typed().unwrap();
        if self.flaw == Flaw::ReadsNoRows && batch.as_rows().is_some() {
            return Outcome::drop("a row");
        }
        let Some(text) = text(&item) else {
            return Outcome::fail(Error::new(ErrorKind::Validation, "the item has no text"));
        };
        if text.len() > 1_000 {
            return Outcome::fail(Error::new(ErrorKind::TooLarge, "the text is too long"));
        }
        if text.parse::<u64>().is_ok() {
            return Outcome::drop("a number");
        }
        let salt = match self.flaw {
            Flaw::SaltsWithACounter => COUNTER.fetch_add(1, Ordering::Relaxed).to_string(),
            Flaw::SaltsWithTheNode => context.node().to_string(),
            Flaw::LooksAtTheNeighbours => batch.len().to_string(),
            _ => "words".to_owned(),
        };
        let words = text.split_whitespace().map(|word| match self.flaw {
            Flaw::MakesSomethingElse => word.to_uppercase(),
            _ => word.to_owned(),
        });
        let documents: Vec<Any> = words.filter_map(|word| Document::new(word).ok()).map(Into::into).collect();
        if self.flaw == Flaw::GivesSiblingsOneId && index == 0 {
            // Past the check for siblings: the second input makes what the first one made.
            return Outcome::expand(&batch.primitive(1).typed::<Any>().unwrap(), &salt, documents);
        }
        Outcome::expand(&item, &salt, documents)
    }
}

fn harness(flaw: Flaw) -> ActionHarness {
    let document = |text: &str| Document::new(text).unwrap().into_payload();
    let words = |words: &[&str]| Expected::Emit(words.iter().map(|word| json!({ "text": word })).collect());
    let mut cases = vec![
        (document("one two"), words(&["one", "two"])),
        (document("three four"), words(&["three", "four"])),
        (document("5"), Expected::Drop),
        (document(&"long ".repeat(1_000)), Expected::Fail(ErrorKind::TooLarge)),
        (document("e\u{301} 👩‍👩‍👧‍👦"), words(&["e\u{301}", "👩‍👩‍👧‍👦"])),
    ];
    if flaw == Flaw::ReadsNoRows {
        cases = samples::rows(&[json!({"text": "a b"}), json!({"text": "c d"})])
            .into_iter()
            .zip([words(&["a", "b"]), words(&["c", "d"])])
            .collect();
    }
    let open = move |locked| async move { Ok(OpenAction::new(Broken { flaw, locked }, NoClient)) };
    ActionHarness::new(move || open(false), cases)
        .failing("a wrong key", ErrorKind::Authentication, move || open(true))
        .with_secret("canary", [])
}

#[tokio::test(start_paused = true)]
async fn every_rule_of_an_action_can_fail() {
    let cases = [
        (Flaw::LosesAnItem, "gives_one_outcome_an_input"),
        (Flaw::CountsAnItemTwice, "gives_one_outcome_an_input"),
        (Flaw::MakesSomethingElse, "makes_what_is_expected"),
        (Flaw::SaltsWithACounter, "makes_the_same_again"),
        (Flaw::SaltsWithTheNode, "gives_ids_that_do_not_depend_on_the_node"),
        (Flaw::GivesSiblingsOneId, "gives_every_item_its_own_id"),
        (Flaw::ForgetsWhereItemsComeFrom, "writes_the_lineage"),
        (Flaw::CallsAnEditADerivation, "writes_the_lineage"),
        (Flaw::DeclaresOtherKinds, "gives_the_kinds_that_it_declares"),
        (Flaw::LooksAtTheNeighbours, "treats_every_item_alone"),
        (Flaw::ReadsNoRows, "treats_rows_and_items_alike"),
        (Flaw::ChokesOnNothing, "takes_no_item"),
        (Flaw::ChokesOnMany, "takes_more_than_its_optimum"),
        (Flaw::FailsTheWholeBatch, "fails_items_of_another_kind_alone"),
        (Flaw::StaysBusyWhenItIsDropped, "can_be_dropped_at_any_poll"),
        (Flaw::ForgetsWhatItSaved, "goes_on_from_what_it_saved"),
        (Flaw::NeverStopsLettingGo, "lets_go_of_what_it_absorbed"),
        (Flaw::MistakesTheError, "fails_with_the_right_kind"),
        (Flaw::TellsTheSecret, "shows_no_secret"),
    ];
    conformance::action(&harness(Flaw::Nothing)).await.assert_passed_except(&[
        "treats_rows_and_items_alike",
        "goes_on_from_what_it_saved",
        "lets_go_of_what_it_absorbed",
    ]);
    for (flaw, rule) in cases {
        let report = conformance::action(&harness(flaw)).await;
        assert!(report.failed().contains(&rule), "{flaw:?} should break {rule}\n{report}");
    }
    for rule in ACTION_RULES {
        assert!(cases.iter().any(|(_, broken)| *broken == rule), "nothing breaks {rule}");
    }
}
