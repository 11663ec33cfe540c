//! The checks before a pipeline starts: it requests no more than the policy allows and, with `--locked`, no more than
//! the lock file permits; its plugins exist and accept their configuration; a sandbox and its secrets are available.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stagewright_model::{
    Diagnostic, LockChange, Mistake, OperatorPolicy, Permissions, Plan, Sandbox, StageIndex, count,
};
use stagewright_plugin_host::{DEFAULT_BOUNDS, Description};

use crate::blocking::blocking;
use crate::error::SessionError;
use crate::host::Host;
use crate::lock_file::{self, Compared};
use crate::missing;
use crate::mode::RunMode;
use crate::notice::Notice;
use crate::packages;
use crate::policy;
use crate::repository::{LOCK_FILE, PipelineFile};
use crate::session::Session;

/// Checks a run against the policy and the lock file, and limits its plan to what the policy allows. Returns the
/// policy.
pub(crate) async fn admit(
    session: &Session,
    host: &Host,
    file: &PipelineFile,
    plan: &mut Plan,
    locked: bool,
) -> Result<Option<OperatorPolicy>, SessionError> {
    let policy = policy::read(session)?;
    let plugins = host.describe_all(plan).await?;
    refuse_open_code(session, file, plan, &plugins)?;
    refuse_unknown_outputs(session, file, plan, &plugins)?;
    packages::refuse_closed(plan, host.packages())?;
    if let Some(policy) = &policy {
        let beyond = packages::beyond(policy, plan, file, &plugins, host.packages());
        if !beyond.is_empty() {
            let refused = policy::refused(session, policy, &file.name, &beyond);
            return Err(match host.mode() {
                RunMode::Learning => refused.hint(
                    "a run learns only where the policy allows any program, the whole workspace and package hosts",
                ),
                RunMode::Real | RunMode::Rehearsal { .. } => refused,
            });
        }
    }
    packages::notice_hosts_of_machine(&*session.notices, plan, host.packages());
    let by_policy = policy.as_ref().filter(|policy| policy.requires_lock).map(|policy| policy.file.as_str());
    let lock = lock_file::read(session)?;
    let compared = lock_file::compare(lock.as_ref(), plan, &plugins, host.packages());
    if locked || by_policy.is_some() {
        refuse_wider(file, plan, &compared).map_err(|error| match by_policy {
            Some(policy) => error.hint(format!("policy {policy} requires an up-to-date lock file")),
            None => error,
        })?;
    } else if let Compared::Changes(changes) = &compared
        && host.mode() != RunMode::Learning
    {
        notice_wider(session, file, changes);
    }
    if let Some(policy) = &policy {
        policy.impose(plan, &DEFAULT_BOUNDS);
    }
    Ok(policy)
}

/// Expressions inside code that stages execute. Anyone who can influence the value of such an expression could inject
/// code. `plugins` is indexed by plan index.
pub(crate) fn open_code(file: &PipelineFile, plan: &Plan, plugins: &[Arc<Description>]) -> Vec<Diagnostic> {
    let schemas = plugins.iter().map(|plugin| &plugin.manifest.config);
    plan.check_code(&file.name, &file.text, schemas).err().into_iter().flatten().collect()
}

/// Expressions that read outputs which no stage sets. `plugins` is indexed by plan index.
pub(crate) fn unknown_outputs(file: &PipelineFile, plan: &Plan, plugins: &[Arc<Description>]) -> Vec<Diagnostic> {
    let declared = |index: usize| {
        let outputs = &plugins[index].manifest.outputs;
        (!outputs.open).then(|| outputs.properties.keys().map(String::as_str).collect())
    };
    plan.check_outputs(&file.name, &file.text, &declared).err().into_iter().flatten().collect()
}

/// Refuses a pipeline with expressions that read outputs which no stage sets.
pub(crate) fn refuse_unknown_outputs(
    session: &Session,
    file: &PipelineFile,
    plan: &Plan,
    plugins: &[Arc<Description>],
) -> Result<(), SessionError> {
    let found = unknown_outputs(file, plan, plugins);
    session.notices.diagnostics(&found.iter().collect::<Vec<_>>());
    if found.is_empty() {
        return Ok(());
    }
    let outputs = count(found.len(), "output");
    Err(SessionError::invalid_pipeline(format!("{} reads {outputs} that no stage sets; nothing was run", file.name)))
}

/// Refuses a pipeline with expressions inside code.
pub(crate) fn refuse_open_code(
    session: &Session,
    file: &PipelineFile,
    plan: &Plan,
    plugins: &[Arc<Description>],
) -> Result<(), SessionError> {
    let found = open_code(file, plan, plugins);
    session.notices.diagnostics(&found.iter().collect::<Vec<_>>());
    let expressions = match found.len() {
        0 => return Ok(()),
        1 => "an expression".to_owned(),
        count => format!("{count} expressions"),
    };
    Err(SessionError::invalid_pipeline(format!("{} has {expressions} inside code; nothing was run", file.name)))
}

