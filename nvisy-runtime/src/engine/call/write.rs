//! Writes: until every item is written or failed for good.

use nvisy_core::outcome::Attribution;
use nvisy_core::plugin::ErasedSink;
use nvisy_core::{Batch, ErrorKind, Result, RetryClass, WriteStatus};

use super::part::{Failure, Part, Settled};
use super::{Attempt, Caller};

impl Caller {
    /// Writes a batch, until every item is written or failed for good.
    ///
    /// What a sink says of a write holds: an error that is not `ambiguous` wrote nothing, and may
    /// be tried again. Where nobody knows whether something was written, because the sink says so
    /// or because the write was broken off, it is tried again only if that does no harm: not where
    /// the sink `appends`.
    ///
    /// # Errors
    ///
    /// If the node cannot go on: the sink is wrong as a whole.
    pub(in crate::engine) async fn write(
        &self,
        sink: &dyn ErasedSink,
        appends: bool,
        input: &Batch,
    ) -> Result<Settled> {
        let mut todo = vec![Part::all()];
        let mut failed: Vec<Failure> = Vec::new();
        while let Some(part) = todo.pop() {
            let batch = part.of(input);
            let len = batch.len();
            let attempt = Attempt::number(part.attempt).doing_harm_twice(appends);
            let written = self.attempt(attempt, |context| {
                let batch = &batch;
                async move { sink.write(batch, &context).await }
            });
            match written.await.and_then(|report| report.check(len).map(|()| report)) {
                Ok(report) => {
                    self.size.change(|size| size * 1.1);
                    let mut unsettled = Vec::new();
                    for (at, status) in report.others() {
                        match status {
                            WriteStatus::Applied | WriteStatus::AlreadyApplied => {}
                            WriteStatus::Rejected(error) => {
                                failed.push(self.give_up(&part, *at, error.clone()));
                            }
                            WriteStatus::Ambiguous(error) if appends => {
                                failed.push(self.give_up(&part, *at, error.clone()));
                            }
                            WriteStatus::Ambiguous(error) => unsettled.push((*at, error.clone())),
                            WriteStatus::Retryable(error) => {
                                unsettled.push((*at, error.clone().with_retry_class(RetryClass::Transient)));
                            }
                        }
                    }
                    todo.extend(self.go_again(&part, unsettled, &mut failed).await);
                }
                Err(error) if appends && error.kind() == ErrorKind::Ambiguous => {
                    failed.extend(self.give_up_all(&part, len, &error));
                }
                Err(error) => todo.extend(self.remedy(part, len, error, &mut failed).await?),
            }
        }
        failed.sort_by_key(|failure| failure.index);
        Ok(Settled {
            emitted: Batch::empty(),
            attribution: Attribution::Each(Vec::new()),
            dropped: Vec::new(),
            absorbed: 0,
            failed,
        })
    }
}
