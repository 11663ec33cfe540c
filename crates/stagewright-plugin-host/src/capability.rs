//! The capabilities behind the interfaces of the WIT, one module each, as plain structs with their checks. They know
//! neither the WIT nor wasmtime; `since_0_1` and `since_0_2` bind them to both.

pub(crate) mod artifacts;
pub(crate) mod clock;
pub(crate) mod context;
pub(crate) mod credentials;
pub(crate) mod effects;
pub(crate) mod environment;
pub(crate) mod findings;
pub(crate) mod gate;
pub(crate) mod http;
pub(crate) mod logging;
pub(crate) mod metrics;
pub(crate) mod outputs;
pub(crate) mod poll;
pub(crate) mod process;
pub(crate) mod registry;
pub(crate) mod secrets;
pub(crate) mod service;
pub(crate) mod source;
pub(crate) mod ssh;
pub(crate) mod test_reports;
pub(crate) mod workspace;
