//! `cargo xtask torture`: the long form of the random tests, and what they lost, doubled and repeated.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::process::{Failure, Outcome, cargo, not_started};
use crate::test::explore_long;

/// A kind of test that has a long form.
struct Kind {
    name: &'static str,
    /// Each target of `nvisy-runtime` with the names of its tests.
    tests: &'static [(&'static [&'static str], &'static [&'static str])],
    /// How many cases the long form has.
    cases: u64,
}

const LIB: &[&str] = &["--lib"];
const IT: &[&str] = &["--test", "it"];

const KINDS: &[Kind] = &[
    Kind {
        name: "model",
        tests: &[(
            IT,
            &[
                "model::random_graphs_do_what_they_mean",
                "model::random_graphs_that_are_killed_do_what_they_mean",
            ],
        )],
        // Of each of the two.
        cases: 50_000,
    },
    Kind {
        name: "every",
        tests: &[(
            IT,
            &[
                "engine::lifecycle::a_cancelled_run_acknowledges_what_is_written_and_nothing_else",
                "insert::whenever_it_is_killed_and_whatever_the_checkpoints_forget_each_row_is_there_once",
                "resume::whatever_call_fails_the_runs_after_it_make_it_whole",
                "sweep::a_run_that_is_stopped_anywhere_acknowledges_nothing_that_is_not_written",
                "sweep::every_call_may_meet_every_fault",
            ],
        )],
        cases: 1,
    },
    Kind { name: "sweep", tests: &[(IT, &["sweep::two_calls_may_meet_faults"])], cases: 20_000 },
    Kind {
        name: "examples",
        tests: &[(
            IT,
            &[
                "examples::faults::whatever_call_fails_the_runs_after_it_make_it_whole",
                "examples::stops::wherever_it_is_stopped_the_runs_after_it_make_it_whole",
            ],
        )],
        // All that there are.
        cases: 100_000,
    },
    Kind {
        name: "kill",
        tests: &[(IT, &["kill::whenever_it_is_killed_everything_is_there_once_in_the_end"])],
        cases: 2_000,
    },
    Kind {
        name: "power",
        tests: &[(
            LIB,
            &[
                "checkpoint::directory::tests::a_power_cut_loses_nothing_that_was_committed_and_invents_nothing",
            ],
        )],
        cases: 20_000,
    },
    Kind {
        name: "corruption",
        tests: &[
            (
                LIB,
                &[
                    "checkpoint::directory::tests::a_log_that_is_cut_or_flipped_anywhere_gives_an_earlier_state_or_a_clear_error",
                    "checkpoint::directory::tests::of_two_files_either_may_be_damaged_anywhere",
                    "actions::deduplicate::seen::tests::a_file_that_is_cut_or_flipped_is_an_error_or_gives_the_right_answers",
                ],
            ),
            (
                IT,
                &[
                    "stateful::damage::a_file_that_is_cut_or_flipped_anywhere_is_refused_by_its_name",
                    "memo::a_damaged_store_forgets_and_never_lies",
                    "lineage::damaged_files_are_named_and_never_believed",
                ],
            ),
        ],
        cases: 1,
    },
    Kind {
        name: "fuzz",
        tests: &[(
            IT,
            &[
                "fuzz::a_checkpoint_that_was_changed_is_gone_on_with_or_refused",
                "fuzz::a_csv_file_that_was_changed_is_read_or_set_aside",
                "fuzz::a_graph_that_was_changed_compiles_or_says_why_not",
                "fuzz::a_position_that_was_changed_is_one_or_an_error",
                "fuzz::a_primitive_that_was_changed_is_one_or_an_error",
                "fuzz::an_expression_that_was_changed_has_a_value_or_an_error",
                "fuzz::lines_of_json_that_were_changed_are_read_or_set_aside",
            ],
        )],
        // Of each of the seven.
        cases: 1_000_000,
    },
    Kind {
        name: "resume",
        tests: &[(IT, &["resume::whenever_it_is_killed_nothing_is_lost_and_little_is_done_again"])],
        cases: 20_000,
    },
    // The models of `cargo xtask test`, which count for themselves.
    Kind { name: LOOM, tests: &[], cases: 0 },
];

const LOOM: &str = "loom";

/// What the tests have told, added up.
#[derive(Debug, Default, PartialEq)]
struct Told {
    cases: u64,
    lost: u64,
    doubled: u64,
    repeated: u64,
    /// What loom has explored.
    interleavings: u64,
    /// How many tests passed.
    passed: u64,
}

impl Told {
    /// Takes in a line of a test or of cargo's test runner.
    fn hear(&mut self, line: &str) {
        let number = |before: &str| {
            let (_, rest) = line.split_once(before)?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
        };
        if line.starts_with("torture ") {
            self.cases += number(": ").unwrap_or(0);
            self.lost += number("lost ").unwrap_or(0);
            self.doubled += number("doubled ").unwrap_or(0);
            self.repeated += number("repeated ").unwrap_or(0);
        } else if line.starts_with("loom: ") {
            self.interleavings += number(": ").unwrap_or(0);
        } else if line.starts_with("test result: ") {
            self.passed += number(". ").unwrap_or(0);
        }
    }

    /// Returns the last line.
    fn sum(&self, seed: u64) -> String {
        let Self { cases, lost, doubled, repeated, interleavings, .. } = self;
        let random = (*cases > 0 || *interleavings == 0).then(|| {
            format!("{cases} cases from seed {seed}: lost {lost}, doubled {doubled}, repeated {repeated}")
        });
        let loom = (*interleavings > 0).then(|| format!("{interleavings} interleavings explored by loom"));
        format!("torture: {}", random.into_iter().chain(loom).collect::<Vec<_>>().join("; "))
    }
}

/// What the caller asked for.
#[derive(Debug, Default, PartialEq)]
struct Request {
    kinds: Vec<String>,
    seed: Option<u64>,
    cases: Option<u64>,
    minutes: Option<u64>,
    release: bool,
}

impl Request {
    fn parse(args: &[String]) -> Result<Self, Failure> {
        let mut request = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if arg == "--release" {
                request.release = true;
                continue;
            }
            let value = args.next().ok_or_else(|| Failure::usage(format!("torture: {arg} takes a value")));
            let number = |value: &String| {
                let number = value.parse::<u64>().ok().filter(|number| *number > 0 || arg == "--seed");
                number.ok_or_else(|| Failure::usage(format!("torture: {arg} takes a number, not `{value}`")))
            };
            match arg.as_str() {
                "--kind" => {
                    let kind = value?;
                    if KINDS.iter().all(|known| known.name != kind) {
                        let known: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
                        return Err(Failure::usage(format!(
                            "torture: no kind `{kind}`, but {}",
                            known.join(", ")
                        )));
                    }
                    request.kinds.push(kind.clone());
                }
                "--seed" => request.seed = Some(number(value?)?),
                "--cases" => request.cases = Some(number(value?)?),
                "--minutes" => request.minutes = Some(number(value?)?),
                other => return Err(Failure::usage(format!("torture: no option `{other}`"))),
            }
        }
        Ok(request)
    }
}

pub(crate) fn run(args: &[String]) -> Outcome {
    let request = Request::parse(args)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
    let seed = request.seed.unwrap_or(now);
    let asked = |kind: &&Kind| request.kinds.is_empty() || request.kinds.iter().any(|name| name == kind.name);
    let mut told = Told::default();
    let mut failed = Vec::new();
    for kind in KINDS.iter().filter(asked) {
        if kind.name == LOOM {
            for mut command in explore_long(request.minutes) {
                println!("xtask: torture {LOOM}");
                let explored = told.interleavings;
                let done = listen(&mut command, &mut told)?;
                if !done && !failed.contains(&kind.name) {
                    failed.push(kind.name);
                }
                if done && told.interleavings == explored {
                    return Err(Failure::new(format!("{command:?} explored nothing")));
                }
            }
        }
        for (target, tests) in kind.tests {
            let passed = told.passed;
            let done = torture(&request, kind, seed, target, tests, &mut told)?;
            if !done && !failed.contains(&kind.name) {
                failed.push(kind.name);
            }
            if done && told.passed - passed != tests.len() as u64 {
                return Err(Failure::new(format!("a test of {} has another name now: {tests:?}", kind.name)));
            }
        }
    }
    println!("{}", told.sum(seed));
    match failed.as_slice() {
        [] => Ok(()),
        failed => {
            Err(Failure::new(format!("failed: {}; a line above says how to see it again", failed.join(", "))))
        }
    }
}

/// Runs tests in their long form. Returns whether they passed.
fn torture(
    request: &Request,
    kind: &Kind,
    seed: u64,
    target: &[&str],
    tests: &[&str],
    told: &mut Told,
) -> Result<bool, Failure> {
    // With a time and no number, as many as there is time for.
    let cases = request.cases.unwrap_or(if request.minutes.is_some() { u64::MAX } else { kind.cases });
    let mut command = cargo(["test", "-p", "nvisy-runtime", "--all-features"]);
    command.args(request.release.then_some("--release")).args(target);
    command.args(["--", "--exact", "--nocapture", "--test-threads=1"]).args(tests);
    command.env("NVISY_TORTURE", cases.to_string()).env("NVISY_SEED", seed.to_string());
    if let Some(minutes) = request.minutes {
        command.env("NVISY_MINUTES", minutes.to_string());
    }
    println!("xtask: torture {} from seed {seed}", kind.name);
    listen(&mut command, told)
}

/// Runs tests, shows what they print and takes it in. Returns whether they passed.
fn listen(command: &mut Command, told: &mut Told) -> Result<bool, Failure> {
    let spawned = command.stdout(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| not_started(command, &error))?;
    for line in child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()) {
        let line = line.unwrap_or_default();
        // Without line breaks in between, a test's first line stands behind its name.
        let said = line.split_once(" ... ").map(|(_, rest)| rest);
        let said = said.filter(|said| said.starts_with("torture ") || said.starts_with("loom: "));
        let line = said.unwrap_or(&line);
        println!("{line}");
        told.hear(line);
    }
    Ok(child.wait().map_err(|error| Failure::new(error.to_string()))?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(args: &str) -> Result<Request, Failure> {
        Request::parse(&args.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read_and_what_makes_no_sense_is_refused() {
        let asked = request("--kind kill --seed 0 --cases 7 --minutes 3 --release").unwrap();
        let kinds = vec!["kill".to_owned()];
        assert_eq!(asked, Request { kinds, seed: Some(0), cases: Some(7), minutes: Some(3), release: true });
        for wrong in ["--kind nothing", "--cases 0", "--seed x", "--cases", "--fast 1", "kill"] {
            assert_eq!(request(wrong).unwrap_err().code(), 2, "{wrong}");
        }
    }

    #[test]
    fn what_tests_tell_is_added_up() {
        let mut told = Told::default();
        told.hear("torture kill: 50 cases from seed 9: lost 0, doubled 3, repeated 200");
        told.hear("torture power: 300 cases from seed 9: lost 1, doubled 0, repeated 5");
        told.hear("test kill::whenever ... ok");
        told.hear("test result: ok. 2 passed; 0 failed; 0 ignored");
        let random = Told { cases: 350, lost: 1, doubled: 3, repeated: 205, passed: 2, interleavings: 0 };
        assert_eq!(told, random);
        assert_eq!(told.sum(9), "torture: 350 cases from seed 9: lost 1, doubled 3, repeated 205");
        told.hear("loom: 1477 interleavings");
        assert!(told.sum(9).ends_with("repeated 205; 1477 interleavings explored by loom"));
    }
}
