//! The description of the pipeline file.

mod environment;

use self::environment::ENVIRONMENTS;
use super::{Format, Key, NameRule, OtherKeys, Shape, Table};
use crate::credential::KIND_NAMES;
use crate::plan::RetryCause;
use crate::range::{self, Range};
use crate::secret::{SecretScheme, SecretShape};

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

pub(super) const fn open(others: &'static OtherKeys) -> Table {
    Table { keys: &[], others: Some(others) }
}

pub(super) const fn texts(format: &'static Shape) -> Shape {
    Shape::List(format)
}

pub(super) const TEXT: Shape = Shape::Text(Format::Plain);
const GLOB: Shape = Shape::Text(Format::Glob);
const PATH: Shape = Shape::Text(Format::WorkspacePath);
const VARIABLE: Shape = Shape::Text(Format::Variable);

/// An integer within a range.
#[expect(clippy::cast_possible_wrap, reason = "all ranges end far below 2^63")]
pub(super) const fn count(range: Range<u64>) -> Shape {
    Shape::Integer(range.least as i64, range.most as i64)
}

pub(super) const TIMEOUT: Shape = Shape::Text(Format::Duration(range::TIMEOUT));
pub(super) const SIZE: Shape = Shape::Text(Format::Size(range::SIZE));
const BACKOFF_WAIT: Shape = Shape::Text(Format::Duration(range::BACKOFF));

/// The whole file.
pub(crate) static FILE: Table = closed(&[
    required("schema", Shape::Integer(1, 1), "Version of this format: 1."),
    required("pipeline", Shape::Table(&PIPELINE), "Name and settings of the pipeline."),
    key("on", Shape::Table(&ON), "Which events start the pipeline, for `stagewright run --event`."),
    key("inputs", Shape::Table(&INPUTS), "Values that a run takes, available as `inputs.NAME` in expressions."),
    key("env", Shape::Table(&ENV), "Environment variables of every stage; a stage's own `env` overrides them."),
    key("defaults", Shape::Table(&DEFAULTS), "Values for stages that don't have these keys themselves."),
    key("permission-sets", Shape::Table(&PERMISSION_SETS), "Permissions that stages use by name."),
    key("secrets", Shape::Table(&SECRETS), "Secrets: where they come from and where they may be sent."),
    key("credentials", Shape::Table(&CREDENTIALS), "Credentials with which the host signs requests of plugins."),
    key("environments", Shape::Table(&ENVIRONMENTS), "Environments that stages deploy to."),
    key("teams", Shape::Table(&TEAMS), "The members of the teams in `approvers`."),
    key("concurrency", Shape::Table(&CONCURRENCY), "Prevents runs from overlapping."),
    required("stages", Shape::Table(&STAGES), "The stages of the pipeline."),
    key("finally", Shape::Table(&FINALLY), "Stages that run after all others have ended, whatever their results."),
]);

static PIPELINE: Table = closed(&[
    required("name", Shape::Text(Format::Name), "Name of the pipeline in runs, events and `stagewright run NAME`."),
    key("description", TEXT, "What the pipeline is for."),
    with_default(
        "sandbox",
        "\"required\"",
        Shape::Text(Format::Choice(&["required", "preferred"])),
        "On a machine that can't sandbox programs: start none (`required`), or start them unsandboxed (`preferred`).",
    ),
]);

static ON: Table = closed(&[
    key(
        "push",
        Shape::Either(&[Shape::Boolean, Shape::Table(&PUSH)]),
        "Pushed commits and tags; `true` for all of them.",
    ),
    key(
        "pull-request",
        Shape::Either(&[Shape::Boolean, Shape::Table(&PULL_REQUEST)]),
        "Opened and updated pull requests; `true` for all of them.",
    ),
    key("schedule", texts(&Shape::Text(Format::Cron)), "Cron lines of five fields, in UTC."),
    with_default("manual", "true", Shape::Boolean, "Whether users may start the pipeline."),
]);

static PUSH: Table = closed(&[
    key("branches", texts(&GLOB), "Globs of branch names; without `branches` and `tags`, all branches and tags."),
    key("tags", texts(&GLOB), "Globs of tag names."),
    key("paths", texts(&PATH), "Globs of files and folders; a change to at least one of them is required."),
    key("paths-ignore", texts(&PATH), "Globs of files and folders whose changes don't count."),
]);

