//! Supervised local services: the `process` target of an environment.
//!
//! The input is an image, specified by digest, and how to run it; the output is a release: a folder with the unpacked
//! image, a supervisor that keeps its program running, and a log. A release starts beside the current one, and
//! [`Instance::promote`] makes it the current one.
//!
//! ```text
//! ROOT/ENVIRONMENT/SERVICE/lock             held while a deploy is in progress
//!                          fence            the largest fencing token of a deploy so far
//!                          current.json     which release is current
//!                          releases/DIGEST-N/rootfs, service.json, state.json, service.log
//!                                            replica-2/service.json, …
//!                                            unfinished.json   until it is promoted or discarded
//!                          proxy/table.json  which releases get the requests, if there is a proxy
//!                          volumes/NAME     files that outlive releases
//! ```
//!
//! With a [`proxy`], requests are distributed among releases by weight, and a release can have several replicas. Such a
//! release outlives the process that started it, which [`ServiceManager::unfinished`] continues.
//!
//! The program has the files of its image as its root, as in a container, with the network and the rights of the engine's
//! user; or those of the machine, if the deploy says so or the image lacks what starts its program.
//!
//! Architecture invariant: this crate knows neither plugins, the journal nor the terminal. The supervisor of
//! `stagewright-process` starts programs, and `stagewright-oci` fetches images. The caller checks whether a stage may
//! deploy.

mod blocking;
mod endpoint;
mod error;
mod image;
mod instance;
mod launch;
mod manager;
pub mod proxy;
mod release;
mod replica;
mod root;
mod store;
mod volume;

pub use endpoint::Endpoint;
pub use error::{ServiceError, ServiceErrorKind};
pub use instance::Instance;
pub use manager::{MovedPort, ServiceConfig, ServiceManager, ServiceStatus};
pub use proxy::{HeaderMatch, HeaderValueMatch};
pub use release::{ProxySpec, ReleaseSpec, RootFolder, UnfinishedSpec};
pub use store::Current;
