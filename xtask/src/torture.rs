//! `cargo xtask torture`: the long form of the random tests, and what they lost, doubled and repeated.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
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
    // The models of `cargo xtask test`, which count for themselves. They take longest: nothing is to wait
    // for them in the end.
    Kind { name: LOOM, tests: &[], cases: 0 },
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
    fn add(&mut self, other: &Self) {
        self.cases += other.cases;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.repeated += other.repeated;
        self.interleavings += other.interleavings;
        self.passed += other.passed;
    }

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
    /// How many tests run side by side: as many as there are cores, where it does not say.
    jobs: Option<usize>,
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
                "--jobs" => request.jobs = usize::try_from(number(value?)?).ok(),
                other => return Err(Failure::usage(format!("torture: no option `{other}`"))),
            }
        }
        Ok(request)
    }
}

/// A test, or the models of a package, in the long form.
struct Job {
    kind: &'static str,
    /// What it runs, for who reads along.
    name: String,
    command: Command,
}

impl Job {
    /// Returns what a request asks for, what takes longest first.
    fn all(request: &Request, seed: u64) -> Vec<Self> {
        let asked =
            |kind: &&Kind| request.kinds.is_empty() || request.kinds.iter().any(|name| name == kind.name);
        let mut jobs = Vec::new();
        for kind in KINDS.iter().filter(asked) {
            if kind.name == LOOM {
                let models = explore_long(request.minutes);
                jobs.extend(models.map(|(name, command)| Self { kind: LOOM, name, command }));
            }
            for (target, tests) in kind.tests {
                jobs.extend(tests.iter().map(|test| Self {
                    kind: kind.name,
                    name: format!("{test} from seed {seed}"),
                    command: torture(request, kind, seed, target, test),
                }));
            }
        }
        jobs
    }

    /// Runs it, shows what it prints and takes that in. Returns whether it passed.
    fn run(&mut self, told: &mut Told) -> Result<bool, Failure> {
        println!("xtask: torture {}: {}", self.kind, self.name);
        let done = listen(&mut self.command, told)?;
        if done && self.kind == LOOM && told.interleavings == 0 {
            return Err(Failure::new(format!("{:?} explored nothing", self.command)));
        }
        if done && told.passed == 0 {
            return Err(Failure::new(format!("{} has another name now: {}", self.kind, self.name)));
        }
        Ok(done)
    }
}

pub(crate) fn run(args: &[String]) -> Outcome {
    let request = Request::parse(args)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
    let seed = request.seed.unwrap_or(now);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let waiting = Mutex::new(Job::all(&request, seed).into_iter());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        let mut told = Told::default();
        let mut failed = Vec::new();
        while let Some(mut job) = next() {
            let mut heard = Told::default();
            match job.run(&mut heard) {
                Ok(true) => {}
                Ok(false) => failed.push((job.kind, None)),
                Err(failure) => failed.push((job.kind, Some(failure))),
            }
            told.add(&heard);
        }
        (told, failed)
    };
    let (told, mut failed) = thread::scope(|scope| {
        let workers: Vec<_> = (0..request.jobs.unwrap_or(cores)).map(|_| scope.spawn(work)).collect();
        let panicked = |_| (Told::default(), vec![("a worker", Some(Failure::new("it panicked")))]);
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(panicked)).fold(
            (Told::default(), Vec::new()),
            |(mut told, mut failed), (heard, kinds)| {
                told.add(&heard);
                failed.extend(kinds);
                (told, failed)
            },
        )
    });
    println!("{}", told.sum(seed));
    if let Some(failure) = failed.iter_mut().find_map(|(_, failure)| failure.take()) {
        return Err(failure);
    }
    let mut failed: Vec<&str> = failed.into_iter().map(|(kind, _)| kind).collect();
    failed.sort_unstable();
    failed.dedup();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("failed: {}; a line above says how to see it again", failed.join(", "))))
}

/// Returns the call that runs a test in its long form.
fn torture(request: &Request, kind: &Kind, seed: u64, target: &[&str], test: &str) -> Command {
    // With a time and no number, as many as there is time for.
    let cases = request.cases.unwrap_or(if request.minutes.is_some() { u64::MAX } else { kind.cases });
    let mut command = cargo(["test", "-p", "nvisy-runtime", "--all-features"]);
    command.args(request.release.then_some("--release")).args(target);
    command.args(["--", "--exact", "--nocapture", test]);
    command.env("NVISY_TORTURE", cases.to_string()).env("NVISY_SEED", seed.to_string());
    if let Some(minutes) = request.minutes {
        command.env("NVISY_MINUTES", minutes.to_string());
    }
    command
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
        let asked = request("--kind kill --seed 0 --cases 7 --minutes 3 --jobs 1 --release").unwrap();
        let kinds = vec!["kill".to_owned()];
        let all =
            Request { kinds, seed: Some(0), cases: Some(7), minutes: Some(3), jobs: Some(1), release: true };
        assert_eq!(asked, all);
        for wrong in ["--kind nothing", "--cases 0", "--jobs 0", "--seed x", "--cases", "--fast 1", "kill"] {
            assert_eq!(request(wrong).unwrap_err().code(), 2, "{wrong}");
        }
    }

    #[test]
    fn each_test_is_a_job_with_its_kind() {
        let asked = request("--kind fuzz --kind loom").unwrap();
        let jobs = Job::all(&asked, 1);
        let kinds = |name| jobs.iter().filter(|job| job.kind == name).count();
        assert_eq!((kinds(LOOM), kinds("fuzz"), jobs.len()), (2, 7, 9));
        assert!(jobs[0].kind == LOOM, "what takes longest comes first");
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
        told.add(&Told { interleavings: 1000, passed: 1, ..Told::default() });
        told.hear("loom: 477 interleavings");
        assert_eq!((told.passed, told.cases), (3, 350));
        assert!(told.sum(9).ends_with("repeated 205; 1477 interleavings explored by loom"));
    }
}
