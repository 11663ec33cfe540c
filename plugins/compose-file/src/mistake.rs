//! What is wrong in a file.

/// A mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The line, counted from 1.
    pub line: u32,
    /// The column, counted from 1.
    pub column: u32,
    /// The key, as in `services.web.environment.TOKEN`; empty for the whole file.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// How to fix it, in the imperative.
    pub help: String,
}