static PULL_REQUEST: Table = closed(&[
    key("branches", texts(&GLOB), "Globs of the target branches of pull requests; empty for all."),
    key("paths", texts(&PATH), "Globs of files and folders; a change to at least one of them is required."),
    key("paths-ignore", texts(&PATH), "Globs of files and folders whose changes don't count."),
]);

static INPUTS: Table = open(&OtherKeys { what: "an input", rule: NameRule::Name, shape: Shape::Table(&INPUT) });

static INPUT: Table = closed(&[
    with_default(
        "type",
        "\"string\"",
        Shape::Text(Format::Choice(&["string", "number", "boolean", "choice"])),
        "Type of the value.",
    ),
    key("default", Shape::Scalar, "Value for runs that don't set the input; without a default, every run must set it."),
    key("description", TEXT, "Description for users who start a run."),
    key("options", texts(&TEXT), "The possible values of an input of type `choice`."),
]);

static ENV: Table = open(&OtherKeys {
    what: "a variable",
    rule: NameRule::Variable,
    shape: Shape::Either(&[Shape::Text(Format::Template), Shape::Scalar]),
});

static SECRETS: Table = open(&OtherKeys { what: "a secret", rule: NameRule::Name, shape: Shape::Table(&SECRET) });

static SECRET: Table = closed(&[
    required(
        "from",
        Shape::Text(Format::SecretSource),
        "`env:NAME`, `file:PATH`, `.env#KEY` or `dotenv:PATH#KEY`, `command:PROGRAM ARGUMENTS`, `age:PATH#KEY`, \
         `vault:MOUNT/PATH#FIELD`, `aws-sm:NAME#KEY` or `kubernetes:NAMESPACE/NAME#KEY`.",
    ),
    key(
        "hosts",
        texts(&Shape::Text(Format::Host)),
        "Where it may be sent: `HOST`, `HOST:PORT`, `*.DOMAIN`, or the socket `unix:///PATH`.",
    ),
    key("programs", texts(&TEXT), "Programs that may get the secret in their environment."),
    with_default(
        "scheme",
        "\"bearer\"",
        Shape::Text(Format::Choice(&SecretScheme::NAMES)),
        "How the proxy sends the secret: `Authorization: Bearer VALUE`, `basic` for a value `USER:PASSWORD`, or `plain` \
         for the value alone.",
    ),
    with_default(
        "shape",
        "\"token\"",
        Shape::Text(Format::Choice(&SecretShape::NAMES)),
        "Format of the value, and of the stand-in that a rehearsal uses instead.",
    ),
]);

static CREDENTIALS: Table =
    open(&OtherKeys { what: "a credential", rule: NameRule::Name, shape: Shape::Table(&CREDENTIAL) });

static CREDENTIAL: Table = closed(&CREDENTIAL_KEYS);

/// The keys of all types; which of them a type has is checked where it is read.
pub(super) const CREDENTIAL_KEYS: [Key; 23] = [
    required("type", Shape::Text(Format::Choice(&KIND_NAMES)), "How requests are signed; see docs/credentials.md."),
    key(
        "origins",
        texts(&Shape::Text(Format::CredentialOrigin)),
        "Where requests are signed: `https://HOST:PORT`; for `docker-registry`, `unix:///SOCKET`. Required, except for \
         `kubeconfig`, whose server must be one of them, and `ssh`.",
    ),
    key(
        "ca",
        Shape::Text(Format::SecretName),
        "Secret with the authorities, as PEM, that the server is checked against.",
    ),
    key("token", Shape::Text(Format::SecretName), "`bearer`: secret with the token."),
    key("username", TEXT, "`basic`, `docker-registry`: the user's name."),
    key("password", Shape::Text(Format::SecretName), "`basic`, `docker-registry`: secret with the password."),
    key("certificate", Shape::Text(Format::SecretName), "`client-certificate`: secret with the certificate, as PEM."),
    key(
        "key",
        Shape::Text(Format::SecretName),
        "`client-certificate`: secret with the private key, as PEM; `google`: secret with the service account's key, as \
         JSON; `ssh`: secret with the private key, without a passphrase.",
    ),
    key("agent", Shape::Boolean, "`ssh`: whether the keys of the user's agent are used, instead of `key`."),
    key("hosts", Shape::Table(&SSH_HOSTS), "`ssh`: the hosts, by the names that stages know them by."),
    key("access-key-id", Shape::Text(Format::SecretName), "`aws-sigv4`: secret with the ID of the access key."),
    key("secret-access-key", Shape::Text(Format::SecretName), "`aws-sigv4`: secret with the access key."),
    key(
        "session-token",
        Shape::Text(Format::SecretName),
        "`aws-sigv4`: secret with the token of temporary credentials.",
    ),
    key("region", TEXT, "`aws-sigv4`: the region, as in `eu-central-1`."),
    key("service", TEXT, "`aws-sigv4`: the service, as in `s3`."),
    key("file", Shape::Text(Format::SecretName), "`kubeconfig`: secret with the text of the file."),
    key("context", TEXT, "`kubeconfig`: the context; by default, the file's current one."),
    key("registry", Shape::Text(Format::Registry), "`docker-registry`: the registry, as in `ghcr.io` or `docker.io`."),
    key("scope", TEXT, "`google`, `azure`: the scope of the tokens; several are separated by spaces."),
    key("tenant", Shape::Text(Format::Tenant), "`azure`: the tenant's ID or domain."),
    key("client-id", TEXT, "`azure`: the application's ID."),
    key("client-secret", Shape::Text(Format::SecretName), "`azure`: secret with the client secret."),
    key(
        "authority",
        Shape::Text(Format::Authority),
        "`google`, `azure`: the origin that issues tokens, if it isn't the usual one.",
    ),
];

