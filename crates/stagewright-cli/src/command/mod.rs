//! One module for each command, or for a few that belong together.

pub(crate) mod cancel;
#[path = "../../../stagewright-session/src/decide.rs"]
pub(crate) mod decide;
pub(crate) mod environment;
pub(crate) mod explain;
pub(crate) mod gc;
pub(crate) mod graph;
#[path = "../../../stagewright-session/src/hard_links.rs"]
mod hard_links;
pub(crate) mod history;
pub(crate) mod lock;
pub(crate) mod plan;
#[path = "../../../stagewright-session/src/resume.rs"]
pub(crate) mod resume;
#[path = "../../../stagewright-session/src/rollback.rs"]
pub(crate) mod rollback;
#[path = "../../../stagewright-session/src/start.rs"]
pub(crate) mod run;
pub(crate) mod service;
pub(crate) mod validate;
