//! Every call meets every fault.

use std::collections::BTreeSet;
use std::time::Duration;

use nvisy_core::testing::faulty::{Fault, FaultKind, Script, Site};
use nvisy_runtime::engine::RunStatus;

use super::graphs::ALL;
use super::{Found, Place, STRIDE, new_runtime, read_by};
use crate::torture::Torture;

/// One fault of one example.
#[derive(Clone, Copy, Debug)]
struct Case {
    example: usize,
    site: Site,
    call: u64,
    kind: FaultKind,
}

#[test]
fn whatever_call_fails_the_runs_after_it_make_it_whole() {
    let places: Vec<Place<'_>> = ALL.iter().map(Place::new).collect();
    let mut cases = Vec::new();
    let mut clean = Vec::new();
    for (example, place) in places.iter().enumerate() {
        let script = Script::new();
        clean.push(new_runtime().block_on(async {
            place.prepare().await;
            place.undisturbed(&script).await
        }));
        for (site, calls) in script.all_calls() {
            let all = (1..=calls).flat_map(|call| FaultKind::ALL.map(|kind| (call, kind)));
            cases.extend(all.map(|(call, kind)| Case { example, site, call, kind }));
        }
    }

    let mut torture = Torture::of("examples", 100, 1);
    torture.cases = torture.cases.min(cases.len() as u64);
    let mut fired = BTreeSet::new();
    let (mut done, mut met) = (0, 0);
    let repeated = torture.each(|seed| {
        let case = cases[(seed.wrapping_mul(STRIDE) % cases.len() as u64) as usize];
        let (found, read) = &clean[case.example];
        done += 1;
        meet(&places[case.example], case, found, *read).map_or(0, |again| {
            fired.insert((ALL[case.example].name, case.site, case.kind));
            met += 1;
            again
        })
    });
    torture.tell_well(repeated);
    assert!(met > done / 2, "of {done} calls only {met} were made and met their fault");
    if done >= cases.len() {
        for Case { example, site, kind, .. } in cases {
            assert!(
                fired.contains(&(ALL[example].name, site, kind)),
                "{}: {kind:?} at {site:?}",
                ALL[example].name
            );
        }
    }
}

/// Lets a call meet a fault, runs again until it ends as it should, and looks what is there. Returns
/// how many items were read more than once, or none if the call was not made: how many checkpoints
/// there are is a matter of time.
fn meet(place: &Place<'_>, case: Case, clean: &Found, read: u64) -> Option<u64> {
    let Case { site, call, kind, .. } = case;
    let what = format!("{}: {kind:?} at {site:?} call {call}", place.example.name);
    let script = Script::new();
    let runtime = new_runtime();
    let again = runtime.block_on(async {
        place.prepare().await;
        script.add(Fault::new(site, call, kind).with_delay(Duration::from_millis(20)));
        let ended = place.run(&script).await;
        let met = script.fired();
        assert!(!met.is_empty() || call > 1, "{what}: it was not called");
        let mut again = 0;
        let ended = ended.map(|report| {
            assert!(report.imbalances.is_empty(), "{what}: {report}");
            again += read_by(&report, &place.document);
            report.status
        });
        if !matches!(ended, Ok(RunStatus::Success)) {
            again += place.finish(&what).await;
        }
        place.check(clean, &format!("{what}, which ended with {ended:?}")).await;
        met.first().map(|_| again.saturating_sub(read))
    });
    // What hangs may have called something that blocks.
    runtime.shutdown_timeout(Duration::from_secs(60));
    again
}
