//! The programs of the workspace that `process` grants by their paths.

use std::path::Path;

use stagewright_model::WorkspacePath;
use stagewright_process::sandbox::Access;
use stagewright_process::which;

use super::{GrantedMount, GrantedMounts};
use crate::capability::workspace::{FileKind, WorkspaceFiles};
use crate::confine::SandboxView;
use crate::confine::places::MountPlanner;
use crate::error::CapabilityError;

impl MountPlanner {
    /// Adds a program of the workspace. A link stays a link, because programs look for files beside their real path. Its
    /// target is only started if it is granted as well, or one of the machine's programs that the stage sees anyway.
    pub(super) fn program(
        &self,
        path: WorkspacePath,
        files: &WorkspaceFiles,
        machine: &SandboxView,
        granted: &mut GrantedMounts,
    ) -> Result<(), CapabilityError> {
        if self.policy.is_reserved(&path) {
            return self.policy.read(&path);
        }
        let Some(kind) = files.look(&path)? else { return Ok(()) };
        if let FileKind::Link(target) = &kind {
            let further = files.links_on_the_way(&path);
            match files.led_to(&path) {
                Ok(real) => {
                    if granted.around(&real).is_none() && !granted.0.contains_key(&real) {
                        return Err(files.ungranted(&path, &real));
                    }
                    if !self.policy.is_reserved(&real) && !granted.is_writable(&real) {
                        granted.add(real, GrantedMount::File(Access::Execute));
                    }
                }
                Err(leads_out) => {
                    let last = further.last().map_or(target, |(_, target)| target);
                    self.machine_program(last, machine).unwrap_or(Err(leads_out))?;
                }
            }
            for (link, target) in further {
                if !self.policy.is_reserved(&link) {
                    granted.add(link, GrantedMount::Link(target));
                }
            }
        }
        granted.add(path, GrantedMount::new(kind, Access::Execute));
        Ok(())
    }

    /// Checks that the stage sees a program of the machine, to which a link of the workspace leads, such as
    /// `.venv/bin/python3`. The link makes nothing visible. None if it doesn't lead to a program by an absolute path.
    fn machine_program(&self, target: &Path, machine: &SandboxView) -> Option<Result<(), CapabilityError>> {
        let program = target.is_absolute().then(|| which(target, "")).flatten()?;
        match machine.starts(&program) {
            true => Some(Ok(())),
            false => self.policy.program(program.to_str()?, &[], std::iter::empty()).err().map(Err),
        }
    }
}
