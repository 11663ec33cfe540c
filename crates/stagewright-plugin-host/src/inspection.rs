//! The store of a guest that is only asked about itself: for its description, and for what it thinks of a `with` table.

use stagewright_model::Interface;

use crate::capability::context::Context;
use crate::handles::Handles;
use crate::limits::{DEFAULT_MEMORY, MemoryLimiter};

/// The data of such a store.
pub(crate) struct Inspection {
    pub(crate) context: Context,
    pub(crate) handles: Handles,
    pub(crate) limiter: MemoryLimiter,
}

impl Inspection {
    /// `config`: the `with` table; null for a call that gets none.
    pub(crate) fn new(config: serde_json::Value) -> Inspection {
        Inspection {
            context: Context::for_inspection(config),
            handles: Handles::new(DEFAULT_MEMORY),
            limiter: MemoryLimiter::new(DEFAULT_MEMORY),
        }
    }

    /// The interfaces that `describe` may call: values that don't say anything about a run.
    pub(crate) const FOR_DESCRIPTION: &[Interface] = &[Interface::Types];
    /// The interfaces that a function which checks a `with` table may call.
    pub(crate) const FOR_CONFIG: &[Interface] = &[Interface::Types, Interface::Context];
}
