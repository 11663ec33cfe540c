//! Mistakes in layers and templates.

use stagewright_sdk::Position;

/// A mistake in a layer or a template.
#[derive(Debug)]
pub(crate) struct Mistake {
    pub(crate) file: String,
    pub(crate) position: Option<Position>,
    pub(crate) message: String,
    pub(crate) help: String,
}