fn refuse_wider(file: &PipelineFile, plan: &Plan, compared: &Compared) -> Result<(), SessionError> {
    let lock = LOCK_FILE;
    let message = match compared {
        Compared::NoLock => format!("the run requires {lock}, which does not exist; nothing was run"),
        Compared::NotLocked => format!("{lock} doesn't contain the pipeline `{}`; nothing was run", plan.name),
        Compared::Changes(changes) if changes.iter().all(|change| !change.is_wider) => return Ok(()),
        Compared::Changes(_) => format!("{} may do more than {lock} permits; nothing was run", file.name),
    };
    Err(SessionError::not_ready(message).details(compared.wider().map(LockChange::to_string)).hint(format!(
        "if this is intended, update the lock file and have it reviewed: stagewright lock {}",
        file.name
    )))
}

fn notice_wider(session: &Session, file: &PipelineFile, changes: &[LockChange]) {
    let changes = changes.iter().filter(|change| change.is_wider).count();
    if changes > 0 {
        session.notices.notice(&Notice::WiderThanLock { file: file.name.clone(), changes });
    }
}

/// Refuses a run that can't succeed, for example because of a missing plugin, an invalid configuration, or a missing
/// secret.
pub(crate) async fn check(
    session: &Session,
    host: &Host,
    file: &PipelineFile,
    plan: &Plan,
    left_out: &BTreeMap<StageIndex, String>,
) -> Result<(), SessionError> {
    let wrong = host.misconfigured(plan).await?;
    if !wrong.is_empty() {
        show_mistakes(session, file, plan, &wrong);
        let message = format!("{}: {}; nothing was run", file.name, invalid_configuration(&wrong));
        return Err(SessionError::invalid_pipeline(message));
    }
    let included = || plan.indices().filter(|index| !left_out.contains_key(index)).map(|index| plan.stage(index));
    if let Some(missing) = host.unsandboxed().filter(|_| plan.sandbox == Sandbox::Required) {
        return Err(SessionError::not_ready(format!(
            "{} requires a sandbox for its programs, but this machine has none: {}",
            file.name, missing.what
        ))
        .hint(missing.help.clone()));
    }
    if let Some(missing) = host.unsandboxed() {
        session.notices.notice(&Notice::Unsandboxed { why: missing.what.clone() });
    }
    let described = host.describe_all(plan).await?;
    for (stage, target) in included().flat_map(|stage| stage.compensate.iter().map(move |&target| (stage, target))) {
        let (target, description) = (plan.stage(target), &described[target.get()]);
        if !description.reconciles {
            return Err(SessionError::not_ready(format!(
                "{}:{}: [stages.{}] compensates for `{}` when it fails, but the plugin `{}` can't undo it",
                file.name, stage.line, stage.name, target.id, target.uses
            ))
            .hint(format!("remove `{}` from `compensate`, or use a plugin that exports `reconcile`", target.name)));
        }
    }
    // A rehearsal fetches only the values that its rehearsal grants include.
    let granted = included().map(|stage| match host.mode().terms(stage) {
        None => Permissions::clone(&stage.permissions),
        Some(terms) => terms.real,
    });
    let (mut used, mut signing) = (BTreeSet::new(), BTreeSet::new());
    for granted in granted {
        used.extend(plan.secrets_of(&granted));
        signing.extend(granted.credentials.iter().map(|rule| rule.name().to_owned()));
    }
    let (secrets, credentials) = (Arc::clone(host.secrets()), Arc::clone(host.credentials()));
    let checked = blocking(move || {
        let notices = secrets.check(&used)?;
        credentials.check(&signing).map(|()| notices)
    });
    let notices = checked.await?;
    notices.iter().for_each(|notice| session.notices.notice(notice));
    Ok(())
}

/// Refuses a run in which a stage would be denied what its plugin says that it will use.
///
/// Only for runs whose file can still be changed. A resumed run has stages that have ended, and a rollback has the text of an
/// earlier run: neither must be stopped because a later version of a plugin asks for more.
pub(crate) async fn refuse_missing_grants(
    session: &Session,
    host: &Host,
    file: &PipelineFile,
    plan: &Plan,
    left_out: &BTreeMap<StageIndex, String>,
) -> Result<(), SessionError> {
    let lacking = missing::grants(plan, host.packages(), &host.requirements(plan).await?);
    let lacking = lacking.iter().filter(|lacks| !left_out.contains_key(&lacks.stage));
    let missing: Vec<Mistake> = lacking.filter_map(|lacks| lacks.mistake(plan)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    show_mistakes(session, file, plan, &missing);
    let stages = lacking_permissions(missing.len());
    Err(SessionError::not_ready(format!("{}: {stages}; nothing was run", file.name)).hint(ADD_GRANTS))
}

/// How to add what stages lack.
pub(crate) const ADD_GRANTS: &str = "add them to the pipeline file: stagewright grant";

/// As in `2 stages lack permissions`.
pub(crate) fn lacking_permissions(stages: usize) -> String {
    format!("{} {} permissions", count(stages, "stage"), if stages == 1 { "lacks" } else { "lack" })
}

fn show_mistakes(session: &Session, file: &PipelineFile, plan: &Plan, mistakes: &[Mistake]) {
    let located = plan.locate_mistakes(&file.name, &file.text, mistakes);
    session.notices.diagnostics(&located.iter().collect::<Vec<_>>());
}

/// As in `2 stages have an invalid configuration`.
pub(crate) fn invalid_configuration(mistakes: &[Mistake]) -> String {
    let stages = mistakes.iter().map(|mistake| mistake.stage).collect::<BTreeSet<_>>().len();
    format!("{} {} an invalid configuration", count(stages, "stage"), if stages == 1 { "has" } else { "have" })
}
