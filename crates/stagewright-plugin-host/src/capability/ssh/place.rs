//! Where a connection leads.

use stagewright_model::SshHost;

/// A host, as its credential names it.
pub(super) struct RemotePlace<'a> {
    pub(super) credential: &'a str,
    pub(super) host: &'a str,
    pub(super) declared: &'a SshHost,
}
