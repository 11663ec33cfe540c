//! Properties that hold for every input: one function for each place where untrusted bytes are parsed.
//!
//! Each function takes the bytes of an input, and panics if a property doesn't hold. The fuzz targets in `fuzz/` call them
//! with libFuzzer's inputs, and the tests of this crate with the seeds in `fuzz/seeds`. Inputs are readable text; each
//! module documents its format.
//!
//! The product doesn't depend on this crate, and the crate accesses neither files nor the network.

pub mod expression;
#[cfg(feature = "host")]
pub mod http;
pub mod lock;
#[cfg(feature = "host")]
pub mod mask;
pub mod pipeline;
pub mod process;

use stagewright_model::Diagnostics;

/// Every diagnostic has a span within `text`.
fn check_places(diagnostics: &Diagnostics, text: &str) {
    assert!(diagnostics.iter().any(|diagnostic| !diagnostic.is_warning()), "refused without an error");
    for diagnostic in diagnostics {
        let span = diagnostic.span();
        assert!(text.get(span.start..span.end).is_some(), "{span:?} isn't a span of the text: {diagnostic}");
        let (line, column) = diagnostic.position();
        assert!(line >= 1 && column >= 1 && line <= text.matches('\n').count() + 1, "{line}:{column}: {diagnostic}");
    }
}
