//! Validates pipelines without running anything: the file, and the configuration of every stage.

use stagewright_model::{Diagnostic, Mistake, Plan};

use crate::error::SessionError;
use crate::host::Host;
use crate::load;
use crate::missing;
use crate::packages;
use crate::policy;
use crate::preflight::{invalid_configuration, lacking_permissions, open_code, unknown_outputs};
use crate::repository::PipelineFile;
use crate::session::Session;
use crate::unmatched;

/// Findings of a validation, passed to the caller as they occur.
#[derive(Clone, Copy, Debug)]
pub enum ValidationFindings<'a> {
    /// Errors and warnings in the file.
    Diagnostics(&'a [Diagnostic]),
    /// Mistakes in the configuration of stages; [`Plan::locate_mistakes`] finds their positions.
    Mistakes(&'a Plan, &'a [Mistake]),
}

/// The result of validating a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Validity {
    /// It is valid.
    Valid {
        /// The number of its stages.
        stages: usize,
    },
    /// It has errors, and so no plan.
    Mistakes(usize),
    /// It requests more than the policy allows.
    BeyondPolicy,
    /// Plugins reject the configuration of their stages; as a phrase.
    Misconfigured(String),
    /// It has expressions inside code that stages execute.
    OpenCode(usize),
    /// It has expressions that read outputs which no stage sets.
    UnknownOutputs(usize),
    /// Stages lack grants that their plugins will use; as a phrase.
    MissingGrants(String),
}

impl Session {
    /// Validates one file. All findings are passed to `found`, including warnings.
    ///
    /// # Errors
    /// If a plugin, the repository or the policy can't be read.
    pub async fn validate(
        &self,
        file: &PipelineFile,
        found: &mut (dyn FnMut(ValidationFindings<'_>) + Send),
    ) -> Result<Validity, SessionError> {
        let (plan, remarks) = load::parse(&self.repository, file);
        found(ValidationFindings::Diagnostics(&remarks));
        let Some(plan) = plan else {
            let mistakes = remarks.iter().filter(|diagnostic| !diagnostic.is_warning()).count();
            return Ok(Validity::Mistakes(mistakes));
        };
        let host = Host::for_inspection(self, &plan).await?;
        let plugins = host.describe_all(&plan).await?;
        let open = open_code(file, &plan, &plugins);
        found(ValidationFindings::Diagnostics(&open));
        let unknown = unknown_outputs(file, &plan, &plugins);
        found(ValidationFindings::Diagnostics(&unknown));
        let beyond = beyond(self, file, &plan, &host).await?;
        found(ValidationFindings::Diagnostics(&beyond));
        if !beyond.is_empty() {
            return Ok(Validity::BeyondPolicy);
        }
        let lacking = missing::grants(&plan, host.packages(), &host.requirements(&plan).await?);
        let unmatched = unmatched::grants(&self.repository, &plan, &lacking);
        found(ValidationFindings::Diagnostics(&plan.locate_warnings(&file.name, &file.text, &unmatched)));
        let wrong = host.misconfigured(&plan).await?;
        let lacking: Vec<Mistake> = lacking.iter().filter_map(|lacks| lacks.mistake(&plan)).collect();
        found(ValidationFindings::Mistakes(&plan, &[wrong.as_slice(), &lacking].concat()));
        Ok(match () {
            () if !wrong.is_empty() => Validity::Misconfigured(invalid_configuration(&wrong)),
            () if !open.is_empty() => Validity::OpenCode(open.len()),
            () if !unknown.is_empty() => Validity::UnknownOutputs(unknown.len()),
            () if !lacking.is_empty() => Validity::MissingGrants(lacking_permissions(lacking.len())),
            () => Validity::Valid { stages: plan.stages.len() },
        })
    }
}

/// What the pipeline requests beyond the operator's policy.
async fn beyond(
    session: &Session,
    file: &PipelineFile,
    plan: &Plan,
    host: &Host,
) -> Result<Vec<Diagnostic>, SessionError> {
    let Some(policy) = policy::read(session)? else { return Ok(Vec::new()) };
    Ok(packages::beyond(&policy, plan, file, &host.describe_all(plan).await?, host.packages()))
}
