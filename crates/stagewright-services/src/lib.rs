//! Supervised local services: the `process` target of an environment.
//!
//! In flow an image, by digest, and how it is to be run; out comes a release: a folder with the unpacked image, a
//! supervisor that keeps its program running, and a log. A release starts beside the current one, and becomes the current
//! one by [`Instance::promote`].
//!
//! ```text
//! ROOT/ENVIRONMENT/SERVICE/lock             held while a deploy is in progress
//!                          fence            the largest token of a deploy so far
//!                          current.json     which release is current
//!                          releases/DIGEST-N/rootfs, service.json, state.json, service.log
//! ```
//!
//! The program runs from the unpacked image with the user's own powers: there is no container and no changed root. An
//! image that needs its paths to begin at `/` needs another target.
//!
//! Architecture invariant: this crate knows neither plugins, journal nor terminal. Programs are started by the supervisor
//! of `stagewright-process`, images come through `stagewright-oci`, and whether a stage may deploy was decided by the
//! caller.

mod blocking;
mod endpoint;
mod error;
mod image;
mod instance;
mod launch;
mod manager;
mod release;
mod store;

pub use endpoint::Endpoint;
pub use error::{ServiceError, ServiceErrorKind};
pub use instance::Instance;
pub use manager::{MovedPort, ServiceConfig, ServiceManager, ServiceStatus};
pub use release::ReleaseSpec;
pub use store::Current;
