//! Reads one `[stages.NAME]` or `[finally.NAME]` table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use super::cache;
use super::fields::{At, Fields, Value, count, json_with};
use super::matrix::{self, Matrix};
use super::permissions::{ExpandedPermissions, PermissionSets};
use super::uses::{Use, Uses, Visibility, env};
use crate::diagnostic::{Problem, Report};
use crate::expression::{JsonTemplate, MARKER, Template};
use crate::grants::{Bounds, Limits, Permissions};
use crate::plan::{Backoff, CacheUse, EnvironmentRef, PluginRef, Retry, RetryCause, Stage, StageKind, Trust};
use crate::rehearse::Rehearse;
use crate::span::SourceSpan;
use crate::value_path::ValuePath;

/// A stage before its needs are resolved and its matrix is expanded.
pub(super) struct Draft<'t> {
    pub(super) name: At<&'t str>,
    pub(super) kind: StageKind,
    pub(super) fields: Fields<'t>,
    pub(super) needs: Vec<At<&'t str>>,
    pub(super) compensate: Vec<At<&'t str>>,
    pub(super) matrix: Option<Matrix>,
    pub(super) uses: Vec<Use>,
    /// The stage without `id`, `needs`, `compensate`, `matrix`, `wave` and `line`.
    pub(super) stage: Stage,
}

impl<'t> Draft<'t> {
    /// The stage's own tables of permissions: for runs, and for rehearsals.
    pub(super) fn permissions(&self) -> [Fields<'t>; 2] {
        [self.fields.table("permissions"), self.fields.table("rehearse").table("permissions")]
    }
}

/// The pipeline's variables, and the values of keys that a stage doesn't have. All stages share the latter.
pub(super) struct StageDefaults {
    env: BTreeMap<String, Template>,
    with: Arc<JsonTemplate>,
    timeout: Option<Duration>,
    retry: Arc<Retry>,
    granted: ExpandedPermissions,
}

impl StageDefaults {
    /// `fields` is the table `[defaults]`, `env` that of the pipeline.
    pub(super) fn read(
        fields: Fields<'_>,
        env: BTreeMap<String, Template>,
        sets: &PermissionSets<'_>,
        report: &mut Report,
    ) -> StageDefaults {
        StageDefaults {
            env,
            with: Arc::new(JsonTemplate::new(Json::Object(serde_json::Map::new()), Vec::new())),
            timeout: fields.duration("timeout"),
            retry: fields.get("retry").map_or_else(Arc::default, |value| Arc::new(retry(value))),
            granted: sets.expand(fields.table("permissions"), report),
        }
    }
}

/// Reads the table of a stage.
pub(super) fn read<'t>(
    name: At<&'t str>,
    value: &'t Value<'t>,
    kind: StageKind,
    defaults: &StageDefaults,
    sets: &PermissionSets<'t>,
    uses: &mut Uses<'t>,
    report: &mut Report,
) -> Draft<'t> {
    let fields = Fields::of(value);
    let granted = match fields.has("permissions") {
        true => sets.expand(fields.table("permissions"), report),
        false => defaults.granted.clone(),
    };
    let mut variables = defaults.env.clone();
    variables.extend(env(fields.table("env"), Visibility::StageEnv, uses, report));
    let with = templates(fields, "with", uses, report);
    let header = SourceSpan::from(value.span());
    let mut stage = Stage {
        id: name.value.to_owned(),
        name: name.value.to_owned(),
        kind,
        uses: PluginRef::parse(fields.text("uses").map_or("", |uses| uses.value)),
        with: with.unwrap_or_else(|| Arc::clone(&defaults.with)),
        needs: Vec::new(),
        condition: fields.text("if").and_then(|text| uses.condition(text, report)),
        matrix: None,
        wave: None,
        timeout: fields.duration("timeout").or(defaults.timeout),
        retry: fields.get("retry").map_or_else(|| Arc::clone(&defaults.retry), |value| Arc::new(retry(value))),
        continue_on_error: fields.flag("continue-on-error").unwrap_or(false),
        env: variables,
        environment: environment(fields, uses, report),
        permissions: match is_unsandboxed(fields) {
            true => Arc::new(Permissions { unsandboxed: true, ..(*granted.permissions).clone() }),
            false => granted.permissions,
        },
        permission_sets: granted.sets,
        rehearse: fields.has("rehearse").then(|| Arc::new(rehearse(fields.table("rehearse"), sets, uses, report))),
        inputs: fields.patterns("inputs"),
        outputs: fields.patterns("outputs"),
        cache: CacheUse::Never,
        compensate: Vec::new(),
        trust: match fields.text("trust").map(|trust| trust.value) {
            Some("native") => Trust::Native { digest: fields.string("digest").unwrap_or_default() },
            _ => Trust::Component,
        },
        memory: fields.size("memory"),
        log_limit: fields.size("log-limit"),
        limits: limits(fields.table("limits")),
        // A table that only exists because of its sub-tables has no header.
        location: if header.end > header.start { header } else { name.span },
        line: 0,
    };
    stage.cache = cache::read(name.value, fields, &stage, report);
    let matrix = fields.get("matrix").filter(|value| value.get_ref().is_table());
    let matrix = matrix.map(|value| matrix::expand(value, report));
    let (needs, compensate) = (fields.texts("needs"), fields.texts("compensate"));
    Draft { name, kind, fields, needs, compensate, matrix, uses: uses.drain(), stage }
}

