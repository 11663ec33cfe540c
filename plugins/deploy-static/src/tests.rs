//! Tests on the fake host.
