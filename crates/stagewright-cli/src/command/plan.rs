//! `plan`: the stages in order, what each may touch, and what isn't sandboxed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value as Json, json};
use stagewright_engine::EffectClass;
use stagewright_model::{
    CacheUse, Diagnostic, Permission, Plan, Sandbox, Stage, StageKind, Trust, is_package_word, remarks,
};
use stagewright_plugin_host::{DEFAULT_BOUNDS, Description};
use stagewright_process::sandbox::{Need, Provision};
use stagewright_report::{Printer, list, text};

use super::hard_links;
use crate::admission::refuse_open_code;
use crate::args::{Global, PlanArgs};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::host::{Host, RunMode};
use crate::lock_file::{self, Compared};
use crate::package_hosts::package_hosts;
use crate::repository::{PipelineFile, Repository};
use crate::{diagnostics, load, policy};

/// What a plan is shown with.
struct Shown<'a> {
    plan: &'a Plan,
    file: &'a PipelineFile,
    /// All pipelines of the repository.
    pipelines: Vec<String>,
    described: &'a [Arc<Description>],
    compared: Compared,
    /// What the policy refuses.
    beyond: Vec<Diagnostic>,
    package_hosts: BTreeMap<String, Vec<String>>,
    hard_links: hard_links::Remarks,
    host: &'a Host,
    /// What a rehearsal would do; real when nobody asks for that.
    mode: RunMode,
}

pub(crate) fn plan(
    global: &Global,
    repository: &Repository,
    args: &PlanArgs,
    out: &mut Printer,
) -> Result<Exit, CommandError> {
    let file = repository.pipeline(args.pipeline.pipeline.as_deref())?;
    let mut plan = load::plan(global, repository, &file)?;
    let inputs = load::inputs(&plan, &args.pipeline.inputs)?;
    let host = Host::open(repository, &plan, 1, RunMode::Real)?;
    let described = host.describe_all(&plan)?;
    refuse_open_code(global, &file, &plan, &described)?;
    let compared = lock_file::compare(lock_file::read(global, repository)?.as_ref(), &plan, &described);
    let policy = policy::read(global, repository)?;
    let digests: Vec<String> = described.iter().map(|plugin| plugin.digest.clone()).collect();
    let checked = policy.as_ref().and_then(|policy| policy.check(&plan, &file.name, &file.text, &digests).err());
    let beyond: Vec<Diagnostic> = checked.into_iter().flatten().collect();
    if let Some(policy) = &policy {
        policy.impose(&mut plan, &DEFAULT_BOUNDS);
    }
    let package_hosts = package_hosts(&repository.root, &repository.environment);
    let hard_links = hard_links::remarks(repository, &plan);
    let pipelines = repository.pipelines();
    let pipelines = pipelines.iter().filter_map(|path| path.strip_prefix(&repository.root).ok());
    let pipelines = pipelines.map(|path| path.display().to_string()).collect();
    let shown = Shown {
        plan: &plan,
        file: &file,
        pipelines,
        described: &described,
        compared,
        beyond,
        package_hosts,
        hard_links,
        host: &host,
        mode: if args.rehearse { RunMode::Rehearsal { offline: args.offline } } else { RunMode::Real },
    };
    match args.json {
        true => out.json_pretty(&shown.as_json(&inputs))?,
        false => shown.write(&inputs, out)?,
    }
    match &policy {
        Some(policy) if !shown.beyond.is_empty() => {
            diagnostics::show(global, &shown.beyond);
            let message =
                format!("{} asks for more than the policy {} allows: it won't run here", file.name, policy.file);
            Err(CommandError::not_ready(message))
        }
        _ => Ok(Exit::Success),
    }
}

