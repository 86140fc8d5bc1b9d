//! The server processes of the domain, as they stand in the database.

use crosstalk_overlay::id::NodeId;
use crosstalk_storage::tree::authority::ServerProcess;

use super::{Change, Database, DatabaseError};

impl Database {
    /// All, by node id.
    ///
    /// # Errors
    /// As [`Self::domain`].
    pub fn servers(&self) -> Result<Vec<(NodeId, ServerProcess)>, DatabaseError> {
        self.all(NodeId::from_slice)
    }
}

impl Change {
    /// Changes what is known of a server process, or removes it.
    #[must_use]
    pub fn server(self, node: &NodeId, process: Option<&ServerProcess>) -> Self {
        self.upstream(node.as_bytes().to_vec(), process)
    }
}
