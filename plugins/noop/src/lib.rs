//! A join point.
