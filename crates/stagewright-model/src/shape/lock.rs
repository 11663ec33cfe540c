//! The description of `stagewright.lock`.

use super::file::{CREDENTIAL_KEYS, PERMISSIONS, TEXT, closed, key, open, required, texts};
use super::policy::BOUNDS;
use super::{Format, NameRule, OtherKeys, Shape, Table};

/// The whole lock.
pub(crate) static LOCK: Table = closed(&[
    required("schema", Shape::Integer(1, 1), "Version of this format: 1."),
    key("pipelines", Shape::Table(&PIPELINES), "What each pipeline may do."),
]);

static PIPELINES: Table = open(&OtherKeys { what: "a pipeline", rule: NameRule::Any, shape: Shape::Table(&PIPELINE) });

static PIPELINE: Table = closed(&[
    required("checksum", Shape::Text(Format::Digest), "Digest of the rest of the pipeline's section."),
    required("sandbox", Shape::Text(Format::Choice(&["required", "preferred"])), "The pipeline's `sandbox`."),
    key("secrets", Shape::Table(&SECRETS), "Where secrets come from and where they may be sent."),
    key("credentials", Shape::Table(&CREDENTIALS), "How requests are signed, and to which origins."),
    key("package-hosts", Shape::Table(&PACKAGE_HOSTS), "Package hosts that are configured in files of the repository."),
    key("plugins", Shape::Table(&PLUGINS), "The plugins that stages use."),
    key("stages", Shape::Table(&STAGES), "What each stage may do."),
]);

static SECRETS: Table = open(&OtherKeys { what: "a secret", rule: NameRule::Any, shape: Shape::Table(&SECRET) });

static SECRET: Table = closed(&[
    required("from", Shape::Text(Format::SecretSource), "Where the value is stored."),
    key("hosts", texts(&Shape::Text(Format::Host)), "Hosts that it may be sent to."),
    key("programs", texts(&TEXT), "Programs that may get the secret in their environment."),
]);

static CREDENTIALS: Table =
    open(&OtherKeys { what: "a credential", rule: NameRule::Any, shape: Shape::Table(&CREDENTIAL) });

static CREDENTIAL: Table = closed(&CREDENTIAL_KEYS);

static PACKAGE_HOSTS: Table = closed(&[
    key("cargo", texts(&Shape::Text(Format::Origin)), "Origins in cargo's configuration."),
    key("npm", texts(&Shape::Text(Format::Origin)), "Origins in npm's configuration."),
    key("pip", texts(&Shape::Text(Format::Origin)), "Origins in pip's configuration."),
]);

static PLUGINS: Table = open(&OtherKeys { what: "a plugin", rule: NameRule::Any, shape: Shape::Table(&PLUGIN) });

static PLUGIN: Table = closed(&[
    required("digest", Shape::Text(Format::Digest), "Digest of the plugin's file."),
    key("wit", TEXT, "The version of the contract that it was built for."),
    key("imports", texts(&TEXT), "The host's interfaces that it imports."),
]);

static STAGES: Table = open(&OtherKeys { what: "a stage", rule: NameRule::Any, shape: Shape::Table(&STAGE) });

static STAGE: Table = closed(&[
    required("uses", TEXT, "Its plugin."),
    required("trust", Shape::Text(Format::Choice(&["component", "native"])), "What kind of code the plugin is."),
    key("environment", TEXT, "The environment that it acts on."),
    key("sandbox", Shape::Text(Format::Choice(&["off"])), "`off` if its programs run without a sandbox."),
    key("permissions", Shape::Table(&PERMISSIONS), "Everything that the plugin may access."),
    key("rehearse", Shape::Table(&PERMISSIONS), "What a rehearsal of it may really access."),
    key("limits", Shape::Table(&BOUNDS), "Limits on the resources that it uses."),
]);
