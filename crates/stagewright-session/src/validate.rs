//! Checks pipelines without running anything: every mistake of a file, and of every stage's configuration.

use stagewright_model::{Diagnostic, Mistake, Plan};

use crate::error::SessionError;
use crate::host::Host;
use crate::load;
use crate::packages;
use crate::policy;
use crate::preflight::{foreign_targets, invalid_configuration, open_code};
use crate::repository::PipelineFile;
use crate::session::Session;
use crate::unmatched;

/// What validation finds, as it finds it.
#[derive(Clone, Copy, Debug)]
pub enum Findings<'a> {
    /// Mistakes and warnings of the file.
    Diagnostics(&'a [Diagnostic]),
    /// Mistakes of stages, which [`Plan::locate_mistakes`] finds the places of.
    Mistakes(&'a Plan, &'a [Mistake]),
}

/// What there is to say of a file as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Validity {
    /// It is valid.
    Valid {
        /// How many stages it has.
        stages: usize,
    },
    /// It says no plan.
    Mistakes(usize),
    /// It asks for more than the policy allows.
    BeyondPolicy,
    /// Stages are configured in a way that their plugins don't accept; in words.
    Misconfigured(String),
    /// Expressions stand in what stages execute.
    OpenCode(usize),
    /// It deploys to targets that don't work yet.
    ForeignTargets(usize),
}

impl Session {
    /// Checks one file. Everything that is found goes to `found`, warnings too.
    ///
    /// # Errors
    /// When a plugin, the repository or the policy can't be read.
    pub async fn validate(
        &self,
        file: &PipelineFile,
        found: &mut (dyn FnMut(Findings<'_>) + Send),
    ) -> Result<Validity, SessionError> {
        let (plan, remarks) = load::parse(&self.repository, file);
        found(Findings::Diagnostics(&remarks));
        let Some(plan) = plan else {
            let mistakes = remarks.iter().filter(|diagnostic| !diagnostic.is_warning()).count();
            return Ok(Validity::Mistakes(mistakes));
        };
        let host = Host::for_inspection(self, &plan).await?;
        let open = open_code(file, &plan, &host.describe_all(&plan).await?);
        found(Findings::Diagnostics(&open));
        let beyond = beyond(self, file, &plan, &host).await?;
        found(Findings::Diagnostics(&beyond));
        if !beyond.is_empty() {
            return Ok(Validity::BeyondPolicy);
        }
        let unmatched = unmatched::grants(&self.repository, &plan);
        found(Findings::Diagnostics(&plan.locate_warnings(&file.name, &file.text, &unmatched)));
        let (wrong, foreign) = (host.misconfigured(&plan).await?, foreign_targets(&plan));
        found(Findings::Mistakes(&plan, &[wrong.as_slice(), &foreign].concat()));
        Ok(match (wrong.is_empty(), open.is_empty(), foreign.is_empty()) {
            (false, ..) => Validity::Misconfigured(invalid_configuration(&wrong)),
            (true, false, _) => Validity::OpenCode(open.len()),
            (true, true, false) => Validity::ForeignTargets(foreign.len()),
            (true, true, true) => Validity::Valid { stages: plan.stages.len() },
        })
    }
}

/// What the pipeline has beyond the operator's policy.
async fn beyond(
    session: &Session,
    file: &PipelineFile,
    plan: &Plan,
    host: &Host,
) -> Result<Vec<Diagnostic>, SessionError> {
    let Some(policy) = policy::read(session)? else { return Ok(Vec::new()) };
    Ok(packages::beyond(&policy, plan, file, &host.describe_all(plan).await?, host.packages()))
}
