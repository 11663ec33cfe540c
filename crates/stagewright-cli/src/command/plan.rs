//! `plan`: shows the stages in order, the permissions of each, and what isn't sandboxed.

mod answer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value as Json;
use stagewright_model::{
    CacheUse, EffectClass, Grant, NamedBy, Origin, PackageManager, PathPattern, PathRule, Permission, Permissions,
    Plan, Sandbox, Stage, StageKind, Trust, count, list, remarks,
};
use stagewright_plugin_host::{Description, PackageHosts};
use stagewright_process::sandbox::{MountMode, ToolMount};
use stagewright_report::{Printer, text};
use stagewright_session::{Compared, ConfigChange, DeployChanges, LOCK_FILE, LackedGrant, Review, RunMode, Session};

pub(crate) use answer::{lacked_grant, permissions};

use crate::args::{self, PlanArgs};
use crate::command::environment::short_digest;
use crate::error::CommandError;
use crate::exit::Exit;

/// A reviewed plan to be shown.
struct PlanView<'a> {
    review: &'a Review,
    /// The kind of run that is shown: a rehearsal with `--rehearse`, else a real one.
    mode: RunMode,
}

pub(crate) async fn plan(session: &Session, args: &PlanArgs, out: &mut Printer) -> Result<Exit, CommandError> {
    let pipeline = session.load(session.pipeline(args.pipeline.pipeline.as_deref())?)?;
    let inputs = args::pairs("--input", &args.pipeline.inputs)?.into_iter().collect();
    let review = session.review(pipeline, &inputs).await?;
    let shown = PlanView {
        review: &review,
        mode: if args.rehearse { RunMode::Rehearsal { offline: args.offline } } else { RunMode::Real },
    };
    match args.json {
        true => out.json_pretty(&shown.answer(&review.inputs))?,
        false => shown.write(&review.inputs, out)?,
    }
    review.refuse(session)?;
    Ok(Exit::Success)
}