static SSH_HOSTS: Table = open(&OtherKeys { what: "a host", rule: NameRule::Name, shape: Shape::Table(&SSH_HOST) });

static SSH_HOST: Table = closed(&[
    required("address", Shape::Text(Format::SshAddress), "`USER@HOST` or `USER@HOST:PORT`."),
    required(
        "host-keys",
        texts(&Shape::Text(Format::SshHostKey)),
        "The public keys that the host may have, as in `ssh-ed25519 AAAA…`. Another one is refused.",
    ),
]);

static DEFAULTS: Table = closed(&[
    key("permissions", Shape::Table(&STAGE_PERMISSIONS), "Permissions of stages without `permissions`."),
    key("timeout", TIMEOUT, "Wall time of one attempt, as in `20m`."),
    key("retry", RETRY_VALUE, "When to retry a failed attempt; a number is short for `max`."),
]);

static PERMISSION_SETS: Table =
    open(&OtherKeys { what: "a permission set", rule: NameRule::Name, shape: Shape::Table(&PERMISSIONS) });

static TEAMS: Table =
    open(&OtherKeys { what: "a team", rule: NameRule::Name, shape: Shape::List(&Shape::Text(Format::Member)) });

static CONCURRENCY: Table = closed(&[
    required("group", Shape::Text(Format::Template), "Runs in the same group don't run at the same time."),
    with_default("cancel-in-progress", "false", Shape::Boolean, "Whether a newer run cancels a running one."),
    with_default(
        "queue",
        "\"single\"",
        Shape::Text(Format::Choice(&["single", "max"])),
        "Which waiting runs are kept: only the newest (`single`), or all of them (`max`).",
    ),
    with_default("hold-at-gates", "false", Shape::Boolean, "Whether a run blocks its group while it waits at a gate."),
]);

static STAGES: Table = open(&OtherKeys { what: "a stage", rule: NameRule::Stage, shape: Shape::Table(&STAGE) });

static FINALLY: Table = open(&OtherKeys { what: "a stage", rule: NameRule::Stage, shape: Shape::Table(&STAGE) });

