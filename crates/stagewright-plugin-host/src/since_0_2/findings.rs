//! `findings`.

use stagewright_engine::Problem;
use wasmtime::component::Resource;

use super::stagewright::findings::findings::{Host, HostFinding};
use super::stagewright::types::types::{Position, Severity};
use super::types::{level, range, workspace_file};
use crate::attempt::Attempt;

impl HostFinding for Attempt {
    async fn new(&mut self, severity: Severity, rule: String, message: String) -> wasmtime::Result<Resource<Problem>> {
        let size = rule.len() + message.len();
        self.handles.push_sized(Problem::new(level(severity), rule, message), size)
    }

    async fn file(&mut self, finding: Resource<Problem>, path: String) -> wasmtime::Result<()> {
        let size = path.len();
        self.handles.grow(&finding, size)?.path = workspace_file(&path);
        Ok(())
    }

    async fn range(
        &mut self,
        finding: Resource<Problem>,
        start: Position,
        end: Option<Position>,
    ) -> wasmtime::Result<()> {
        self.handles.get_mut(&finding)?.range = range(start, end);
        Ok(())
    }

    async fn help(&mut self, finding: Resource<Problem>, help: String) -> wasmtime::Result<()> {
        let size = help.len();
        self.handles.grow(&finding, size)?.help = Some(help);
        Ok(())
    }

    async fn suggestion(&mut self, finding: Resource<Problem>, replacement: String) -> wasmtime::Result<()> {
        let size = replacement.len();
        self.handles.grow(&finding, size)?.suggestion = Some(replacement);
        Ok(())
    }

    async fn fingerprint(&mut self, finding: Resource<Problem>, fingerprint: String) -> wasmtime::Result<()> {
        let size = fingerprint.len();
        self.handles.grow(&finding, size)?.fingerprint = Some(fingerprint);
        Ok(())
    }

    async fn report(&mut self, finding: Resource<Problem>) -> wasmtime::Result<()> {
        let finding = self.handles.get(&finding)?.clone();
        self.findings.report(finding).await;
        Ok(())
    }

    async fn drop(&mut self, finding: Resource<Problem>) -> wasmtime::Result<()> {
        self.handles.delete(finding)?;
        Ok(())
    }
}

impl Host for Attempt {}
