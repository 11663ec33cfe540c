//! The imports of the WIT with the signatures of the generated ones, implemented on the fake host's state.

pub(crate) mod files;
pub(crate) mod outside;
pub(crate) mod run;

pub(crate) use files::{artifacts, registry, workspace};
pub(crate) use outside::{http, process, service};
pub(crate) use run::{clock, context, environment, gate, logging, outputs, secrets};