impl PlanView<'_> {
    fn write(&self, inputs: &BTreeMap<String, Json>, out: &mut Printer) -> std::io::Result<()> {
        let Review { plan, file, .. } = self.review;
        out.line(text!("{}  {}", plan.name, file.name))?;
        if let Some(description) = &plan.description {
            out.lines(description.lines().map(|line| text!("  | {line}")))?;
        }
        self.write_changes(out)?;
        for (name, value) in inputs {
            out.line(text!("  input {name} = {value}"))?;
        }
        if let Some(concurrency) = &plan.concurrency {
            out.line(text!("  concurrency group {}: one run at a time", concurrency.group.source()))?;
        }
        if plan.sandbox == Sandbox::Preferred {
            out.line(text!("  sandbox preferred: programs run unsandboxed on machines that can't sandbox them"))?;
        }
        let mut unsandboxed = 0;
        for (position, (stage, description)) in plan.stages.iter().zip(&self.review.described).enumerate() {
            out.line(text!(""))?;
            self.write_stage(out, position + 1, stage, description)?;
            unsandboxed += usize::from(!self.unsandboxed_parts(stage).is_empty());
        }
        out.line(text!(""))?;
        let stages = plan.stages.len();
        match unsandboxed {
            0 if stages == 1 => out.line(text!("1 stage, sandboxed.")),
            0 => out.line(text!("{}, all sandboxed.", count(stages, "stage"))),
            _ => out.line(text!(
                "{}, {unsandboxed} not fully sandboxed: unsandboxed code can use all files and the network of the user who \
                 runs the pipeline. Everything else can use only what is listed.",
                count(stages, "stage")
            )),
        }
    }

    /// The differences from the lock file, which a reviewer has to check first.
    fn write_changes(&self, out: &mut Printer) -> std::io::Result<()> {
        let lock = LOCK_FILE;
        match &self.review.compared {
            Compared::NoLock => out.line(text!("{lock} doesn't exist; `stagewright lock` records this plan.")),
            Compared::NotLocked => out.line(text!("{lock} has no entry for this pipeline: everything below is new.")),
            Compared::Changes(changes) if changes.is_empty() => out.line(text!("{lock} is up to date.")),
            Compared::Changes(changes) => {
                out.line(text!("Since {lock} was written:"))?;
                changes.iter().try_for_each(|change| out.line(text!("  {change}")))
            }
        }
    }

    fn write_stage(
        &self,
        out: &mut Printer,
        position: usize,
        stage: &Stage,
        description: &Description,
    ) -> std::io::Result<()> {
        let plan = &self.review.plan;
        let finally = if stage.kind == StageKind::Finally { "finally " } else { "" };
        let version = Some(&description.manifest.version).filter(|version| !version.is_empty());
        let version = version.map(|version| format!(" {version}")).unwrap_or_default();
        let effect = self.effect(stage, description);
        out.line(text!("{position:>3}. {finally}{}  ({}{version}, {effect})", stage.id, stage.uses))?;
        let mut line = |key: &str, text: String| match text.is_empty() {
            true => Ok(()),
            false => out.line(text!("       {key:<12} {text}")),
        };
        line("needs", list(stage.needs.iter().map(|&need| &plan.stage(need).id)))?;
        line("if", stage.condition.as_ref().map(|condition| condition.source().to_owned()).unwrap_or_default())?;
        line("environment", environment(plan, stage))?;
        self.deploy_changes(stage).into_iter().try_for_each(|change| line("changes", change))?;
        line("approves", list(stage.approves()))?;
        line("compensates", list(stage.compensate.iter().map(|&target| &plan.stage(target).id)))?;
        line("sets", list(stage.permission_sets.iter().map(|set| &set.name)))?;
        for kind in Permission::ALL {
            line(kind.key(), list(stage.permissions.of(kind)))?;
        }
        let lacks = self.review.lacks(stage);
        let phrases = |is_optional| {
            let of_kind = lacks.iter().filter(move |lacked| lacked.is_optional == is_optional);
            of_kind.filter_map(LackedGrant::phrase).collect::<Vec<_>>().join(", ")
        };
        line("lacks", phrases(false))?;
        line("could use", phrases(true))?;
        for manager in stage.package_managers() {
            line(manager.word(), package_hosts(manager, self.review.packages()))?;
        }
        line("rehearsal", rehearsal(self.mode, stage, description))?;
        let limits =
            stage.bounds().entries().into_iter().filter_map(|(key, amount)| Some(format!("{key} {}", amount?)));
        line("limits", limits.collect::<Vec<_>>().join(", "))?;
        line("cache", self.cached(stage, description))?;
        line("toolchain", self.toolchain(stage))?;
        line("unsandboxed", self.unsandboxed_parts(stage))?;
        self.notes(stage, description).into_iter().try_for_each(|note| line("note", note))
    }

    /// What it would change of the release that its environment runs, a line each.
    fn deploy_changes(&self, stage: &Stage) -> Vec<String> {
        let Some(DeployChanges { release, changes }) = self.review.deploy_changes(stage) else { return Vec::new() };
        if changes.is_empty() {
            return vec![format!("nothing of release {release}")];
        }
        let text = |value: &Option<Json>| match value {
            None => "nothing".to_owned(),
            Some(Json::String(text)) => short_digest(text),
            Some(Json::Object(table)) => count(table.len(), "key"),
            Some(Json::Array(list)) => count(list.len(), "value"),
            Some(value) => value.to_string(),
        };
        let line = |ConfigChange { key, before, after }: &ConfigChange| {
            format!("{key} of release {release}: {} -> {}", text(before), text(after))
        };
        changes.iter().map(line).collect()
    }

    fn is_cached(&self, stage: &Stage, description: &Description) -> bool {
        self.review.is_cached(stage, description, self.mode)
    }

    /// The files that a cached result depends on, and those that it restores; empty if the stage isn't cached.
    fn cached(&self, stage: &Stage, description: &Description) -> String {
        if !self.is_cached(stage, description) {
            return String::new();
        }
        let granted = stage.permissions.read.iter().chain(&stage.permissions.exec);
        let read: Vec<&str> = granted.map(PathRule::as_str).collect();
        let inputs: Vec<&str> = stage.inputs.iter().map(PathPattern::as_str).collect();
        let inputs = if inputs.is_empty() { read } else { inputs };
        let outputs: Vec<&str> = stage.outputs.iter().map(PathPattern::as_str).collect();
        let or_none = |globs: &[&str]| if globs.is_empty() { "no files".to_owned() } else { list(globs) };
        let read_only = if stage.cache == CacheUse::Read { "; doesn't store new results" } else { "" };
        let unconfined =
            if self.unsandboxed_parts(stage).is_empty() { "" } else { " (programs can read other files undetected)" };
        format!("inputs {}{unconfined}; outputs {}{read_only}", or_none(&inputs), or_none(&outputs))
    }

    fn effect(&self, stage: &Stage, description: &Description) -> &'static str {
        match self.mode.effect_class(stage, description) {
            EffectClass::Pure => "pure",
            EffectClass::Local => "local",
            EffectClass::External => "external",
        }
    }

    /// Remarks on what a reviewer could overlook.
    fn notes(&self, stage: &Stage, description: &Description) -> Vec<String> {
        let files =
            std::iter::once(self.review.file.name.as_str()).chain(self.review.pipelines.iter().map(String::as_str));
        let mut notes = remarks(&self.review.plan, stage, &files.collect::<Vec<_>>());
        notes.extend(self.review.notes(stage));
        if !description.native {
            let asked: Vec<&str> = description.permissions().into_values().flatten().collect();
            // The proxy uses its secrets without the plugin.
            let is_for_plugin = |grant: &Grant<'_>| !matches!(grant, Grant::Secrets(rule) if !rule.opens_handle());
            let is_granted = |kind: &Permission| stage.permissions.of(*kind).iter().any(is_for_plugin);
            let granted = Permission::ALL.into_iter().filter(is_granted);
            let unused: Vec<&str> = granted.map(Permission::key).filter(|key| !asked.contains(key)).collect();
            if !unused.is_empty() {
                notes.push(format!("granted, but not requested by the plugin: {}", unused.join(", ")));
            }
        }
        notes
    }

    /// The parts of a stage that run outside of the sandbox; empty if it is fully sandboxed.
    fn unsandboxed_parts(&self, stage: &Stage) -> String {
        let programs = list(&stage.permissions.process);
        match (&stage.trust, self.review.unsandboxed()) {
            (Trust::Native { .. }, _) => {
                "the plugin itself: a native library that can do whatever the engine can".to_owned()
            }
            (Trust::Component, _) if stage.permissions.unsandboxed && !programs.is_empty() => {
                format!("its programs ({programs}): `sandbox = \"off\"`")
            }
            (Trust::Component, Some(missing)) if !programs.is_empty() => {
                format!("its programs ({programs}): {}", missing.what)
            }
            (Trust::Component, _) => String::new(),
        }
    }

    fn tools(&self, stage: &Stage) -> Vec<ToolMount> {
        self.review.tools(stage)
    }

    /// The paths of the machine that the stage's programs see in addition to the system's own files.
    fn toolchain(&self, stage: &Stage) -> String {
        let tools = self.tools(stage);
        let mounted = |has_mode: fn(MountMode) -> bool, words: &str| {
            let paths = by_folder(tools.iter().filter(|mount| has_mode(mount.how)).map(|mount| mount.path.as_path()));
            (!paths.is_empty()).then(|| format!("{words} {paths}"))
        };
        let parts = [
            mounted(|how| how == MountMode::Execute, "programs in"),
            mounted(|how| matches!(how, MountMode::Copy(_)), "a copy without credentials of"),
            mounted(|how| matches!(how, MountMode::Kept | MountMode::KeptFile), "its own caches at"),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

/// Lists paths, grouped by folder as in `/opt/node/{bin,lib}`.
fn by_folder<'a>(paths: impl Iterator<Item = &'a Path>) -> String {
    let mut folders: BTreeMap<Option<&Path>, Vec<String>> = BTreeMap::new();
    for path in paths {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        folders.entry(path.parent()).or_default().push(name);
    }
    let shown = folders.into_iter().map(|(folder, names)| {
        let names = if names.len() == 1 { names.concat() } else { format!("{{{}}}", names.join(",")) };
        folder.unwrap_or(Path::new("/")).join(names).display().to_string()
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn texts(origins: impl IntoIterator<Item = Origin>) -> Vec<String> {
    origins.into_iter().map(|origin| origin.to_string()).collect()
}

/// The origins that the word for a package manager stands for, and the configurations that name them.
fn package_hosts(manager: PackageManager, hosts: &PackageHosts) -> String {
    let mut parts = vec![texts(PackageHosts::usual(manager)).join(", ")];
    for (by, words) in [(NamedBy::Repository, "by the repository"), (NamedBy::Machine, "by this machine, not locked")] {
        let named = hosts.open().iter().filter(|named| named.manager == manager && named.by == by);
        let named = named.map(|named| format!("{} ({})", named.origin, named.place)).collect::<Vec<_>>();
        if !named.is_empty() {
            parts.push(format!("{words}: {}", named.join(", ")));
        }
    }
    parts.join("; ")
}

/// The environment that the stage acts on, and the approval that it needs first.
fn environment(plan: &Plan, stage: &Stage) -> String {
    let Some(name) = stage.environment.as_ref().map(|environment| &environment.name) else { return String::new() };
    let declared = plan.environments.get(name);
    let approvers = declared.map(|declared| list(&declared.approvers)).filter(|approvers| !approvers.is_empty());
    let Some(approvers) = approvers else { return name.clone() };
    let gates = gates_before(plan, stage, name);
    match gates.is_empty() {
        true => format!("{name}, after an approval by {approvers}"),
        false => format!("{name}, after an approval by {approvers} at {}", gates.join(" or ")),
    }
}

/// The stages upstream of this one whose gates approve the environment.
fn gates_before(plan: &Plan, stage: &Stage, environment: &str) -> Vec<String> {
    let (mut seen, mut open, mut found) = (BTreeSet::new(), stage.needs.clone(), Vec::new());
    while let Some(index) = open.pop() {
        let next = plan.stage(index);
        if seen.insert(index) {
            found.extend(next.approves().any(|name| name == environment).then(|| format!("`{}`", next.id)));
            open.extend(&next.needs);
        }
    }
    found.sort_unstable();
    found
}

/// In a rehearsal, how much of the stage is real and what it is granted; otherwise only the rehearsal grants.
fn rehearsal(mode: RunMode, stage: &Stage, description: &Description) -> String {
    let granted = stage.rehearsal_grants().into_iter().flat_map(Permissions::entries);
    let granted = granted.map(Grant::phrase).collect::<Vec<_>>().join(", ");
    let fidelity = mode.terms(stage).map(|terms| terms.fidelity(stage, description.code()).as_str());
    match (fidelity, granted.is_empty()) {
        (None, true) => String::new(),
        (None, false) => format!("may {granted}"),
        (Some(fidelity), true) => fidelity.to_owned(),
        (Some(fidelity), false) => format!("{fidelity}; may {granted}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_one_folder_are_shown_together() {
        let paths = ["/o/node/bin", "/o/node/lib", "/o/tool"].map(Path::new);
        assert_eq!(by_folder(paths.into_iter()), "/o/tool, /o/node/{bin,lib}");
    }
}
