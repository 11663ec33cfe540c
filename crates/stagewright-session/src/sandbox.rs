//! Whether this machine can sandbox the programs of stages.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use stagewright_plugin_host::SandboxConfig;
use stagewright_process::sandbox::{Maker, Missing};

use crate::repository::Repository;

/// The configuration of sandboxes, or why they can't be created. Blocks, because it creates one to find out.
pub(crate) fn sandbox(repository: &Repository) -> (Option<SandboxConfig>, Option<Missing>) {
    static PROBES: AtomicU64 = AtomicU64::new(0);
    let maker = Maker::new(repository.program.clone());
    let probe = format!("stagewright-probe-{}-{}", std::process::id(), PROBES.fetch_add(1, Ordering::Relaxed));
    let probe = repository.temporary.join(probe);
    if let Err(missing) = maker.missing(&probe) {
        return (None, Some(missing));
    }
    let scratch = repository.state.join("scratch");
    remove_stale(&scratch);
    (Some(SandboxConfig::new(maker, scratch, repository.kept())), None)
}

/// Removes folders of processes that ended before they could clean up. The name of a folder is that of its process.
fn remove_stale(scratch: &Path) {
    for entry in scratch.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.split('-').next()).unwrap_or_default();
        if !process.is_empty() && !Path::new("/proc").join(process).exists() {
            // Errors are ignored: the next start tries again.
            let _ = stagewright_files::remove_tree(&entry.path());
        }
    }
}
