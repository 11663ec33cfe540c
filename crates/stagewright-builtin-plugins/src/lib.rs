//! The built-in plugins, as components inside of the program.
//!
//! A release contains them, so that it is a single file that works in any repository. A debug build contains none: it
//! finds them in the folder that `cargo xtask plugins` writes, and so isn't built again whenever a plugin changes. The
//! build script determines what is embedded; see `build.rs`.
//!
//! Architecture invariant: it only holds bytes, and depends on none of our crates.

/// A built-in plugin.
#[derive(Clone, Copy, Debug)]
pub struct Component {
    /// The name by which `uses` refers to it.
    pub name: &'static str,
    /// `sha256:…` of the component.
    pub digest: &'static str,
    /// The component, compressed with gzip.
    pub gzip: &'static [u8],
}

/// All built-in plugins by name; none in a debug build.
pub static COMPONENTS: &[Component] = include!(concat!(env!("OUT_DIR"), "/components.rs"));
