//! Notifications about the compilation of components.

use std::time::Duration;

use crate::plugin::PluginError;

/// A component that is compiled for this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compilation<'a> {
    /// Its reference, as in `uses` of the stage that needed it first.
    pub plugin: &'a str,
    /// `sha256:…` of the component.
    pub digest: &'a str,
}

/// Receives notifications about the compilation of components, which takes up to several seconds of CPU time. Each
/// component is compiled once, since the result is kept in the plugin cache. When several runs need the same component at
/// the same time, one compiles it and the others wait: the start and the end are notified once.
///
/// The methods are called on threads that may block; the runs that need the component wait for them.
pub trait CompileObserver: Send + Sync {
    /// The compilation is about to start.
    fn compile_started(&self, compilation: Compilation<'_>);

    /// The compilation has ended: after how long, or why it failed.
    fn compile_finished(&self, compilation: Compilation<'_>, result: Result<Duration, &PluginError>) {
        _ = (compilation, result);
    }
}

/// Ignores every notification.
impl CompileObserver for () {
    fn compile_started(&self, _: Compilation<'_>) {}
}