static STAGE: Table = closed(&[
    required(
        "uses",
        Shape::Text(Format::Plugin),
        "The plugin: the name of a built-in one, `path:PATH`, or `oci:REFERENCE@sha256:DIGEST`.",
    ),
    key("with", Shape::Table(&ANYTHING), "Configuration of the plugin; strings may contain `${{ }}`."),
    key("needs", texts(&Shape::Text(Format::StageName)), "Stages that must end before this one starts."),
    key("compensate", texts(&Shape::Text(Format::StageName)), "Earlier stages to compensate if this one fails."),
    key("if", Shape::Text(Format::Condition), "Condition in CEL; without it, the stage runs if all needs succeeded."),
    key("matrix", Shape::Table(&MATRIX), "Runs the stage once for each combination of values."),
    key("timeout", TIMEOUT, "Wall time of one attempt, as in `20m`."),
    key("retry", RETRY_VALUE, "When to retry a failed attempt; a number is short for `max`."),
    with_default(
        "continue-on-error",
        "false",
        Shape::Boolean,
        "Whether a failure of the stage counts as success for others.",
    ),
    key("env", Shape::Table(&ENV), "Environment variables."),
    key(
        "environment",
        Shape::Either(&[Shape::Text(Format::Name), Shape::Table(&STAGE_ENVIRONMENT)]),
        "The environment that the stage deploys to.",
    ),
    key("permissions", Shape::Table(&STAGE_PERMISSIONS), "Everything that the plugin may access."),
    key(
        "sandbox",
        Shape::Text(Format::Choice(&["off"])),
        "`off`: the programs of the stage run without a sandbox, with all files and the network of the user who runs the \
         pipeline.",
    ),
    key("rehearse", Shape::Table(&REHEARSE), "What a rehearsal of the stage does instead, and may really access."),
    key("inputs", texts(&PATH), "Globs of the files that the result depends on; part of the cache key."),
    key("outputs", texts(&PATH), "Globs of the files that the stage creates; the cache stores them."),
    key(
        "cache",
        Shape::Either(&[Shape::Boolean, Shape::Text(Format::Choice(&["read"]))]),
        "Whether results are restored from the cache and stored there; `\"read\"` only restores them. By default, \
         stages that name their `inputs` are cached, unless they have effects outside of the machine.",
    ),
    with_default(
        "trust",
        "\"component\"",
        Shape::Text(Format::Choice(&["component", "native"])),
        "`native` loads a shared library with all privileges of the engine's process, and requires a `digest`.",
    ),
    key("digest", Shape::Text(Format::Digest), "Digest of a native library, as `sha256:…`."),
    key("memory", SIZE, "Memory of the plugin, as in `256MiB`."),
    key("log-limit", SIZE, "Size of the log, as in `10MiB`; exceeding it ends the stage."),
    key("limits", Shape::Table(&LIMITS), "Limits on the resources that the stage uses."),
]);

static REHEARSE: Table = closed(&[
    key("with", Shape::Table(&ANYTHING), "Configuration of the plugin in a rehearsal, instead of the stage's `with`."),
    key("outputs", Shape::Table(&ANYTHING), "Outputs for later stages in a rehearsal; strings may contain `${{ }}`."),
    key(
        "permissions",
        Shape::Table(&STAGE_PERMISSIONS),
        "The only grants outside of this machine in a rehearsal of the stage; can't include `service`.",
    ),
]);

static ANYTHING: Table = open(&OtherKeys { what: "a key", rule: NameRule::Any, shape: Shape::Anything });

static MATRIX: Table = Table {
    keys: &[
        key("include", Shape::List(&Shape::Table(&CELL)), "Combinations to add, or values to add to matching ones."),
        key("exclude", Shape::List(&Shape::Table(&CELL)), "Combinations to leave out."),
        with_default("fail-fast", "true", Shape::Boolean, "Whether a failure stops the other combinations."),
        key("max-parallel", count(range::CELLS), "How many combinations may run at the same time."),
    ],
    others: Some(&OtherKeys { what: "an axis", rule: NameRule::Name, shape: Shape::List(&Shape::Scalar) }),
};

static CELL: Table = open(&OtherKeys { what: "an axis", rule: NameRule::Name, shape: Shape::Scalar });

const RETRY_VALUE: Shape = Shape::Either(&[count(range::RETRIES), Shape::Table(&RETRY)]);

static RETRY: Table = closed(&[
    required("max", count(range::RETRIES), "Most attempts after the first."),
    with_default(
        "on",
        "[\"failed\", \"errored\", \"timeout\", \"lost\"]",
        texts(&Shape::Text(Format::Choice(&RetryCause::NAMES))),
        "Causes of failure that are retried. If an attempt was interrupted after it may have had an external effect, \
         its plugin, or else a user, must determine its outcome before it is retried.",
    ),
    key(
        "backoff",
        Shape::Either(&[BACKOFF_WAIT, Shape::Table(&BACKOFF)]),
        "How long to wait before a retry; a duration alone is a constant wait.",
    ),
]);

