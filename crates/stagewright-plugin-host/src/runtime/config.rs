//! The configuration of a runtime.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::builtin::BuiltinPlugins;
use crate::observer::CompileObserver;

/// What all runs on a machine share. No field depends on a workspace, a pipeline or a grant: those are in
/// [`HostConfig`](crate::HostConfig). The runtime reads neither the process's environment nor a home folder.
pub struct RuntimeConfig {
    /// The folder of compiled and pulled plugins, and of their descriptions and findings. Everything in it is keyed by a
    /// digest of its content, so that one run can't plant anything for another. Created with the mode 0700; compiled code
    /// is neither read from nor written to a folder that others can access.
    pub plugin_cache: PathBuf,
    /// The built-in plugins. They come with the program, and are the same for every workspace.
    pub builtin: BuiltinPlugins,
    /// The variables that name proxies (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`), by the names of curl; others
    /// are ignored. The connections of all runs are made through the same proxies. What the programs of a stage inherit is
    /// in [`HostConfig::environment`](crate::HostConfig::environment).
    pub environment: BTreeMap<String, String>,
    /// The most attempts on components that run at a time, for all runs together; at least 1. An attempt beyond that waits
    /// until another one ends, and its timeout starts after the wait. Determines the size of wasmtime's pool, whose stacks
    /// cost about 2 µs each when the pool is created.
    pub attempts: usize,
    /// Notified when a component is compiled.
    pub compile_observer: Arc<dyn CompileObserver>,
}
