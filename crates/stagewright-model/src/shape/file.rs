//! The pipeline file, key by key.

use super::{Format, Key, NameRule, Others, Shape, Table};
use crate::range::{self, Range};
use crate::secret::SecretShape;

pub(super) const fn key(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, doc, shape, is_required: false, default: None }
}

pub(super) const fn required(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, doc, shape, is_required: true, default: None }
}

pub(super) const fn with_default(name: &'static str, default: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, doc, shape, is_required: false, default: Some(default) }
}

pub(super) const fn closed(keys: &'static [Key]) -> Table {
    Table { keys, others: None }
}

pub(super) const fn open(others: &'static Others) -> Table {
    Table { keys: &[], others: Some(others) }
}

pub(super) const fn texts(format: &'static Shape) -> Shape {
    Shape::List(format)
}

pub(super) const TEXT: Shape = Shape::Text(Format::Plain);
const GLOB: Shape = Shape::Text(Format::Glob);
const PATH: Shape = Shape::Text(Format::WorkspacePath);
const VARIABLE: Shape = Shape::Text(Format::Variable);

/// A whole number within a range.
#[expect(clippy::cast_possible_wrap, reason = "ranges of whole numbers end far below 2^63")]
pub(super) const fn count(range: Range<u64>) -> Shape {
    Shape::Integer(range.least as i64, range.most as i64)
}

pub(super) const TIMEOUT: Shape = Shape::Text(Format::Duration(range::TIMEOUT));
pub(super) const SIZE: Shape = Shape::Text(Format::Size(range::SIZE));
const BACKOFF_WAIT: Shape = Shape::Text(Format::Duration(range::BACKOFF));

/// The whole file.
pub(crate) static FILE: Table = closed(&[
    required("schema", Shape::Integer(1, 1), "Version of this format: 1."),
    required("pipeline", Shape::Table(&PIPELINE), "What the pipeline is called."),
    key("on", Shape::Table(&ON), "What starts the pipeline."),
    key("inputs", Shape::Table(&INPUTS), "Values that a run is given, read as `inputs.NAME` in expressions."),
    key("env", Shape::Table(&ENV), "Environment variables of every stage; a stage's own `env` wins."),
    key("secrets", Shape::Table(&SECRETS), "Secrets: where they come from and where they may go."),
    key("environments", Shape::Table(&ENVIRONMENTS), "Where deploys go."),
    key("teams", Shape::Table(&TEAMS), "Who is in the teams that `approvers` name."),
    key("concurrency", Shape::Table(&CONCURRENCY), "Keeps runs from overlapping."),
    required("stages", Shape::Table(&STAGES), "The nodes of the pipeline."),
    key("finally", Shape::Table(&FINALLY), "Stages that run once all others ended, whatever became of them."),
]);

static PIPELINE: Table = closed(&[
    required("name", Shape::Text(Format::Name), "Names the pipeline in runs, events and `stagewright run NAME`."),
    key("description", TEXT, "What the pipeline is for."),
    with_default(
        "sandbox",
        "\"required\"",
        Shape::Text(Format::Choice(&["required", "preferred"])),
        "On a machine that can't confine programs: start none, or start them unconfined.",
    ),
]);

static ON: Table = closed(&[
    key(
        "push",
        Shape::Either(&[Shape::Boolean, Shape::Table(&PUSH)]),
        "Commits and tags that arrive; `true` for all of them.",
    ),
    key(
        "pull-request",
        Shape::Either(&[Shape::Boolean, Shape::Table(&PULL_REQUEST)]),
        "Pull requests that are opened or change; `true` for all of them.",
    ),
    key("schedule", texts(&Shape::Text(Format::Cron)), "Cron lines of five fields, in UTC."),
    with_default("manual", "true", Shape::Boolean, "Whether a person may start it."),
]);

static PUSH: Table = closed(&[
    key("branches", texts(&GLOB), "Globs of branch names; neither `branches` nor `tags` means all of both."),
    key("tags", texts(&GLOB), "Globs of tag names."),
    key("paths", texts(&GLOB), "Globs of files, one of which must have changed."),
]);

