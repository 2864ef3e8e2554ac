//! How long random tests are: a short form, unless `cargo xtask torture` asks for more.
//!
//! `NVISY_TORTURE` is the number of cases, `NVISY_SEED` the first seed, `NVISY_MINUTES` how long it
//! may take. A failure prints the seed of its case.

use std::time::{Duration, Instant};

fn said(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Of a test that samples: takes all instead.
pub(crate) fn step(short: usize) -> usize {
    if said("NVISY_TORTURE").is_some() { 1 } else { short }
}

/// How many cases there are, and from which seed on.
pub(crate) struct Torture {
    kind: &'static str,
    pub(crate) cases: u64,
    seed: u64,
    end: Option<Instant>,
    done: u64,
}

impl Torture {
    /// So many cases, from a seed on, where nothing else is asked for.
    pub(crate) fn of(kind: &'static str, short: u64, seed: u64) -> Self {
        let minutes = said("NVISY_MINUTES");
        Self {
            kind,
            cases: said("NVISY_TORTURE").unwrap_or(short),
            seed: said("NVISY_SEED").unwrap_or(seed),
            end: minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes)),
            done: 0,
        }
    }

    /// The next seed, if there is time, whatever the number of cases.
    pub(crate) fn next_seed(&mut self) -> Option<u64> {
        if self.end.is_some_and(|end| Instant::now() >= end) {
            return None;
        }
        self.done += 1;
        Some(self.seed.wrapping_add(self.done - 1))
    }

    /// Calls `case` with each seed. Returns the sum of what the cases return: what was done again.
    pub(crate) fn each(&mut self, mut case: impl FnMut(u64) -> u64) -> u64 {
        let mut again = 0;
        while self.done < self.cases
            && let Some(seed) = self.next_seed()
        {
            let shows = Shows { kind: self.kind, seed };
            again += case(seed);
            drop(shows);
        }
        again
    }

    /// Says how it went, in the line that `cargo xtask torture` adds up.
    #[allow(clippy::print_stdout, reason = "a test tells how it went")]
    pub(crate) fn tell(&self, cases: u64, [lost, doubled, repeated]: [u64; 3]) {
        let Self { kind, seed, .. } = self;
        println!(
            "torture {kind}: {cases} cases from seed {seed}: lost {lost}, doubled {doubled}, repeated {repeated}"
        );
    }

    /// Says how cases went, of which none lost or doubled anything.
    pub(crate) fn tell_well(&self, repeated: u64) {
        self.tell(self.done, [0, 0, repeated]);
    }
}

/// Says, if its case fails, how it is seen again.
pub(crate) struct Shows {
    pub(crate) kind: &'static str,
    pub(crate) seed: u64,
}

impl Drop for Shows {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { kind, seed } = self;
            eprintln!("cargo xtask torture --kind {kind} --seed {seed} --cases 1 shows it again");
        }
    }
}