/// Whether a stage, or its section in a lock, has `sandbox = "off"`.
pub(super) fn is_unsandboxed(fields: Fields<'_>) -> bool {
    fields.text("sandbox").is_some_and(|sandbox| sandbox.value == "off")
}

/// Reads a table whose strings may contain expressions.
fn templates<'t>(fields: Fields<'t>, key: &str, uses: &mut Uses<'t>, report: &mut Report) -> Option<Arc<JsonTemplate>> {
    let mut templates = Vec::new();
    let source = json_with(fields.get(key)?, &ValuePath::default(), report, &mut |path, text, report| {
        if text.value.contains(MARKER) {
            let template = uses.template(text, Visibility::Stage, report);
            templates.extend(template.map(|template| (path.clone(), template)));
        }
    });
    Some(Arc::new(JsonTemplate::new(source, templates)))
}

/// Reads `[stages.NAME.rehearse]`.
fn rehearse<'t>(fields: Fields<'t>, sets: &PermissionSets<'t>, uses: &mut Uses<'t>, report: &mut Report) -> Rehearse {
    for service in sets.tables(fields.table("permissions")).iter().filter_map(|table| table.get("service")) {
        report.error(|| {
            let message = "a rehearsal can't start real services";
            Problem::new("stagewright::rehearsed-service", service.span().into(), message)
                .label("services are always stand-ins here")
                .help("remove `service`: the services in the stage's own `permissions.service` get stand-ins")
        });
    }
    Rehearse {
        with: templates(fields, "with", uses, report),
        outputs: templates(fields, "outputs", uses, report),
        permissions: fields.has("permissions").then(|| sets.expand(fields.table("permissions"), report).permissions),
    }
}

fn retry(value: &Value<'_>) -> Retry {
    if let Some(max) = count(value) {
        return Retry { max, ..Retry::default() };
    }
    let fields = Fields::of(value);
    let causes =
        fields.has("on").then(|| fields.texts("on").into_iter().filter_map(|cause| RetryCause::named(cause.value)));
    Retry {
        max: fields.count("max").unwrap_or(0),
        on: causes.map_or_else(|| RetryCause::ALL.to_vec(), Iterator::collect),
        backoff: fields.get("backoff").map(backoff).unwrap_or_default(),
    }
}

fn backoff(value: &Value<'_>) -> Backoff {
    let constant = super::fields::text(value).and_then(|text| crate::shape::duration(text.value));
    if let Some(wait) = constant {
        return Backoff { initial: wait, factor: 1, max: wait };
    }
    let fields = Fields::of(value);
    let default = Backoff::default();
    let initial = fields.duration("initial").unwrap_or(default.initial);
    Backoff {
        initial,
        factor: fields.count("factor").unwrap_or(default.factor),
        // An `initial` above the default of `max` raises `max`.
        max: fields.duration("max").unwrap_or_else(|| Duration::max(default.max, initial)),
    }
}

fn environment<'t>(fields: Fields<'t>, uses: &mut Uses<'t>, report: &mut Report) -> Option<EnvironmentRef> {
    if let Some(name) = fields.string("environment") {
        return Some(EnvironmentRef { name, url: None });
    }
    let table = fields.table("environment");
    let url = table.text("url").and_then(|url| uses.template(url, Visibility::Stage, report));
    Some(EnvironmentRef { name: table.string("name")?, url })
}

/// Reads a table with the keys of `limits`, and with those limits that are keys of the stage itself in a pipeline.
pub(super) fn bounds(fields: Fields<'_>) -> Bounds {
    Bounds {
        timeout: fields.duration("timeout"),
        memory: fields.size("memory"),
        log_limit: fields.size("log-limit"),
        limits: limits(fields),
    }
}

fn limits(fields: Fields<'_>) -> Limits {
    Limits {
        cpu: fields.duration("cpu"),
        process_memory: fields.size("process-memory"),
        processes: fields.count("processes"),
        log_lines: fields.count("log-lines").map(u64::from),
        artifacts: fields.size("artifacts"),
        workspace: fields.size("workspace"),
        requests: fields.count("requests"),
    }
}
