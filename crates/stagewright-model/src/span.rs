//! Places in the text of a file.

use std::ops::Range;

/// Byte range in the pipeline file's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceSpan {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl From<Range<usize>> for SourceSpan {
    fn from(range: Range<usize>) -> SourceSpan {
        SourceSpan { start: range.start, end: range.end }
    }
}
