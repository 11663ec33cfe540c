//! In the making.
pub mod registry;
pub mod service;

mod error;

pub use error::{CapabilityError, ErrorCode};
