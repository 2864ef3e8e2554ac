//! What a check of a contract found.

use std::fmt;

/// What became of each rule.
#[derive(Clone, Debug)]
#[must_use = "a report says nothing until it is asked: `assert_passed` does"]
pub struct Report {
    pub(super) checks: Vec<Check>,
}

/// What became of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The rule's name: what it claims.
    pub rule: &'static str,
    /// What became of it.
    pub verdict: Verdict,
}

/// What became of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds, as far as was seen.
    Passed,
    /// It does not hold: what was seen.
    Failed(String),
    /// It was not checked: what the harness would have to have, or why the rule does not apply.
    Skipped(&'static str),
}

impl Report {
    /// Returns what became of each rule, in order.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// Returns the names of the rules that do not hold.
    #[must_use]
    pub fn failed(&self) -> Vec<&'static str> {
        self.names(|verdict| matches!(verdict, Verdict::Failed(_)))
    }

    /// Returns the names of the rules that were not checked.
    #[must_use]
    pub fn skipped(&self) -> Vec<&'static str> {
        self.names(|verdict| matches!(verdict, Verdict::Skipped(_)))
    }

    fn names(&self, which: impl Fn(&Verdict) -> bool) -> Vec<&'static str> {
        self.checks.iter().filter(|check| which(&check.verdict)).map(|check| check.rule).collect()
    }

    /// Demands that every rule that was checked holds.
    ///
    /// # Panics
    ///
    /// If one does not: with the whole report.
    #[track_caller]
    pub fn assert_passed(&self) {
        assert!(self.failed().is_empty(), "\n{self}");
    }

    /// Demands that every rule holds, and that none but these was left out.
    ///
    /// # Panics
    ///
    /// If not: with the whole report.
    #[track_caller]
    pub fn assert_passed_except(&self, skipped: &[&str]) {
        self.assert_passed();
        let missing: Vec<_> = self.skipped().into_iter().filter(|rule| !skipped.contains(rule)).collect();
        assert!(missing.is_empty(), "rules that were not checked: {missing:?}\n{self}");
        let checked: Vec<_> = skipped.iter().filter(|rule| !self.skipped().contains(rule)).collect();
        assert!(checked.is_empty(), "rules that were checked after all: {checked:?}\n{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Check { rule, verdict } in &self.checks {
            match verdict {
                Verdict::Passed => writeln!(f, "passed   {rule}")?,
                Verdict::Skipped(why) => writeln!(f, "skipped  {rule}: {why}")?,
                Verdict::Failed(seen) => writeln!(f, "FAILED   {rule}: {seen}")?,
            }
        }
        Ok(())
    }
}
