//! `stagewright.lock`, key by key.

use super::file::{PERMISSIONS, TEXT, closed, key, open, required, texts};
use super::policy::BOUNDS;
use super::{Format, NameRule, Others, Shape, Table};

/// The whole lock.
pub(crate) static LOCK: Table = closed(&[
    required("schema", Shape::Integer(1, 1), "Version of this format: 1."),
    key("pipelines", Shape::Table(&PIPELINES), "What each pipeline may do."),
]);

static PIPELINES: Table = open(&Others { what: "a pipeline", rule: NameRule::Any, shape: Shape::Table(&PIPELINE) });

static PIPELINE: Table = closed(&[
    required("checksum", Shape::Text(Format::Digest), "Of all that follows about the pipeline."),
    required("sandbox", Shape::Text(Format::Choice(&["required", "preferred"])), "The pipeline's `sandbox`."),
    key("secrets", Shape::Table(&SECRETS), "Where secrets come from and where they may go."),
    key("package-hosts", Shape::Table(&PACKAGE_HOSTS), "Origins that files of the repository add to words of `net`."),
    key("plugins", Shape::Table(&PLUGINS), "The plugins that stages use."),
    key("stages", Shape::Table(&STAGES), "What each stage may do."),
]);

static SECRETS: Table = open(&Others { what: "a secret", rule: NameRule::Any, shape: Shape::Table(&SECRET) });

static SECRET: Table = closed(&[
    required("from", Shape::Text(Format::SecretSource), "Where it is kept."),
    key("hosts", texts(&Shape::Text(Format::Host)), "Hosts that it may be sent to."),
    key("programs", texts(&TEXT), "Programs that it may be handed to."),
]);

static PACKAGE_HOSTS: Table = closed(&[
    key("cargo", texts(&Shape::Text(Format::Origin)), "Of cargo's configuration."),
    key("npm", texts(&Shape::Text(Format::Origin)), "Of npm's configuration."),
    key("pip", texts(&Shape::Text(Format::Origin)), "Of pip's configuration."),
]);

static PLUGINS: Table = open(&Others { what: "a plugin", rule: NameRule::Any, shape: Shape::Table(&PLUGIN) });

static PLUGIN: Table = closed(&[
    required("digest", Shape::Text(Format::Digest), "Of its file."),
    key("wit", TEXT, "The version of the contract that it was built for."),
    key("imports", texts(&TEXT), "The host's interfaces that it can call."),
]);

static STAGES: Table = open(&Others { what: "a stage", rule: NameRule::Any, shape: Shape::Table(&STAGE) });

static STAGE: Table = closed(&[
    required("uses", TEXT, "Its plugin."),
    required("trust", Shape::Text(Format::Choice(&["component", "native"])), "What kind of code the plugin is."),
    key("environment", TEXT, "The environment that it acts on."),
    key("permissions", Shape::Table(&PERMISSIONS), "All that the plugin may touch."),
    key("rehearse", Shape::Table(&PERMISSIONS), "What a rehearsal of it may reach for real."),
    key("limits", Shape::Table(&BOUNDS), "How much it may use up."),
]);
