//! Reads everything in a pipeline file except for its stages.

use std::collections::{BTreeMap, HashMap};

use petgraph::graph::DiGraph;

use super::fields::{At, Fields, Value, json};
use super::uses::{Uses, Visibility, env};
use super::{credentials, freeze, lock, regions, teams};
use crate::credential::CredentialDeclaration;
use crate::diagnostic::{Problem, Report};
use crate::expression::Template;
use crate::grants::{HostPattern, Sandbox};
use crate::plan::{Concurrency, Environment, InputDeclaration, InputKind, Plan, Queue};
use crate::secret::{SecretDeclaration, SecretFrom, SecretScheme, SecretShape};
use crate::span::SourceSpan;
use crate::triggers::{PathFilter, PullRequestTrigger, PushTrigger, Triggers};

/// The tables that apply to the pipeline as a whole.
pub(super) struct Head<'t> {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) sandbox: Sandbox,
    pub(super) triggers: Triggers,
    pub(super) inputs: BTreeMap<String, InputDeclaration>,
    pub(super) env: BTreeMap<String, Template>,
    pub(super) secrets: BTreeMap<String, SecretDeclaration>,
    pub(super) credentials: BTreeMap<String, CredentialDeclaration>,
    pub(super) environments: BTreeMap<String, Environment>,
    pub(super) teams: BTreeMap<String, Vec<String>>,
    pub(super) concurrency: Option<Concurrency>,
    /// The whole file.
    pub(super) fields: Fields<'t>,
    /// The declared secrets, credentials and environments: table, name and place.
    pub(super) declared: Vec<(&'static str, At<&'t str>)>,
}

impl Head<'_> {
    /// Makes a plan without stages.
    pub(super) fn plan(self) -> Plan {
        Plan {
            name: self.name,
            description: self.description,
            sandbox: self.sandbox,
            triggers: self.triggers,
            inputs: self.inputs,
            env: self.env,
            secrets: self.secrets,
            credentials: self.credentials,
            environments: self.environments,
            teams: self.teams,
            concurrency: self.concurrency,
            stages: Vec::new(),
            graph: DiGraph::new(),
            output_reads: Vec::new(),
            names: HashMap::new(),
        }
    }
}

pub(super) fn read<'t>(file: Fields<'t>, uses: &mut Uses<'t>, report: &mut Report) -> Head<'t> {
    let declared = |table| file.table(table).entries().into_iter().map(move |(name, _)| (table, name));
    Head {
        name: file.table("pipeline").string("name").unwrap_or_default(),
        description: file.table("pipeline").string("description"),
        sandbox: lock::sandbox(file.table("pipeline")).unwrap_or_default(),
        triggers: triggers(file.table("on")),
        inputs: file.table("inputs").entries().into_iter().map(|(name, value)| input(name, value, report)).collect(),
        env: env(file.table("env"), Visibility::Pipeline, uses, report),
        secrets: secrets(file.table("secrets")),
        credentials: credentials::read(file, report),
        environments: regions::flattened(named(file.table("environments"), |fields| {
            (environment(fields, report), regions::read(fields, report))
        })),
        teams: teams::read(file, report),
        concurrency: concurrency(file, uses, report),
        fields: file,
        declared: ["secrets", "credentials", "environments"].into_iter().flat_map(declared).collect(),
    }
}

fn named<'t, T>(table: Fields<'t>, mut read: impl FnMut(Fields<'t>) -> T) -> BTreeMap<String, T> {
    table.entries().into_iter().map(|(name, value)| (name.value.to_owned(), read(Fields::of(value)))).collect()
}

fn triggers(on: Fields<'_>) -> Triggers {
    let is_on = |key| on.has(key) && on.flag(key) != Some(false);
    let (push, pull_request) = (on.table("push"), on.table("pull-request"));
    Triggers {
        push: is_on("push").then(|| PushTrigger {
            branches: push.strings("branches"),
            tags: push.strings("tags"),
            paths: path_filter(push),
        }),
        pull_request: is_on("pull-request").then(|| PullRequestTrigger {
            branches: pull_request.strings("branches"),
            paths: path_filter(pull_request),
        }),
        schedule: on.strings("schedule"),
        manual: on.flag("manual").unwrap_or(true),
    }
}