impl Shown<'_> {
    fn write(&self, inputs: &BTreeMap<String, Json>, out: &mut Printer) -> std::io::Result<()> {
        let Shown { plan, file, .. } = self;
        out.line(text!("{}  {}", plan.name, file.name))?;
        if let Some(description) = &plan.description {
            out.lines(description.lines().map(|line| text!("  | {line}")))?;
        }
        self.write_changes(out)?;
        for (name, value) in inputs {
            out.line(text!("  input {name} = {value}"))?;
        }
        if let Some(concurrency) = &plan.concurrency {
            out.line(text!("  one run at a time of the group {}", concurrency.group.source()))?;
        }
        if plan.sandbox == Sandbox::Preferred {
            out.line(text!("  sandbox preferred: on a machine that can't confine programs, they run unconfined"))?;
        }
        let mut unsandboxed = 0;
        for (position, (stage, description)) in plan.stages.iter().zip(self.described).enumerate() {
            out.line(text!(""))?;
            self.write_stage(out, position + 1, stage, description)?;
            unsandboxed += usize::from(!self.powers(stage).is_empty());
        }
        out.line(text!(""))?;
        let count = plan.stages.len();
        match unsandboxed {
            0 => out.line(text!("{}, nothing of them unsandboxed.", stages_of(count))),
            _ => out.line(text!(
                "{}, {unsandboxed} with something unsandboxed: it has the files and the network of the user who runs \
                 the pipeline. Everything else has what is listed and nothing more.",
                stages_of(count)
            )),
        }
    }

    /// What the lock doesn't say, which is what a reviewer is to look at first.
    fn write_changes(&self, out: &mut Printer) -> std::io::Result<()> {
        let lock = lock_file::NAME;
        match &self.compared {
            Compared::NoLock => out.line(text!("There is no {lock}; `stagewright lock` writes down what follows.")),
            Compared::NotLocked => out.line(text!("{lock} doesn't know this pipeline: all that follows is new.")),
            Compared::Changes(changes) if changes.is_empty() => out.line(text!("As {lock} says.")),
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
        let plan = self.plan;
        let finally = if stage.kind == StageKind::Finally { "finally " } else { "" };
        let version = Some(&description.manifest.version).filter(|version| !version.is_empty());
        let version = version.map(|version| format!(" {version}")).unwrap_or_default();
        let effect = effect(stage, description);
        out.line(text!("{position:>3}. {finally}{}  ({}{version}, {effect})", stage.id, stage.uses))?;
        let mut line = |key: &str, text: String| match text.is_empty() {
            true => Ok(()),
            false => out.line(text!("       {key:<12} {text}")),
        };
        line("needs", list(stage.needs.iter().map(|&need| &plan.stage(need).id)))?;
        line("if", stage.condition.as_ref().map(|condition| condition.source().to_owned()).unwrap_or_default())?;
        line("environment", environment(plan, stage))?;
        line("approves", list(stage.approves()))?;
        line("takes back", list(stage.compensate.iter().map(|&one| &plan.stage(one).id)))?;
        for kind in Permission::ALL {
            line(kind.key(), list(stage.permissions.of(kind)))?;
        }
        for (word, hosts) in self.words(stage) {
            line(word, list(hosts))?;
        }
        line("rehearsal", rehearsal(self.mode, stage, description))?;
        let limits =
            stage.bounds().entries().into_iter().filter_map(|(key, amount)| Some(format!("{key} {}", amount?)));
        line("limits", limits.collect::<Vec<_>>().join(", "))?;
        line("cache", cached(stage, description, self.powers(stage).is_empty()))?;
        line("toolchain", self.toolchain(stage))?;
        line("unsandboxed", self.powers(stage))?;
        self.notes(stage, description).into_iter().try_for_each(|note| line("note", note))
    }

    /// The words of `net` that the stage uses, with the origins that they stand for here.
    fn words<'a>(&'a self, stage: &'a Stage) -> impl Iterator<Item = (&'a str, &'a [String])> {
        let words = stage.permissions.net.iter().filter(|entry| is_package_word(entry));
        words.filter_map(|word| Some((word.as_str(), self.package_hosts.get(word)?.as_slice())))
    }

    /// What a reviewer could overlook.
    fn notes(&self, stage: &Stage, description: &Description) -> Vec<String> {
        let files = std::iter::once(self.file.name.as_str()).chain(self.pipelines.iter().map(String::as_str));
        let mut notes = remarks(self.plan, stage, &files.collect::<Vec<_>>());
        notes.extend(self.hard_links.get(&stage.permissions.write).cloned());
        if !description.native {
            let asked: Vec<&str> = description.permissions().into_values().flatten().collect();
            let granted = Permission::ALL.into_iter().filter(|kind| !stage.permissions.of(*kind).is_empty());
            let unasked: Vec<&str> = granted.map(Permission::key).filter(|key| !asked.contains(key)).collect();
            if !unasked.is_empty() {
                notes.push(format!("granted, but the plugin doesn't ask for it: {}", unasked.join(", ")));
            }
        }
        notes
    }

    /// What of a stage runs outside of the sandbox; empty when nothing does.
    fn powers(&self, stage: &Stage) -> String {
        let programs = list(&stage.permissions.process);
        match (&stage.trust, self.host.unsandboxed()) {
            (Trust::Native { .. }, _) => "the plugin itself: a native library with the powers of the engine".to_owned(),
            (Trust::Component, Some(missing)) if !programs.is_empty() => {
                format!("programs it starts ({programs}): {}", missing.what)
            }
            (Trust::Component, _) => String::new(),
        }
    }

    fn tools(&self, stage: &Stage) -> Vec<Need> {
        self.host.tools(stage)
    }

    /// What the stage's programs see of the machine beside the system's own files.
    fn toolchain(&self, stage: &Stage) -> String {
        let tools = self.tools(stage);
        let of = |how: &[Provision], words: &str| {
            let paths = tools.iter().filter(|need| how.contains(&need.how)).map(|need| need.path.display().to_string());
            let paths = list(paths);
            (!paths.is_empty()).then(|| format!("{words} {paths}"))
        };
        let parts = [
            of(&[Provision::Execute], "starts what is in"),
            of(&[Provision::Copy], "reads a copy, without secrets, of"),
            of(&[Provision::Kept, Provision::KeptFile], "has caches of its own at"),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    fn as_json(&self, inputs: &BTreeMap<String, Json>) -> Json {
        let stages = self.plan.stages.iter().zip(self.described);
        json!({
            "pipeline": self.plan.name,
            "file": self.file.name,
            "lock": self.compared.as_json(),
            "beyond-policy": self.beyond.iter().map(diagnostics::as_json).collect::<Vec<_>>(),
            "sandbox": self.plan.sandbox,
            "inputs": inputs,
            "stages": stages.map(|(stage, description)| self.stage_as_json(stage, description)).collect::<Vec<_>>(),
        })
    }

    fn stage_as_json(&self, stage: &Stage, description: &Description) -> Json {
        let limits = stage.bounds().entries().into_iter().filter_map(|(key, amount)| Some((key, amount?.to_string())));
        json!({
            "id": stage.id,
            "kind": stage.kind,
            "uses": stage.uses.to_string(),
            "version": description.manifest.version,
            "digest": description.digest,
            "imports": description.interfaces,
            "effect": effect(stage, description),
            "rehearse": stage.rehearsal_grants(),
            "rehearsal": self.mode.terms(stage).map(|terms| terms.fidelity(stage, description.code())),
            "needs": stage.needs.iter().map(|&need| self.plan.stage(need).id.as_str()).collect::<Vec<_>>(),
            "if": stage.condition.as_ref().map(|condition| condition.source()),
            "environment": stage.environment.as_ref().map(|environment| environment.name.as_str()),
            "approves": stage.approves().collect::<Vec<_>>(),
            "compensate": stage.compensate.iter().map(|&one| self.plan.stage(one).id.as_str()).collect::<Vec<_>>(),
            "permissions": *stage.permissions,
            "package-hosts": self.words(stage).collect::<BTreeMap<_, _>>(),
            "limits": limits.collect::<BTreeMap<_, _>>(),
            "cache": if is_cached(stage, description) { stage.cache } else { CacheUse::Never },
            "inputs": stage.inputs,
            "outputs": stage.outputs,
            "unsandboxed": !self.powers(stage).is_empty(),
            "toolchain": self.tools(stage).iter().map(|need| json!({ "path": need.path, "how": need.how, "program": need.program })).collect::<Vec<_>>(),
            "notes": self.notes(stage, description),
        })
    }
}

fn stages_of(count: usize) -> String {
    format!("{count} stage{}", if count == 1 { "" } else { "s" })
}

/// The environment that the stage acts on, and which gate stands before that.
fn environment(plan: &Plan, stage: &Stage) -> String {
    let Some(name) = stage.environment.as_ref().map(|environment| &environment.name) else { return String::new() };
    let declared = plan.environments.get(name);
    let approvers = declared.map(|declared| list(&declared.approvers)).filter(|approvers| !approvers.is_empty());
    let Some(approvers) = approvers else { return name.clone() };
    let gates = gates_before(plan, stage, name);
    match gates.is_empty() {
        true => format!("{name}, after an approval by {approvers} at a gate of its own"),
        false => format!("{name}, after an approval by {approvers} at {}", gates.join(" or ")),
    }
}

/// The stages before this one whose gates approve an environment.
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

/// How much of the stage is real in a rehearsal, and what it is granted there; of a real run, the grants alone.
fn rehearsal(mode: RunMode, stage: &Stage, description: &Description) -> String {
    let granted = stage.rehearsal_grants().into_iter().flat_map(|granted| {
        let entries = |kind: Permission| granted.of(kind).iter().map(move |entry| kind.phrase(entry));
        Permission::ALL.into_iter().flat_map(entries)
    });
    let granted = granted.collect::<Vec<_>>().join(", ");
    let fidelity = mode.terms(stage).map(|terms| terms.fidelity(stage, description.code()).as_str());
    match (fidelity, granted.is_empty()) {
        (None, true) => String::new(),
        (None, false) => format!("may {granted}"),
        (Some(fidelity), true) => fidelity.to_owned(),
        (Some(fidelity), false) => format!("{fidelity}; may {granted}"),
    }
}

fn is_cached(stage: &Stage, description: &Description) -> bool {
    stage.cache != CacheUse::Never && stage.effect_class(description.code()) < EffectClass::External
}

/// What a result of the stage depends on, and what is kept of it; empty when it runs each time.
fn cached(stage: &Stage, description: &Description, is_confined: bool) -> String {
    if !is_cached(stage, description) {
        return String::new();
    }
    let inputs = if stage.inputs.is_empty() { &stage.permissions.read } else { &stage.inputs };
    let named = |globs: &[String], none: &str| if globs.is_empty() { none.to_owned() } else { list(globs) };
    let alone = if stage.cache == CacheUse::Read { "; read, and not kept" } else { "" };
    let held = if is_confined { "" } else { "; nothing keeps its programs to that" };
    format!("by {}{held}; makes {}{alone}", named(inputs, "no file"), named(&stage.outputs, "no file"))
}

fn effect(stage: &Stage, description: &Description) -> String {
    let class = serde_json::to_value(stage.effect_class(description.code()));
    class.ok().and_then(|class| class.as_str().map(str::to_owned)).unwrap_or_default()
}
