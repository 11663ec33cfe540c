//! Proposes and writes the grants that a pipeline's stages lack.

use std::collections::BTreeSet;

use stagewright_engine::{EventKind, RunId};
use stagewright_model::{LockChange, MissingGrant, Permission, Permissions, Plan, StageIndex, with_grants};
use stagewright_plugin_host::LEARNED;
use stagewright_store::RunFilter;

use crate::error::SessionError;
use crate::host::Host;
use crate::load::{self, Pipeline};
use crate::lock_file;
use crate::missing::{self, LackedGrant};
use crate::repository::{PipelineFile, document};
use crate::select;
use crate::session::Session;

/// Which grants to propose.
#[derive(Clone, Debug, Default)]
pub struct GrantRequest {
    /// Names or ids of stages; empty for all.
    pub stages: Vec<String>,
    /// The run whose denials count: its id, a unique prefix of its id, or `latest`. None for the pipeline's last run.
    pub run: Option<String>,
    /// Whether to propose grants without which the stages also work.
    pub with_optional: bool,
}

/// The grants that a pipeline's stages lack, and the file with them.
pub struct GrantProposal {
    session: Session,
    file: PipelineFile,
    text: String,
    /// The grants, by stage and in display order; empty if nothing is missing.
    pub grants: Vec<LackedGrant>,
    /// What the file with them permits and the lock file doesn't; empty if the pipeline isn't locked.
    pub beyond_lock: Vec<LockChange>,
}

impl Session {
    /// The pipeline file of a run as it is now. `run` is its id, a unique prefix of its id, or `latest`.
    ///
    /// # Errors
    /// If the run doesn't exist, or the file can't be read.
    pub fn pipeline_of(&self, run: &str) -> Result<PipelineFile, SessionError> {
        let store = self.read_only_store()?;
        let run = store.find(run)?;
        let record = store.run(&run)?.ok_or_else(|| SessionError::internal(format!("run {run} has no record")))?;
        let path = self.repository.root.join(record.file);
        self.pipeline(Some(&path.display().to_string()))
    }

    /// Proposes the grants that stages lack: those that their plugins say they will use, and those that a run was denied.
    /// Nothing is written.
    ///
    /// # Errors
    /// If the pipeline is invalid, a stage or the run does not exist, or a plugin can't be asked.
    pub async fn propose_grants(
        &self,
        pipeline: Pipeline,
        request: &GrantRequest,
    ) -> Result<GrantProposal, SessionError> {
        let Pipeline { file, plan } = pipeline;
        let chosen = select::named(&plan, "STAGE", &request.stages)?;
        let host = Host::for_inspection(self, &plan).await?;
        let lacking = missing::grants(&plan, host.packages(), &host.requirements(&plan).await?);
        let required = lacking.into_iter().flat_map(|lacks| lacks.grants);
        let mut grants: Vec<LackedGrant> =
            required.filter(|lacked| request.with_optional || !lacked.is_optional).collect();
        for denied in self.denied(&plan, request.run.as_deref())? {
            if !grants.iter().any(|known| known.grant == denied.grant) {
                grants.push(denied);
            }
        }
        grants.retain(|lacked| is_chosen(&plan, &chosen, &lacked.grant));
        grants.sort_by(|one, other| one.grant.cmp(&other.grant));
        let missing: Vec<MissingGrant> = grants.iter().map(|lacked| lacked.grant.clone()).collect();
        let text = with_grants(&file.text, &missing).map_err(|error| {
            SessionError::not_ready(format!("can't add the grants to {}: {error}", file.name))
                .hint("add them by hand; `stagewright plan` lists them")
        })?;
        let granted = granted(self, &file, &text)?;
        let lock = lock_file::read(self)?;
        let plugins = host.describe_all(&plan).await?;
        let compared = lock_file::compare(lock.as_ref(), &granted, &plugins, host.packages());
        let beyond_lock = compared.wider().cloned().collect();
        Ok(GrantProposal { session: self.clone(), file, text, grants, beyond_lock })
    }

    /// What a run of the pipeline was denied, as far as the pipeline still doesn't grant it.
    fn denied(&self, plan: &Plan, run: Option<&str>) -> Result<Vec<LackedGrant>, SessionError> {
        let store = self.read_only_store()?;
        let run: Option<RunId> = match run {
            Some(run) => Some(store.find(run)?),
            None => {
                let last = RunFilter { pipeline: Some(plan.name.clone()), limit: Some(1) };
                store.list(&last)?.into_iter().next().map(|row| row.id)
            }
        };
        let Some(run) = run else { return Ok(Vec::new()) };
        let has_learned = store.run(&run)?.is_some_and(|record| record.source.learning);
        let mut seen = BTreeSet::new();
        let denied = store.events(&run)?.into_iter().filter_map(|event| match event.kind {
            EventKind::Problem { problem, .. } => {
                problem.grant.map(|grant| *grant).filter(|grant| !has_learned || is_learned(&problem.code, grant))
            }
            _ => None,
        });
        let denied = denied.filter(|grant| seen.insert(grant.clone()) && is_missing(plan, grant));
        let mut denied: Vec<MissingGrant> = denied.collect();
        if has_learned {
            // Stages of a matrix, and attempts, learn apart from each other.
            denied = widest(&denied);
        }
        let reason = format!("{} in run {run}", if has_learned { "was used" } else { "was denied" });
        Ok(denied.into_iter().map(|grant| LackedGrant { grant, reason: reason.clone(), is_optional: false }).collect())
    }
}

