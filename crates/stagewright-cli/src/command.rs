//! A module for each command, or for a few related ones.

pub(crate) mod artifacts;
pub(crate) mod cancel;
pub(crate) mod decide;
pub(crate) mod environment;
pub(crate) mod explain;
pub(crate) mod gc;
pub(crate) mod grant;
pub(crate) mod graph;
pub(crate) mod history;
pub(crate) mod init;
pub(crate) mod learn;
pub(crate) mod lock;
pub(crate) mod logs;
pub(crate) mod plan;
pub(crate) mod promote;
pub(crate) mod resume;
pub(crate) mod rollback;
pub(crate) mod rollout;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod service;
pub(crate) mod signal;
pub(crate) mod validate;
pub(crate) mod why;
