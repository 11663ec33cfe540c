//! Tests of the whole system, with the real binary, guests and processes. They are in `main/`.
//!
//! Architecture invariant: the tests don't link the crates under test. They use only the binary's arguments, files, output
//! and exit codes, as users do.
