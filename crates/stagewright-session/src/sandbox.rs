//! Whether this machine can confine the programs of stages, and where it does.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use stagewright_plugin_host::SandboxConfig;
use stagewright_process::sandbox::{Maker, Missing};

use crate::repository::Repository;

/// Where programs are confined, or why they can't be. Blocks: it makes a sandbox to find out.
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

/// What processes left behind that ended before they could clean up. The folders are named for them.
fn remove_stale(scratch: &Path) {
    for entry in scratch.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.split('-').next()).unwrap_or_default();
        if !process.is_empty() && !Path::new("/proc").join(process).exists() {
            // The next start tries again.
            let _ = stagewright_files::remove_tree(&entry.path());
        }
    }
}
