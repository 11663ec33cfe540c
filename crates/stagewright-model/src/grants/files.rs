//! The files of the workspace that permissions grant.

use super::Permissions;
use crate::pattern::PathPattern;
use crate::workspace_path::WorkspacePath;

impl Permissions {
    /// Whether `read`, `write` or `exec` grants any files.
    pub fn has_files(&self) -> bool {
        !(self.read.is_empty() && self.write.is_empty() && self.exec.is_empty())
    }

    /// The patterns of `read` and `exec`.
    pub fn read_only(&self) -> Vec<PathPattern> {
        self.read.iter().chain(&self.exec).map(|rule| rule.pattern().clone()).collect()
    }

    /// The patterns of `write`.
    pub fn writable(&self) -> Vec<PathPattern> {
        self.write.iter().map(|rule| rule.pattern().clone()).collect()
    }

    /// The patterns of all files that the plugin or its programs can write: those of `write`, and everything if programs
    /// run without a sandbox.
    pub fn writable_by_programs(&self) -> Vec<PathPattern> {
        if self.unsandboxed { vec![PathPattern::everything()] } else { self.writable() }
    }

    /// The patterns of all files that may be read: those of `read`, `write` and `exec`, and the programs of the
    /// workspace in `process`, which are read when they are started.
    pub fn readable(&self) -> impl Iterator<Item = PathPattern> {
        let granted = self.read.iter().chain(&self.write).chain(&self.exec).map(|rule| rule.pattern().clone());
        let started =
            self.process.iter().filter_map(|rule| WorkspacePath::parse(rule.program()?.strip_prefix("./")?).ok());
        granted.chain(started.map(|program| PathPattern::literally(&program)))
    }

    /// Whether `path` may be written.
    pub fn writes(&self, path: &WorkspacePath) -> bool {
        self.write.iter().any(|rule| rule.grants(path))
    }

    /// Whether `path` may be read: by `read`, `write` or `exec`.
    pub fn reads(&self, path: &WorkspacePath) -> bool {
        self.read.iter().chain(&self.exec).any(|rule| rule.grants(path)) || self.writes(path)
    }
}
