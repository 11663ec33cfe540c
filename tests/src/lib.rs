//! Whole-system tests: the real binary, real guests, real processes. They are in `main/`.
//!
//! Architecture invariant: nothing here is linked with the crates under test; only the binary's arguments, files,
//! output and exit codes are used, as its users do.
