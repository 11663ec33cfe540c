//! Whole-system tests; see `main/`.
