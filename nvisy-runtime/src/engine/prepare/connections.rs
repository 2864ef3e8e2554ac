//! The connections of a run: secrets first, then each opened and proved, and let go of on every
//! way out.

use std::sync::Arc;

use futures::future::FutureExt;
use nvisy_core::connection::{ConnectContext, SecretResolver};
use nvisy_core::observability::field;
use nvisy_core::plugin::AnyClient;
use nvisy_core::{Error, ErrorKind, Result};

use crate::compiler::plan::{ExecutionPlan, PlanConnection};
use crate::engine::Engine;
use crate::graph::policy::Retry;

/// The open connections of a run, in the order of the plan. Dropped, it lets go of them in a
/// task of its own: that is the way out when a start is cancelled half way, or panics.
pub(in crate::engine) struct Connections {
    plan: ExecutionPlan,
    open: Vec<AnyClient>,
    /// What a rehearsal has found missing that a run would create, each with its connection.
    pub(in crate::engine) missing: Vec<(Arc<str>, String)>,
    /// Whether this is the task of its own, which a runtime that shuts down may drop in turn.
    left: bool,
}

impl Drop for Connections {
    fn drop(&mut self) {
        if !self.open.is_empty() && !self.left {
            let open = std::mem::take(&mut self.open);
            let left = Self { plan: self.plan.clone(), open, missing: Vec::new(), left: true };
            crate::engine::executor::let_go(left);
        }
    }
}

impl Connections {
    /// Connects every connection of a plan, each in its time; if one cannot, lets go of those
    /// that could.
    pub(super) async fn connect(engine: &Engine, plan: &ExecutionPlan) -> Result<Self> {
        resolve_secrets(&*engine.0.secrets, plan)?;
        let mut connections = Self { plan: plan.clone(), open: Vec::new(), missing: Vec::new(), left: false };
        for connection in &plan.0.connections {
            let context = ConnectContext::new(connection.name.clone(), engine.0.secrets.clone());
            let mut context = context.untrusted(engine.0.options.untrusted);
            if engine.0.rehearses {
                context = context.rehearsing();
            }
            let verified = match connect(connection, &context).await {
                Ok(client) => {
                    connections.open.push(client.clone());
                    let missing = context.missing().into_iter();
                    connections.missing.extend(missing.map(|what| (connection.name.clone(), what)));
                    verify(connection, &client).await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = verified {
                connections.disconnect().await;
                return Err(error.at_connection(connection.name.clone()));
            }
        }
        Ok(connections)
    }

    pub(super) fn client(&self, connection: Option<usize>) -> AnyClient {
        connection.and_then(|at| self.open.get(at).cloned()).unwrap_or_else(AnyClient::none)
    }

    /// Lets go of every connection. What goes wrong is logged, and keeps none of the others.
    pub(in crate::engine) async fn disconnect(mut self) {
        let plan = self.plan.clone();
        // What is left when this is dropped half way is let go of all the same.
        while let Some(client) = self.open.pop() {
            let Some(connection) = plan.0.connections.get(self.open.len()) else { continue };
            let disconnected =
                std::panic::AssertUnwindSafe(async move { connection.config.disconnect(&client).await })
                    .catch_unwind();
            let result = match tokio::time::timeout(DISCONNECT, disconnected).await {
                Ok(Ok(result)) => result,
                Ok(Err(panic)) => Err(Error::from_panic(&*panic)),
                Err(_) => Err(Error::new(ErrorKind::Timeout, "it does not let go")),
            };
            if let Err(error) = result {
                tracing::warn!({ field::CONNECTION } = %connection.name, { field::ERROR } = error.tag(), %error, "disconnecting failed");
            }
        }
    }
}

/// How long a connection may take to connect, and then to prove that it works.
const CONNECT: std::time::Duration = std::time::Duration::from_secs(30);
/// How long a connection may take to let go.
const DISCONNECT: std::time::Duration = std::time::Duration::from_secs(10);

/// Names every secret that is not set, before anything is opened.
fn resolve_secrets(secrets: &dyn SecretResolver, plan: &ExecutionPlan) -> Result<()> {
    let mut missing = Vec::new();
    for connection in &plan.0.connections {
        for secret in connection.config.secrets() {
            if secrets.resolve(&secret)?.is_none() {
                missing.push(format!("\"{}\" (connection \"{}\")", secret.name(), connection.name));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(", ");
    let message = format!("secrets are not set: {missing}: {}", secrets.remedy());
    Err(Error::new(ErrorKind::Authentication, message))
}

async fn connect(connection: &PlanConnection, context: &ConnectContext) -> Result<AnyClient> {
    in_time(connection, "connect", retried(|| async { connection.config.connect(context).await })).await
}

async fn verify(connection: &PlanConnection, client: &AnyClient) -> Result<()> {
    in_time(connection, "verify", retried(|| async { connection.config.verify(client).await })).await
}

/// Bounds a step of connecting, all its attempts together: the other side may take a call and
/// never answer.
async fn in_time<T>(
    connection: &PlanConnection,
    step: &'static str,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::time::timeout(CONNECT, call).await.unwrap_or_else(|_| {
        let (name, time) = (&connection.name, humantime::format_duration(CONNECT));
        let message =
            format!("connection \"{name}\" did not answer within {time}: is it up, and the address right?");
        Err(Error::new(ErrorKind::Timeout, message).during(step))
    })
}

/// Tries a few times what is done before there is a node to say how often.
async fn retried<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> Result<T> {
    let retry = Retry::default();
    let mut attempt = 1;
    loop {
        let called = std::panic::AssertUnwindSafe(call()).catch_unwind().await;
        let error = match called {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(panic) => Error::from_panic(&*panic),
        };
        match crate::engine::retry::wait(&retry, &error, attempt, 1.0) {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return Err(error),
        }
        attempt += 1;
    }
}
