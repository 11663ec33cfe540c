//! Keeps results of stages, and gives them back where nothing has changed that they depend on.
//!
//! [`Caching`] stands before the runner that does the work. In flows an attempt's request; from it, the files that the
//! stage declares as its inputs, and what it takes of the machine, comes a key. A result under that key is given back:
//! files, artifacts, outputs, and all that was said. Without one the work is done, with nothing to read but what was
//! declared, and its result is kept.
//!
//! ```text
//! runner ── keying ── manifest, tier, tools ── tree ── scan, globs ── index, content, stamp
//!    ├── witness, cover (while it runs) ── collect (afterwards) ── leftovers
//!    ├── store (entries, blobs) ── files (restored)
//!    ├── shared (other machines' results) ── packed
//!    └── said (log, findings)
//! ```
//!
//! Architecture invariant: nothing here starts anything, prints, or knows the journal. A cache that is lost, damaged or
//! full costs time and changes no result.

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
