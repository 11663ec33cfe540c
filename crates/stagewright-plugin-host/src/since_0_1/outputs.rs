//! `outputs`.

use stagewright_engine::{Level, Problem};

use super::stagewright::stage::outputs::Host;
use super::stagewright::stage::types::{Diagnostic, Severity};
use crate::attempt::Attempt;
use crate::call::CallResult;

/// Converts a guest's diagnostic.
pub(crate) fn problem(diagnostic: Diagnostic) -> Problem {
    Problem {
        level: match diagnostic.severity {
            Severity::Error => Level::Error,
            Severity::Warning => Level::Warning,
            Severity::Info => Level::Info,
        },
        code: diagnostic.code,
        message: diagnostic.message,
        path: diagnostic.path,
        help: diagnostic.help,
    }
}

impl Host for Attempt {
    async fn set(&mut self, name: String, value: String) -> CallResult<()> {
        Ok(self.outputs.set(&name, &value, self.log.masker())?)
    }

    async fn summary(&mut self, markdown: String) -> wasmtime::Result<()> {
        if let Some(markdown) = self.outputs.admit_summary(&markdown, self.log.masker()) {
            self.log.summary(markdown).await;
        }
        Ok(())
    }

    async fn report(&mut self, diagnostic: Diagnostic) -> wasmtime::Result<()> {
        if self.outputs.admit_problem() {
            self.log.problem(problem(diagnostic)).await;
        }
        Ok(())
    }
}