fn path_filter(event: Fields<'_>) -> PathFilter {
    PathFilter { paths: event.patterns("paths"), ignored: event.patterns("paths-ignore") }
}

fn input(name: At<&str>, value: &Value<'_>, report: &mut Report) -> (String, InputDeclaration) {
    let fields = Fields::of(value);
    let kind = match fields.text("type").map(|kind| kind.value) {
        Some("number") => InputKind::Number,
        Some("boolean") => InputKind::Boolean,
        Some("choice") => InputKind::Choice(fields.strings("options")),
        _ => InputKind::String,
    };
    let place = fields.get("type").map_or(name.span, |kind| kind.span().into());
    if matches!(&kind, InputKind::Choice(options) if options.is_empty()) {
        report.error(|| {
            Problem::new("stagewright::missing-key", place, format!("the input `{}` has no `options`", name.value))
                .help("list the options, as in `options = [\"staging\", \"production\"]`")
        });
    } else if let (false, Some(options)) = (matches!(kind, InputKind::Choice(_)), fields.get("options")) {
        report.error(|| {
            let message = format!("the input `{}` has `options`, but takes any {}", name.value, kind.describe());
            Problem::new("stagewright::bad-input", options.span().into(), message)
                .label("has no effect")
                .help("set `type = \"choice\"`, or remove `options`")
        });
    }
    let default = fields.get("default").filter(|value| !value.get_ref().is_table() && !value.get_ref().is_array());
    let default = default.map(|value| (json(value, report), SourceSpan::from(value.span())));
    if let Some((default, span)) = &default
        && !kind.accepts(default)
    {
        report.error(|| {
            let message = format!("the default of the input `{}` isn't a {}", name.value, kind.describe());
            let help = match &kind {
                InputKind::Choice(options) => {
                    format!("choose one of {}", super::list(options.iter().map(String::as_str)))
                }
                _ => "change `default`, or `type`".to_owned(),
            };
            Problem::new("stagewright::bad-default", *span, message)
                .label(format!("expected a {}", kind.describe()))
                .help(help)
        });
    }
    let default = default.map(|(default, _)| default);
    (name.value.to_owned(), InputDeclaration { kind, default, description: fields.string("description") })
}

/// The secrets with a valid `from`. Others were reported by the check of the shape.
fn secrets(table: Fields<'_>) -> BTreeMap<String, SecretDeclaration> {
    let read = |fields: Fields<'_>| {
        Some(SecretDeclaration {
            from: SecretFrom::parse(fields.text("from")?.value).ok()?,
            hosts: fields.texts("hosts").iter().filter_map(|host| HostPattern::parse(host.value).ok()).collect(),
            programs: fields.strings("programs"),
            scheme: fields.text("scheme").and_then(|scheme| SecretScheme::named(scheme.value)).unwrap_or_default(),
            shape: fields.text("shape").and_then(|shape| SecretShape::named(shape.value)).unwrap_or_default(),
        })
    };
    let declared = table.entries().into_iter();
    declared.filter_map(|(name, value)| Some((name.value.to_owned(), read(Fields::of(value))?))).collect()
}

fn environment(fields: Fields<'_>, report: &mut Report) -> Environment {
    Environment {
        target: fields.string("target"),
        url: fields.string("url"),
        approvers: fields.strings("approvers"),
        config: fields.strings("config"),
        protected: fields.flag("protected").unwrap_or(false),
        freeze: freeze::read(fields, report),
        regions: Vec::new(),
        region: None,
    }
}

fn concurrency<'t>(file: Fields<'t>, uses: &mut Uses<'t>, report: &mut Report) -> Option<Concurrency> {
    let fields = file.table("concurrency");
    Some(Concurrency {
        group: uses.template(fields.text("group")?, Visibility::Pipeline, report)?,
        cancel_in_progress: fields.flag("cancel-in-progress").unwrap_or(false),
        queue: match fields.text("queue").map(|queue| queue.value) {
            Some("max") => Queue::Max,
            _ => Queue::Single,
        },
        hold_at_gates: fields.flag("hold-at-gates").unwrap_or(false),
    })
}
