//! The operator's policy, key by key.

use super::file::{PERMISSIONS, SIZE, TIMEOUT, closed, count, key, open, required, texts, with_default};
use super::{Format, NameRule, Others, Shape, Table};
use crate::range;

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
        "package-hosts",
        texts(&Shape::Text(Format::Origin)),
        "Origins that `cargo`, `npm` and `pip` may stand for beside their usual ones and those of `net`.",
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
    key("timeout", TIMEOUT, "Wall time of one attempt."),
    key("memory", SIZE, "Memory of the plugin."),
    key("log-limit", SIZE, "Size of the log."),
    key("cpu", TIMEOUT, "CPU time of all programs of an attempt together."),
    key("process-memory", SIZE, "Address space of each program."),
    key("processes", count(range::PROCESSES), "Processes at a time."),
    key("log-lines", count(range::LOG_LINES), "Lines of the log."),
    key("artifacts", SIZE, "All that an attempt saves as artifacts."),
    key("workspace", SIZE, "All that is written to the workspace."),
    key("requests", count(range::REQUESTS), "HTTP requests that are open at a time."),
]);