static BACKOFF: Table = closed(&[
    with_default("initial", "\"1s\"", BACKOFF_WAIT, "Wait before the first retry."),
    with_default("factor", "2", count(range::FACTOR), "Factor from each wait to the next."),
    with_default("max", "\"60s\"", BACKOFF_WAIT, "Longest wait."),
]);

static STAGE_ENVIRONMENT: Table = closed(&[
    required("name", Shape::Text(Format::Name), "Name of the environment: a key of `[environments]`."),
    key("url", Shape::Text(Format::Template), "URL of this deploy; by default, that of the environment."),
]);

pub(super) static PERMISSIONS: Table = closed(&PERMISSION_KEYS);

/// The permissions of a stage, which can also come from sets.
static STAGE_PERMISSIONS: Table = closed(&STAGE_PERMISSION_KEYS);

const STAGE_PERMISSION_KEYS: [Key; PERMISSION_KEYS.len() + 1] = {
    let mut keys = [USE; PERMISSION_KEYS.len() + 1];
    let (_, rest) = keys.split_at_mut(1);
    rest.copy_from_slice(&PERMISSION_KEYS);
    keys
};

const USE: Key = key(
    "use",
    texts(&Shape::Text(Format::Name)),
    "Sets of permissions whose entries are granted as well: those in `[permission-sets]`, and the built-in ones `docker`, \
     `go`, `node`, `python` and `rust`.",
);

const PERMISSION_KEYS: [Key; 12] = [
    key(
        "process",
        texts(&Shape::Text(Format::Program)),
        "Programs that may be started: `cargo` with any arguments, `git fetch origin *` with matching ones; `*` for \
         any program.",
    ),
    key("read", texts(&PATH), "Files and folders of the workspace that may be read; globs allowed."),
    key("write", texts(&PATH), "Files and folders of the workspace that may be written and read; globs allowed."),
    key(
        "exec",
        texts(&PATH),
        "Files and folders of the workspace that may be read and that programs may be started from, such as \
         `node_modules`; globs allowed.",
    ),
    key(
        "net",
        texts(&Shape::Text(Format::Origin)),
        "Origins that may be called: `https://HOST:PORT`, `HOST` for https on port 443, `*` for any port; \
         `tcp://HOST:PORT` for programs only; `cargo`, `npm` and `pip` for their configured package hosts.",
    ),
    key(
        "secrets",
        texts(&Shape::Text(Format::SecretGrant)),
        "Secrets that may be attached to requests and passed to processes: `NAME`, `NAME:header` for requests only, \
         `NAME:env` for processes only; `NAME:proxy` for secrets that the proxy adds to downloads of programs.",
    ),
    key(
        "reveal",
        texts(&Shape::Text(Format::SecretName)),
        "Secrets whose plain text may be read; `secrets` must include them too.",
    ),
    key(
        "credentials",
        texts(&Shape::Text(Format::CredentialRule)),
        "Credentials with which the host signs requests of the plugin (`NAME`) or of its programs (`NAME:proxy`); each \
         also grants requests to its origins.",
    ),
    key(
        "registry",
        texts(&Shape::Text(Format::Repository)),
        "Image repositories that may be pushed to and resolved: `local/app`, `ghcr.io/acme/*`.",
    ),
    key(
        "socket",
        texts(&Shape::Text(Format::Socket)),
        "Unix sockets of this machine that programs may connect to: absolute paths, or `docker`, which gives full \
         control of the machine.",
    ),
    key(
        "service",
        texts(&Shape::Text(Format::Service)),
        "Local services that may be started and stopped: `NAME`, or `NAME:PORT` for one behind a proxy.",
    ),
    key("env", texts(&VARIABLE), "Variables of the engine's environment that the stage's processes inherit."),
];

static LIMITS: Table = closed(&[
    key("cpu", TIMEOUT, "CPU time of all programs of an attempt together, as in `10m`."),
    key("process-memory", SIZE, "Address space of each program, as in `4GiB`."),
    key("processes", count(range::PROCESSES), "Number of simultaneous processes."),
    key("log-lines", count(range::LOG_LINES), "Number of lines in the log."),
    key("artifacts", SIZE, "Total size of an attempt's artifacts, as in `1GiB`."),
    key(
        "workspace",
        SIZE,
        "Total size of what the plugin writes to the workspace, and size of each file of a program, as in `1GiB`.",
    ),
    key("requests", count(range::REQUESTS), "Number of simultaneous HTTP requests."),
]);
