//! Moments to come.

use std::time::Duration;

use nvisy_core::config::duration::LONGEST;
use tokio::time::Instant;

/// Returns the moment that lies `wait` behind another; for a wait longer than any graph may
/// speak of, one that does not come.
pub(super) fn after(moment: Instant, wait: Duration) -> Instant {
    moment.checked_add(wait).unwrap_or_else(|| moment.checked_add(LONGEST).unwrap_or(moment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_wait_is_too_long() {
        let now = Instant::now();
        assert_eq!(after(now, Duration::from_secs(1)), now + Duration::from_secs(1));
        assert_eq!(after(now, Duration::MAX), now + LONGEST);
    }
}
