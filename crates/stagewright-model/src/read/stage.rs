//! One `[stages.NAME]` or `[finally.NAME]` table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use super::cache;
use super::fields::{At, Fields, Value, count, json_with};
use super::matrix::{self, Matrix};
use super::uses::{Use, Uses, View, env};
use crate::diagnostic::{Problem, Report};
use crate::expression::{JsonTemplate, MARKER, Template};
use crate::grants::{Bounds, Limits, Permission, Permissions};
use crate::pattern::PathPattern;
use crate::plan::{Backoff, CacheUse, EnvironmentRef, PluginRef, Retry, RetryCause, Stage, StageKind, Trust};
use crate::rehearse::Rehearse;
use crate::span::SourceSpan;
use crate::value_path::ValuePath;

/// A stage as it was read, before its needs are looked up and its matrix is multiplied out.
pub(super) struct Draft<'t> {
    pub(super) name: At<&'t str>,
    pub(super) kind: StageKind,
    pub(super) fields: Fields<'t>,
    pub(super) needs: Vec<At<&'t str>>,
    pub(super) compensate: Vec<At<&'t str>>,
    pub(super) matrix: Option<Matrix>,
    pub(super) uses: Vec<Use>,
    /// All but `id`, `needs`, `compensate`, `matrix` and `line`.
    pub(super) stage: Stage,
}

/// What stages have alike.
pub(super) struct Shared {
    env: BTreeMap<String, Template>,
    // For those that say nothing of it.
    with: Arc<JsonTemplate>,
    retry: Arc<Retry>,
    permissions: Arc<Permissions>,
}

impl Shared {
    /// `env`: the pipeline's.
    pub(super) fn new(env: BTreeMap<String, Template>) -> Shared {
        let with = Arc::new(JsonTemplate::new(Json::Object(serde_json::Map::new()), Vec::new()));
        Shared { env, with, retry: Arc::default(), permissions: Arc::default() }
    }
}

/// Reads one table.
pub(super) fn read<'t>(
    name: At<&'t str>,
    value: &'t Value<'t>,
    kind: StageKind,
    shared: &Shared,
    uses: &mut Uses<'t>,
    report: &mut Report,
) -> Draft<'t> {
    let fields = Fields::of(value);
    let mut variables = shared.env.clone();
    variables.extend(env(fields.table("env"), View::StageEnv, uses, report));
    let with = templates(fields, "with", uses, report);
    let header = SourceSpan::from(value.span());
    let mut stage = Stage {
        id: name.value.to_owned(),
        name: name.value.to_owned(),
        kind,
        uses: plugin(fields.text("uses").map_or("", |uses| uses.value)),
        with: with.unwrap_or_else(|| Arc::clone(&shared.with)),
        needs: Vec::new(),
        condition: fields.text("if").and_then(|text| uses.condition(text, report)),
        matrix: None,
        timeout: fields.duration("timeout"),
        retry: fields.get("retry").map_or_else(|| Arc::clone(&shared.retry), |value| Arc::new(retry(value))),
        continue_on_error: fields.flag("continue-on-error").unwrap_or(false),
        env: variables,
        environment: environment(fields, uses, report),
        permissions: match fields.has("permissions") {
            true => Arc::new(permissions(fields.table("permissions"))),
            false => Arc::clone(&shared.permissions),
        },
        rehearse: fields.has("rehearse").then(|| Arc::new(rehearse(fields.table("rehearse"), uses, report))),
        inputs: patterns(fields, "inputs"),
        outputs: patterns(fields, "outputs"),
        cache: CacheUse::Never,
        compensate: Vec::new(),
        trust: match fields.text("trust").map(|trust| trust.value) {
            Some("native") => Trust::Native { digest: fields.string("digest").unwrap_or_default() },
            _ => Trust::Component,
        },
        memory: fields.size("memory"),
        log_limit: fields.size("log-limit"),
        limits: limits(fields.table("limits")),
        // A table that only its sub-tables mention has no header.
        location: if header.end > header.start { header } else { name.span },
        line: 0,
    };
    stage.cache = cache::read(name.value, fields, &stage, report);
    let matrix = fields.get("matrix").filter(|value| value.get_ref().is_table());
    let matrix = matrix.map(|value| matrix::expand(value, report));
    let (needs, compensate) = (fields.texts("needs"), fields.texts("compensate"));
    Draft { name, kind, fields, needs, compensate, matrix, uses: uses.take(), stage }
}

