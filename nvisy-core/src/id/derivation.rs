//! Which ids are derived while a future runs: from that, what it made can be made again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;

use serde::{Deserialize, Serialize};

use super::PrimitiveId;

/// What makes an id of another one: see [`PrimitiveId::derive`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Derivation {
    /// What makes the result another thing.
    pub salt: String,
    /// The number among its siblings.
    pub ordinal: u64,
}

/// The derivations that were made while a future ran, on whatever thread polled it: not those
/// of tasks or threads that it started.
///
/// # Examples
///
/// ```
/// use nvisy_core::id::{Derivation, Derivations};
/// use nvisy_core::{Position, SourceIdentity};
///
/// # futures::executor::block_on(async {
/// let ticket = SourceIdentity::new("tickets").id(&Position::Offset(1));
/// let (chunk, made) = Derivations::during(async { ticket.derive("chunk", 7) }).await;
/// let path = made.path(ticket, chunk).unwrap();
/// assert_eq!(path, [Derivation { salt: "chunk".to_owned(), ordinal: 7 }]);
/// # });
/// ```
#[derive(Debug, Default)]
pub struct Derivations(HashMap<PrimitiveId, (PrimitiveId, Derivation)>);

/// The longest way from an id to another that is looked for.
const LONGEST_PATH: usize = 16;

thread_local! {
    static MADE: RefCell<Option<Derivations>> = const { RefCell::new(None) };
}

impl Derivations {
    /// Runs a future, and returns with its output the derivations that it made.
    pub async fn during<T>(future: impl Future<Output = T>) -> (T, Self) {
        let mut future = pin!(future);
        let mut made = Some(Self::default());
        let output = poll_fn(|context| {
            let _scope = Scope::enter(&mut made);
            future.as_mut().poll(context)
        });
        let output = output.await;
        (output, made.unwrap_or_default())
    }

    /// Returns the derivations that lead from one id to another, none if both are the same; or
    /// `None` if no such way is known.
    #[must_use]
    pub fn path(&self, from: PrimitiveId, to: PrimitiveId) -> Option<Vec<Derivation>> {
        let mut path = Vec::new();
        let mut at = to;
        while at != from {
            let (parent, derivation) = self.0.get(&at).filter(|_| path.len() < LONGEST_PATH)?;
            path.push(derivation.clone());
            at = *parent;
        }
        path.reverse();
        Some(path)
    }
}

/// Notes a derivation, where somebody listens.
pub(super) fn note(parent: PrimitiveId, salt: &str, ordinal: u64, child: PrimitiveId) {
    // A thread that is being torn down listens to nothing.
    let _ = MADE.try_with(|made| {
        if let Some(Derivations(made)) = &mut *made.borrow_mut() {
            made.insert(child, (parent, Derivation { salt: salt.to_owned(), ordinal }));
        }
    });
}

/// Listens for the time of one poll; whoever listened before goes on after it.
struct Scope<'a>(&'a mut Option<Derivations>);

impl<'a> Scope<'a> {
    fn enter(made: &'a mut Option<Derivations>) -> Self {
        let mut scope = Self(made);
        scope.swap();
        scope
    }

    fn swap(&mut self) {
        let _ = MADE.try_with(|made| std::mem::swap(&mut *made.borrow_mut(), self.0));
    }
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        self.swap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SourceIdentity;
    use crate::position::Position;

    fn id(n: u64) -> PrimitiveId {
        SourceIdentity::new("tests").id(&Position::Offset(n))
    }

    #[tokio::test]
    async fn each_future_hears_its_own_derivations_and_no_others() {
        let one = Derivations::during(async {
            let child = id(1).derive("a", 0);
            let (inner, heard) = Derivations::during(async { id(1).derive("inner", 0) }).await;
            assert!(heard.path(id(1), inner).is_some() && heard.path(id(1), child).is_none());
            (child.derive("b", 3), inner)
        });
        let other = Derivations::during(async { id(1).derive("other", 0) });
        let (((grandchild, inner), one), (foreign, _)) = futures::future::join(one, other).await;
        let salts: Vec<_> =
            one.path(id(1), grandchild).unwrap().into_iter().map(|d| (d.salt, d.ordinal)).collect();
        assert_eq!(salts, [("a".to_owned(), 0), ("b".to_owned(), 3)]);
        assert_eq!(one.path(id(1), id(1)), Some(Vec::new()));
        for unknown in [inner, foreign, id(2), id(1).derive("unheard", 0)] {
            assert_eq!(one.path(id(1), unknown), None);
        }
    }
}