static PULL_REQUEST: Table = closed(&[
    key("branches", texts(&GLOB), "Globs of the branches that pull requests go to; none means all."),
    key("paths", texts(&GLOB), "Globs of files, one of which must have changed."),
]);

static INPUTS: Table = open(&Others { what: "an input", rule: NameRule::Name, shape: Shape::Table(&INPUT) });

static INPUT: Table = closed(&[
    with_default(
        "type",
        "\"string\"",
        Shape::Text(Format::Choice(&["string", "number", "boolean", "choice"])),
        "What kind of value it takes.",
    ),
    key("default", Shape::Scalar, "Taken when a run is given none; an input without a default must be given."),
    key("description", TEXT, "Shown to who starts a run."),
    key("options", texts(&TEXT), "The values of an input of type `choice`."),
]);

static ENV: Table = open(&Others {
    what: "a variable",
    rule: NameRule::Variable,
    shape: Shape::Either(&[Shape::Text(Format::Template), Shape::Scalar]),
});

static SECRETS: Table = open(&Others { what: "a secret", rule: NameRule::Name, shape: Shape::Table(&SECRET) });

static SECRET: Table = closed(&[
    required(
        "from",
        Shape::Text(Format::SecretSource),
        "`env:NAME`, `file:PATH`, `command:PROGRAM ARGUMENTS`, `age:PATH#KEY`, `vault:MOUNT/PATH#FIELD`, \
         `aws-sm:NAME#KEY` or `kubernetes:NAMESPACE/NAME#KEY`.",
    ),
    key("hosts", texts(&Shape::Text(Format::Host)), "Hosts that it may be sent to: `HOST`, `HOST:PORT`, `*.DOMAIN`."),
    key("programs", texts(&TEXT), "Programs that it may be handed to in their environment."),
    with_default(
        "shape",
        "\"token\"",
        Shape::Text(Format::Choice(&SecretShape::NAMES)),
        "What it looks like: a rehearsal hands out a stand-in of this shape.",
    ),
]);

static ENVIRONMENTS: Table =
    open(&Others { what: "an environment", rule: NameRule::Stage, shape: Shape::Table(&ENVIRONMENT) });

static ENVIRONMENT: Table = closed(&[
    required(
        "target",
        Shape::Text(Format::Choice(&["process", "compose", "swarm", "kubernetes", "lambda", "ecs"])),
        "The kind of thing that it is.",
    ),
    key("url", TEXT, "Where people reach it."),
    key("config", texts(&PATH), "Configuration files; later ones win."),
    key(
        "approvers",
        texts(&Shape::Text(Format::Approver)),
        "Who may approve of a deploy, without which there is none: users, and teams as `team:NAME`.",
    ),
    with_default("protected", "false", Shape::Boolean, "Deploys to it must name an image by digest."),
    key("freeze", Shape::List(&Shape::Table(&FREEZE)), "Times without deploys."),
]);

static FREEZE: Table = closed(&[
    key("from", Shape::Moment, "When it begins, with an offset: `2026-12-18T16:00:00Z`."),
    key("until", Shape::Moment, "When it ends, with an offset."),
    key("weekly", Shape::Text(Format::Weekly), "Days and times between which there are no deploys in any week."),
    with_default("time-zone", "\"UTC\"", Shape::Text(Format::TimeZone), "Whose clocks `weekly` goes by."),
    required("reason", TEXT, "Why, for those who wait."),
]);

static TEAMS: Table =
    open(&Others { what: "a team", rule: NameRule::Name, shape: Shape::List(&Shape::Text(Format::Member)) });

static CONCURRENCY: Table = closed(&[
    required("group", Shape::Text(Format::Template), "Runs of one group don't overlap."),
    with_default("cancel-in-progress", "false", Shape::Boolean, "Whether a newer run cancels the one under way."),
    with_default(
        "queue",
        "\"single\"",
        Shape::Text(Format::Choice(&["single", "max"])),
        "Which waiting runs are kept: the newest alone, or all in turn.",
    ),
    with_default("hold-at-gates", "false", Shape::Boolean, "Whether a run keeps others out while it waits at a gate."),
]);