/// A table whose strings may hold expressions.
fn templates<'t>(fields: Fields<'t>, key: &str, uses: &mut Uses<'t>, report: &mut Report) -> Option<Arc<JsonTemplate>> {
    let mut templates = Vec::new();
    let source = json_with(fields.get(key)?, &ValuePath::default(), report, &mut |path, text, report| {
        if text.value.contains(MARKER) {
            let template = uses.template(text, View::Stage, report);
            templates.extend(template.map(|template| (path.clone(), template)));
        }
    });
    Some(Arc::new(JsonTemplate::new(source, templates)))
}

/// `[stages.NAME.rehearse]`.
fn rehearse<'t>(fields: Fields<'t>, uses: &mut Uses<'t>, report: &mut Report) -> Rehearse {
    if let Some(service) = fields.table("permissions").get("service") {
        report.error(|| {
            let message = "a rehearsal can't be granted a real service";
            Problem::new("stagewright::rehearsed-service", service.span().into(), message)
                .label("its services are always stand-ins")
                .help("remove `service` here: the stage's own `permissions.service` is what it takes")
        });
    }
    Rehearse {
        with: templates(fields, "with", uses, report),
        outputs: templates(fields, "outputs", uses, report),
        permissions: fields.has("permissions").then(|| Arc::new(permissions(fields.table("permissions")))),
    }
}

fn plugin(uses: &str) -> PluginRef {
    match uses.split_once(':') {
        Some(("path", path)) => PluginRef::Path(path.to_owned()),
        Some(("oci", reference)) => PluginRef::Oci(reference.to_owned()),
        _ => PluginRef::Builtin(uses.to_owned()),
    }
}

fn retry(value: &Value<'_>) -> Retry {
    if let Some(max) = count(value) {
        return Retry { max, ..Retry::default() };
    }
    let fields = Fields::of(value);
    let causes = fields.has("on").then(|| fields.texts("on").into_iter().filter_map(|cause| retry_cause(cause.value)));
    Retry {
        max: fields.count("max").unwrap_or(0),
        on: causes.map_or_else(|| RetryCause::DEFAULT.to_vec(), Iterator::collect),
        backoff: fields.get("backoff").map(backoff).unwrap_or_default(),
    }
}

fn retry_cause(name: &str) -> Option<RetryCause> {
    match name {
        "failed" => Some(RetryCause::Failed),
        "errored" => Some(RetryCause::Errored),
        "timeout" => Some(RetryCause::Timeout),
        "lost" => Some(RetryCause::Lost),
        _ => None,
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
        // A first wait that is longer than the usual bound was asked for.
        max: fields.duration("max").unwrap_or_else(|| Duration::max(default.max, initial)),
    }
}

fn environment<'t>(fields: Fields<'t>, uses: &mut Uses<'t>, report: &mut Report) -> Option<EnvironmentRef> {
    if let Some(name) = fields.string("environment") {
        return Some(EnvironmentRef { name, url: None });
    }
    let table = fields.table("environment");
    let url = table.text("url").and_then(|url| uses.template(url, View::Stage, report));
    Some(EnvironmentRef { name: table.string("name")?, url })
}

/// Globs that mean nothing were reported when the form was checked.
fn patterns(fields: Fields<'_>, key: &str) -> Vec<PathPattern> {
    fields.texts(key).iter().filter_map(|text| PathPattern::parse(text.value).ok()).collect()
}

/// Entries that mean nothing were reported when the form was checked.
pub(super) fn permissions(fields: Fields<'_>) -> Permissions {
    let mut permissions = Permissions::default();
    for kind in Permission::ALL {
        for entry in fields.texts(kind.key()) {
            let _ = permissions.insert(kind, entry.value);
        }
    }
    permissions
}

/// A table that has the keys of `limits`, and those that stand beside it in a pipeline.
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
