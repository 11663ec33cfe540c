//! `[stages.X.rehearse]`: what a rehearsal of a stage does instead, and what it may reach for real.

use std::sync::Arc;

use crate::expression::JsonTemplate;
use crate::grants::Permissions;

/// `[stages.NAME.rehearse]`.
#[derive(Clone, Debug, Default)]
pub struct Rehearse {
    /// The plugin's configuration in a rehearsal, in place of the stage's `with`.
    pub with: Option<Arc<JsonTemplate>>,
    /// What later stages see, over what the stage itself put out: an object.
    pub outputs: Option<Arc<JsonTemplate>>,
    /// The only grants beyond this machine that a rehearsal of the stage gets.
    pub permissions: Option<Arc<Permissions>>,
}
