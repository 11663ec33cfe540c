//! The operator's policy, key by key.

use super::file::{COUNT, PERMISSIONS, closed, key, open, required, texts, with_default};
use super::{Format, NameRule, Others, Shape, Table};

/// The whole policy.
pub(crate) static POLICY: Table = closed(&[
    required("schema", Shape::Integer(1, 1), "Version of this format: 1."),
    key(
        "sandbox",
        Shape::Text(Format::Choice(&["required", "preferred"])),
        "`required`: programs are confined or not started, whatever a pipeline says.",
    ),
    with_default("native", "true", Shape::Boolean, "Whether plugins may be native libraries."),
    with_default("locked", "false", Shape::Boolean, "Whether runs need an up-to-date lock."),
    key(
        "secret-sources",
        texts(&Shape::Text(Format::Name)),
        "Where secrets may come from, as in `env`, `file`, `vault`; not given: anywhere.",
    ),
    key(
        "permissions",
        Shape::Table(&PERMISSIONS),
        "The most that a stage may be granted; a missing key bounds nothing.",
    ),
    key("limits", Shape::Table(&BOUNDS), "The most that a stage may use up."),
    key("cache", Shape::Table(&CACHE), "Results that machines share, whatever the command line says."),
    key("plugins", Shape::Table(&PLUGINS), "What holds for one plugin, by name or digest, instead of the general."),
]);

static CACHE: Table = closed(&[
    key("shared", Shape::Text(Format::Plain), "A folder, `s3://BUCKET/PREFIX`, or an http or https URL."),
    key("tier", Shape::Text(Format::Plain), "Who takes the results of runs here: `trusted` for everybody, or a name."),
]);

static PLUGINS: Table = open(&Others { what: "a plugin", rule: NameRule::Any, shape: Shape::Table(&PERMISSIONS) });

pub(super) static BOUNDS: Table = closed(&[
    key("timeout", Shape::Text(Format::Duration), "Wall time of one attempt."),
    key("memory", Shape::Text(Format::Size), "Memory of the plugin."),
    key("log-limit", Shape::Text(Format::Size), "Size of the log."),
    key("cpu", Shape::Text(Format::Duration), "CPU time of each program."),
    key("process-memory", Shape::Text(Format::Size), "Address space of each program."),
    key("processes", COUNT, "Processes at a time."),
    key("log-lines", COUNT, "Lines of the log."),
    key("artifacts", Shape::Text(Format::Size), "All that an attempt saves as artifacts."),
    key("workspace", Shape::Text(Format::Size), "All that is written to the workspace."),
    key("requests", COUNT, "HTTP requests that are open at a time."),
]);