static STAGES: Table = open(&Others { what: "a stage", rule: NameRule::Stage, shape: Shape::Table(&STAGE) });

static FINALLY: Table = open(&Others { what: "a stage", rule: NameRule::Stage, shape: Shape::Table(&STAGE) });

static STAGE: Table = closed(&[
    required(
        "uses",
        Shape::Text(Format::Plugin),
        "The plugin: the name of a built-in, `path:PATH`, or `oci:REFERENCE@sha256:DIGEST`.",
    ),
    key("with", Shape::Table(&ANYTHING), "The plugin's configuration; strings may hold `${{ }}`."),
    key("needs", texts(&Shape::Text(Format::StageName)), "Stages that must have ended before."),
    key(
        "compensate",
        texts(&Shape::Text(Format::StageName)),
        "Stages before this one whose effect is taken back when this one fails.",
    ),
    key("if", Shape::Text(Format::Condition), "CEL; without it a stage runs when all of its needs succeeded."),
    key("matrix", Shape::Table(&MATRIX), "Runs the stage once for each combination of values."),
    key("timeout", TIMEOUT, "Wall time of one attempt, as in `20m`."),
    key(
        "retry",
        Shape::Either(&[count(range::RETRIES), Shape::Table(&RETRY)]),
        "How often to try again; a number is short for `max`.",
    ),
    with_default("continue-on-error", "false", Shape::Boolean, "A failure of the stage counts as success for others."),
    key("env", Shape::Table(&ENV), "Environment variables."),
    key(
        "environment",
        Shape::Either(&[Shape::Text(Format::Name), Shape::Table(&STAGE_ENVIRONMENT)]),
        "The environment that the stage deploys to.",
    ),
    key("permissions", Shape::Table(&PERMISSIONS), "All that the plugin may touch."),
    key("rehearse", Shape::Table(&REHEARSE), "What a rehearsal of the stage does instead, and may reach for real."),
    key("inputs", texts(&GLOB), "Globs of the files that the result depends on: what the cache is keyed by."),
    key("outputs", texts(&GLOB), "Globs of the files that the stage makes: what the cache keeps of it."),
    key(
        "cache",
        Shape::Either(&[Shape::Boolean, Shape::Text(Format::Choice(&["read"]))]),
        "Whether a result is taken from the cache, and kept there; `\"read\"` keeps none. Without it, stages that name \
         their `inputs` are cached, unless they have effects beyond the machine.",
    ),
    with_default(
        "trust",
        "\"component\"",
        Shape::Text(Format::Choice(&["component", "native"])),
        "`native` loads a shared library with the full powers of the engine's process; it takes a `digest`.",
    ),
    key("digest", Shape::Text(Format::Digest), "`sha256:…` of a native library."),
    key("memory", SIZE, "Memory of the plugin, as in `256MiB`."),
    key("log-limit", SIZE, "Size of the log, as in `10MiB`; more ends the stage."),
    key("limits", Shape::Table(&LIMITS), "How much the stage may use up."),
]);

static REHEARSE: Table = closed(&[
    key("with", Shape::Table(&ANYTHING), "The plugin's configuration in a rehearsal, in place of the stage's `with`."),
    key("outputs", Shape::Table(&ANYTHING), "What later stages see in a rehearsal; strings may hold `${{ }}`."),
    key(
        "permissions",
        Shape::Table(&PERMISSIONS),
        "The only grants beyond this machine that a rehearsal of the stage gets; `service` can't be among them.",
    ),
]);

static ANYTHING: Table = open(&Others { what: "a key", rule: NameRule::Any, shape: Shape::Anything });

static MATRIX: Table = Table {
    keys: &[
        key("include", Shape::List(&Shape::Table(&CELL)), "Combinations to add, or values to add to matching ones."),
        key("exclude", Shape::List(&Shape::Table(&CELL)), "Combinations to leave out."),
        with_default("fail-fast", "true", Shape::Boolean, "Whether a failure stops the other combinations."),
        key("max-parallel", count(range::CELLS), "How many combinations may run at a time."),
    ],
    others: Some(&Others { what: "an axis", rule: NameRule::Name, shape: Shape::List(&Shape::Scalar) }),
};

