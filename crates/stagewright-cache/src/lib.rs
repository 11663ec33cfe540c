//! Stores the results of stages and reuses them while their inputs are unchanged.
//!
//! [`Caching`] wraps the runner that does the work. It computes a key from an attempt's request, the files that the stage
//! declares as inputs, and the parts of the machine that the stage can see. If there is a result under that key, its
//! files, artifacts and outputs are restored and its log is replayed. Otherwise the stage runs, restricted to its declared
//! inputs, and its result is stored.
//!
//! ```text
//! runner ── keying ── manifest, tier, tools ── tree ── scan, globs ── index, content, stamp
//!    ├── witness, cover (while it runs) ── collect (afterwards) ── leftovers
//!    ├── store (results, blobs) ── files (restored)
//!    ├── shared (other machines' results) ── packed
//!    └── recorded_output (log, findings)
//! ```
//!
//! Architecture invariant: this crate starts no process, prints nothing and does not know the journal. A lost, damaged or
//! full cache costs time but never changes a result.

mod capture;
mod collect;
mod config;
mod content;
mod cover;
mod digest;
mod explain;
mod files;
mod gc;
mod globs;
mod index;
mod inner;
mod keying;
mod leftovers;
mod manifest;
#[cfg(feature = "shared")]
mod packed;
mod published;
mod recorded_output;
mod runner;
mod scan;
mod shared;
mod stamp;
mod store;
mod tier;
mod tools;
mod tree;
mod witness;

pub use capture::{CaptureConfig, CapturesNeeded, Capturing, RemovedCaptures, gc_captures};
pub use config::{CacheConfig, Guard, MachineContext, Mode};
pub use explain::{Explanation, explain};
pub use gc::{Removed, gc};
pub use globs::Globs;
pub use keying::kept_from_caching;
pub use manifest::{KeyDifference, KeyManifest, KeyPart};
pub use runner::Caching;
pub use shared::{BadAddress, Sent, SharedCache};
pub use tier::{BadTier, Tier};
pub use tree::TreeDigest;
