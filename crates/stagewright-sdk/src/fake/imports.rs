//! The imports of the WIT with the signatures of the generated ones, implemented on the fake host's state.

pub(crate) mod environment;
pub(crate) mod files;
pub(crate) mod http;
pub(crate) mod process;
pub(crate) mod results;
pub(crate) mod run;
pub(crate) mod service;
pub(crate) mod source;
pub(crate) mod ssh;
pub(crate) mod types;

pub(crate) use files::{artifacts, registry, workspace};
pub(crate) use results::{findings, metrics, outputs, test_reports};
pub(crate) use run::{clock, context, gate, logging, poll, random, reveal, secrets};