static CELL: Table = open(&Others { what: "an axis", rule: NameRule::Name, shape: Shape::Scalar });

static RETRY: Table = closed(&[
    required("max", count(range::RETRIES), "Tries after the first."),
    with_default(
        "on",
        "[\"failed\", \"errored\", \"timeout\", \"lost\"]",
        texts(&Shape::Text(Format::Choice(&["failed", "errored", "timeout", "lost"]))),
        "Causes of failure that are tried again. An attempt that was broken off after an effect beyond the machine may \
         have happened is never simply tried again: its plugin, or else a person, is asked first what became of it.",
    ),
    key(
        "backoff",
        Shape::Either(&[BACKOFF_WAIT, Shape::Table(&BACKOFF)]),
        "How long to wait; a duration alone is a constant wait.",
    ),
]);

static BACKOFF: Table = closed(&[
    with_default("initial", "\"1s\"", BACKOFF_WAIT, "Before the first retry."),
    with_default("factor", "2", count(range::FACTOR), "What each wait is multiplied by for the next."),
    with_default("max", "\"60s\"", BACKOFF_WAIT, "The longest wait."),
]);

static STAGE_ENVIRONMENT: Table = closed(&[
    required("name", Shape::Text(Format::Name), "A key of `[environments]`."),
    key("url", Shape::Text(Format::Template), "Where people reach this deploy; the environment's own `url` otherwise."),
]);

pub(super) static PERMISSIONS: Table = closed(&[
    key(
        "process",
        texts(&Shape::Text(Format::Program)),
        "Programs that may be started: `cargo` with any arguments, `git fetch origin *` with these; `*` for any program.",
    ),
    key("read", texts(&PATH), "Files and folders of the workspace that may be read; globs allowed."),
    key("write", texts(&PATH), "Files and folders of the workspace that may be written and read; globs allowed."),
    key(
        "exec",
        texts(&PATH),
        "Files and folders of the workspace that may be read, and from which programs may be started, as `node_modules`; \
         globs allowed.",
    ),
    key(
        "net",
        texts(&Shape::Text(Format::Origin)),
        "Origins that may be called: `https://HOST:PORT`, `HOST` for https on 443, `*` for any port; `tcp://HOST:PORT` \
         for programs alone; `cargo`, `npm` and `pip` for the package hosts that those are configured with.",
    ),
    key(
        "secrets",
        texts(&Shape::Text(Format::SecretGrant)),
        "Secrets that may be attached to requests and processes: `NAME`, `NAME:header` for requests alone, `NAME:env` \
         for processes alone.",
    ),
    key(
        "reveal",
        texts(&Shape::Text(Format::SecretName)),
        "Secrets whose plain text may be read; these must be in `secrets` too.",
    ),
    key(
        "registry",
        texts(&Shape::Text(Format::Repository)),
        "Image repositories that may be pushed to and resolved: `local/app`, `ghcr.io/acme/*`.",
    ),
    key(
        "socket",
        texts(&Shape::Text(Format::Socket)),
        "Unix sockets of this machine that programs may connect to: absolute paths, or `docker`, which is full power \
         over the machine.",
    ),
    key("service", texts(&Shape::Text(Format::Service)), "Local services that may be started and stopped."),
    key("env", texts(&VARIABLE), "Variables of the engine's own environment that the stage's processes inherit."),
]);

static LIMITS: Table = closed(&[
    key("cpu", TIMEOUT, "CPU time of all programs of an attempt together, as in `10m`."),
    key("process-memory", SIZE, "Address space of each program, as in `4GiB`."),
    key("processes", count(range::PROCESSES), "Processes at a time."),
    key("log-lines", count(range::LOG_LINES), "Lines of the log."),
    key("artifacts", SIZE, "All that an attempt saves as artifacts, as in `1GiB`."),
    key(
        "workspace",
        SIZE,
        "All that the plugin writes to the workspace, and the largest file that a program may write, as in `1GiB`.",
    ),
    key("requests", count(range::REQUESTS), "HTTP requests that are open at a time."),
]);
