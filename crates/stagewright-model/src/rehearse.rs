//! `[stages.NAME.rehearse]`: what a rehearsal of a stage does instead, and what it may really access.

use std::sync::Arc;

use crate::expression::JsonTemplate;
use crate::grants::Permissions;

/// `[stages.NAME.rehearse]`.
#[derive(Clone, Debug, Default)]
pub struct Rehearse {
    /// The plugin's configuration in a rehearsal, instead of the stage's `with`.
    pub with: Option<Arc<JsonTemplate>>,
    /// Outputs for later stages, which override those that the stage itself produces: an object.
    pub outputs: Option<Arc<JsonTemplate>>,
    /// What the rehearsal may access outside of this machine; the stage's own `permissions` don't count there.
    pub permissions: Option<Arc<Permissions>>,
}
