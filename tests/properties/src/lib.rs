//! What holds of every input, whoever wrote it: a function for each place where a stranger's bytes come in.
//!
//! In flow the bytes of one input; nothing comes out, and a property that doesn't hold is a panic. The fuzz targets in
//! `fuzz/` call these with what libFuzzer thinks of, and the tests beside this crate with the seeds in `fuzz/seeds`. An
//! input is text that a person can read; how it is taken apart, each module says.
//!
//! Nothing of the product depends on this crate, and it touches neither files nor network.

pub mod expression;
#[cfg(feature = "host")]
pub mod http;
pub mod lock;
#[cfg(feature = "host")]
pub mod mask;
pub mod pipeline;
pub mod process;

use stagewright_model::Diagnostics;

/// Every diagnostic has a place within `text`, which a terminal can point at.
fn check_places(diagnostics: &Diagnostics, text: &str) {
    assert!(diagnostics.iter().any(|diagnostic| !diagnostic.is_warning()), "refused, and nobody knows why");
    for diagnostic in diagnostics {
        let span = diagnostic.span();
        assert!(text.get(span.start..span.end).is_some(), "{span:?} is no place: {diagnostic}");
        let (line, column) = diagnostic.position();
        assert!(line >= 1 && column >= 1 && line <= text.matches('\n').count() + 1, "{line}:{column}: {diagnostic}");
    }
}
