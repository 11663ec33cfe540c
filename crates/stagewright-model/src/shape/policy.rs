//! The description of the operator's policy.

use super::file::{PERMISSIONS, SIZE, TIMEOUT, closed, count, key, open, required, texts, with_default};
use super::{Format, NameRule, OtherKeys, Shape, Table};
use crate::range;

/// The whole policy.
pub(crate) static POLICY: Table = closed(&[
    required("schema", Shape::Integer(1, 1), "Version of this format: 1."),
    key(
        "sandbox",
        Shape::Text(Format::Choice(&["required", "preferred"])),
        "`required`: programs must be sandboxed, even if a pipeline sets `preferred`.",
    ),
    with_default("native", "true", Shape::Boolean, "Whether plugins may be native libraries."),
    with_default("locked", "false", Shape::Boolean, "Whether runs require an up-to-date lock file."),
    key(
        "secret-sources",
        texts(&Shape::Text(Format::Name)),
        "Kinds of sources that secrets may come from, such as `env`, `file`, `vault`; without it, all of them.",
    ),
    key(
        "package-hosts",
        texts(&Shape::Text(Format::Origin)),
        "Origins that `cargo`, `npm` and `pip` may include in addition to their default ones and those in `net`.",
    ),
    key(
        "permissions",
        Shape::Table(&PERMISSIONS),
        "The most that a stage may be granted; permissions without a key aren't limited.",
    ),
    key("limits", Shape::Table(&BOUNDS), "The highest limits that a stage may have."),
    key("cache", Shape::Table(&CACHE), "The shared cache; overrides the command line."),
    key(
        "plugins",
        Shape::Table(&PLUGINS),
        "Permissions for one plugin, by name or digest, instead of the general ones.",
    ),
]);

static CACHE: Table = closed(&[
    key("shared", Shape::Text(Format::Plain), "A folder, `s3://BUCKET/PREFIX`, or an http or https URL."),
    key(
        "tier",
        Shape::Text(Format::Plain),
        "The tier of runs on this machine: `trusted`, whose results all runs use, or another name.",
    ),
]);

static PLUGINS: Table = open(&OtherKeys { what: "a plugin", rule: NameRule::Any, shape: Shape::Table(&PERMISSIONS) });

pub(super) static BOUNDS: Table = closed(&[
    key("timeout", TIMEOUT, "Wall time of one attempt."),
    key("memory", SIZE, "Memory of the plugin."),
    key("log-limit", SIZE, "Size of the log."),
    key("cpu", TIMEOUT, "CPU time of all programs of an attempt together."),
    key("process-memory", SIZE, "Address space of each program."),
    key("processes", count(range::PROCESSES), "Number of simultaneous processes."),
    key("log-lines", count(range::LOG_LINES), "Number of lines in the log."),
    key("artifacts", SIZE, "Total size of an attempt's artifacts."),
    key(
        "workspace",
        SIZE,
        "Total size of what the plugin writes to the workspace, and size of each file of a program.",
    ),
    key("requests", count(range::REQUESTS), "Number of simultaneous HTTP requests."),
]);
