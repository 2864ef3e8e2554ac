//! Where the files of a sink are while they are written, and whose they are.

use nvisy_core::{Context, SourceIdentity};

use crate::sink::name;

/// The temporaries of one sink.
///
/// They lie in one directory, and their names hold the graph and the node: what a process that was
/// killed left is found there. One that a checkpoint may have belongs to that, and has the run in its
/// name, as another state directory may hold another run of the graph; any other belongs to the
/// process that has it locked.
#[derive(Clone, Debug)]
pub(crate) struct Temporaries {
    directory: String,
    node: String,
    run: String,
}

impl Temporaries {
    /// The temporaries of the files of the template `path`.
    pub(crate) fn new(path: &str, context: &Context) -> Self {
        let node = SourceIdentity::new(&**context.graph()).id_of_key(context.node().as_bytes());
        let node = node.as_bytes()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let run = context.run().map_or_else(String::new, |run| run.to_string());
        Self { directory: name::directory(path, context), node, run }
    }

    /// Returns the directory that they are in, as a key.
    pub(crate) fn directory(&self) -> &str {
        &self.directory
    }

    /// Returns what the names of those hold that a checkpoint may have.
    pub(crate) fn staged(&self) -> String {
        format!("{}-{}-", self.node, self.run)
    }

    /// Returns what the names of those hold that a process has.
    pub(crate) fn locked(&self) -> String {
        format!("{}_", self.node)
    }
}