/// The plan of the new text.
fn granted(session: &Session, file: &PipelineFile, text: &str) -> Result<Plan, SessionError> {
    let file = PipelineFile { name: file.name.clone(), text: text.to_owned() };
    let (plan, found) = load::parse(&session.repository, &file);
    plan.ok_or_else(|| {
        session.notices.diagnostics(&found.iter().collect::<Vec<_>>());
        SessionError::not_ready(format!("{} would be invalid with the grants; nothing was written", file.name))
            .hint("choose the grants by hand: `stagewright plan` lists what is missing")
    })
}

/// Whether a learning run proposes a grant. What leads beyond the stage was refused, and isn't learned from that.
fn is_learned(code: &str, grant: &MissingGrant) -> bool {
    code == LEARNED
        || matches!(grant.permission, Permission::Process | Permission::Read | Permission::Write | Permission::Exec)
}

/// The grants that aren't part of another one.
fn widest(grants: &[MissingGrant]) -> Vec<MissingGrant> {
    let alone = |grant: &MissingGrant| {
        let mut permissions = Permissions::default();
        // The entry was accepted before.
        let _ = permissions.insert(grant.permission, &grant.entry);
        permissions
    };
    let is_part = |grant: &&MissingGrant| {
        let others = grants.iter().filter(|other| other.table == grant.table && other != grant);
        let mut others = others.map(|other| (other, alone(other)));
        // Of two that are equal in effect, the first stays.
        others.any(|(other, wide)| alone(grant).is_within(&wide) && !(wide.is_within(&alone(grant)) && *grant < other))
    };
    grants.iter().filter(|grant| !is_part(grant)).cloned().collect()
}

fn is_chosen(plan: &Plan, chosen: &[StageIndex], grant: &MissingGrant) -> bool {
    chosen.is_empty() || chosen.iter().any(|&stage| tables(plan, stage).any(|(table, _)| table == grant.table))
}

/// Whether the plan has the table and doesn't grant the entry there.
fn is_missing(plan: &Plan, grant: &MissingGrant) -> bool {
    let mut wanted = Permissions::default();
    if wanted.insert(grant.permission, &grant.entry).is_err() {
        return false;
    }
    let mut tables = plan.indices().flat_map(|stage| tables(plan, stage));
    tables.any(|(table, granted)| table == grant.table && !wanted.is_within(granted))
}

/// A stage's tables of permissions, by name.
fn tables(plan: &Plan, stage: StageIndex) -> impl Iterator<Item = (String, &Permissions)> {
    let stage = plan.stage(stage);
    let rehearsed =
        stage.rehearsal_grants().map(|granted| (format!("{}.rehearse.permissions", stage.table()), granted));
    let own = (format!("{}.permissions", stage.table()), stage.permissions.as_ref());
    std::iter::once(own).chain(rehearsed)
}

impl GrantProposal {
    /// The pipeline file's name.
    pub fn file(&self) -> &str {
        &self.file.name
    }

    /// The text of the pipeline file before and after.
    pub fn texts(&self) -> (&str, &str) {
        (&self.file.text, &self.text)
    }

    /// Writes the pipeline file.
    ///
    /// # Errors
    /// If the file was changed since the proposal, or can't be written.
    pub fn write(&self) -> Result<(), SessionError> {
        let path = self.session.repository.root.join(&self.file.name);
        let failed = |error| SessionError::not_ready(format!("can't write {}", self.file.name)).caused_by(error);
        if document(&path).map_err(failed)? != self.file.text {
            return Err(SessionError::not_ready(format!(
                "{} has changed meanwhile; nothing was written",
                self.file.name
            ))
            .hint("run `stagewright grant` again"));
        }
        // The file keeps its mode, and a link to it stays one.
        let target = path.canonicalize().map_err(failed)?;
        let mode = target.metadata().map_err(failed)?.permissions();
        stagewright_files::replace_durably(&target, self.text.as_bytes()).map_err(failed)?;
        std::fs::set_permissions(&target, mode).map_err(failed)
    }
}
