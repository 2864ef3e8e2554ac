//! Timing in turns, memory, and the table.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Runs both sides in turns, and returns the best time of each.
pub(crate) fn in_turns<const N: usize>(rounds: usize, mut sides: [&mut dyn FnMut(); N]) -> [Duration; N] {
    let mut best = [Duration::MAX; N];
    for _ in 0..rounds {
        for (side, best) in sides.iter_mut().zip(&mut best) {
            let began = Instant::now();
            side();
            *best = (*best).min(began.elapsed());
        }
    }
    best
}

/// A ratio that has to be met.
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) ratio: f64,
    pub(crate) at_least: f64,
}

impl Target {
    pub(crate) fn new(what: impl Into<String>, ratio: f64, at_least: f64) -> Self {
        Self { what: what.into(), ratio, at_least }
    }
}

/// Prints the targets and whether each is met; returns whether all are.
pub(crate) fn print_targets(targets: &[Target]) -> bool {
    println!();
    for Target { what, ratio, at_least } in targets {
        let met = if ratio >= at_least { "met" } else { "MISSED" };
        println!("{what:<64} {ratio:>7.2} (target {at_least:.2}) {met}");
    }
    let all = targets.iter().all(|target| target.ratio >= target.at_least);
    let worst = targets.iter().min_by(|a, b| (a.ratio / a.at_least).total_cmp(&(b.ratio / b.at_least)));
    if let Some(worst) = worst {
        println!("ratio {:.2} x {}", worst.ratio, worst.what);
    }
    all
}

/// Runs this program again with `args`, and returns the peak memory of that process in MB.
pub(crate) fn peak_memory_of(args: &[&str]) -> f64 {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .find_map(|line| line.strip_prefix("peak "))
        .and_then(|mb| mb.parse().ok())
        .unwrap_or(f64::NAN)
}

/// Prints the peak memory of this process, for [`peak_memory_of`].
pub(crate) fn print_peak_memory() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok())
        .unwrap_or(f64::NAN);
    println!("peak {:.1}", kib / 1024.0);
}

/// Returns how many bytes the files below a folder have.
pub(crate) fn size_of_folder(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let size = |entry: std::fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true => size_of_folder(&entry.path()),
        false => entry.metadata().unwrap().len(),
    };
    entries.map(size).sum()
}

pub(crate) fn nanoseconds_each(time: Duration, items: u64) -> f64 {
    time.as_nanos() as f64 / items as f64
}
