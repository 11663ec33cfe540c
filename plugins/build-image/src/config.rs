//! The stage's `with` table.

use std::collections::BTreeMap;

use serde::Deserialize;
use stagewright_sdk::{JsonSchema, WorkspacePath};

/// What goes into the image, and where the image goes.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Layers, the lowest first.
    #[serde(default)]
    pub(crate) layers: Vec<Layer>,
    /// Files, folders and globs of the workspace: the short form of one layer.
    #[serde(default)]
    pub(crate) files: Vec<FileSpec>,
    /// The program and its first arguments.
    #[serde(default)]
    pub(crate) entrypoint: Vec<String>,
    /// Arguments that whoever runs the image may replace.
    #[serde(default)]
    pub(crate) cmd: Vec<String>,
    /// Variables of the program's environment.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Labels of the image.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// As whom the program runs; 65532:65532, an unprivileged user, unless given.
    pub(crate) user: Option<String>,
    /// Where the program runs.
    pub(crate) workdir: Option<String>,
    /// Ports that it listens on.
    #[serde(default)]
    pub(crate) expose: Vec<Port>,
    /// `scratch`, or an image whose layers come first.
    #[serde(default = "default_base")]
    pub(crate) base: String,
    /// Names of the image in the layout, as `org.opencontainers.image.ref.name`.
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    /// The repository under which `archive` is loaded.
    pub(crate) name: Option<String>,
    /// `epoch`, or a moment as in `2026-01-31T12:00:00Z`.
    #[serde(default)]
    pub(crate) created: Created,
    /// The folder of the OCI image layout, which is replaced.
    #[serde(default = "default_layout")]
    pub(crate) layout: WorkspacePath,
    /// A tar for `docker load`, beside the layout.
    pub(crate) archive: Option<WorkspacePath>,
    /// Of the layers.
    #[serde(default)]
    pub(crate) compression: Compression,
    /// As in `linux/arm64`; the base's, or `linux/amd64`, unless given.
    pub(crate) platform: Option<Platform>,
    /// Warnings fail the stage.
    #[serde(default)]
    pub(crate) strict: bool,
    /// A Dockerfile to build in place of `files` and `layers`.
    pub(crate) dockerfile: Option<WorkspacePath>,
    /// What builds it.
    pub(crate) builder: Option<Builder>,
    /// The folder that the Dockerfile sees.
    #[serde(default = "default_context")]
    pub(crate) context: WorkspacePath,
    /// The Dockerfile's arguments.
    #[serde(default)]
    pub(crate) build_args: BTreeMap<String, String>,
}

impl Config {
    /// The layers in either form.
    pub(crate) fn all_layers(&self) -> Vec<Layer> {
        let short = Layer { files: self.files.clone(), dest: default_dest() };
        let short = (!self.files.is_empty()).then_some(short);
        self.layers.iter().cloned().chain(short).collect()
    }

    /// As whom the image's program runs.
    pub(crate) fn user(&self) -> &str {
        self.user.as_deref().unwrap_or(NOBODY)
    }

    /// None for an image from nothing.
    pub(crate) fn base_reference(&self) -> Option<&str> {
        (self.base != SCRATCH).then_some(self.base.as_str())
    }
}

const SCRATCH: &str = "scratch";

/// `nonroot` of the distroless images: an id that no distribution gives to anybody.
const NOBODY: &str = "65532:65532";

/// Files that make up one layer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Layer {
    /// What is in it.
    pub(crate) files: Vec<FileSpec>,
    /// The folder of the image to which relative targets belong.
    #[serde(default = "default_dest")]
    pub(crate) dest: String,
}

/// A file, a folder or a glob of the workspace, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(try_from = "FileForm")]
pub(crate) struct FileSpec {
    /// Without `./` before it or `/` behind it; empty for the whole workspace.
    pub(crate) from: String,
    /// The target's path; with `/` at the end, the folder it goes into.
    pub(crate) to: Option<String>,
    pub(crate) mode: Option<Mode>,
    pub(crate) executable: Option<bool>,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(untagged, expecting = "a path, or a table { from, to, mode, executable }")]
enum FileForm {
    Path(String),
    Table(FileTable),
}

#[derive(Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct FileTable {
    /// A file, a folder or a glob of the workspace.
    from: String,
    /// The target's path; with `/` at the end, the folder it goes into.
    to: Option<String>,
    /// Permission bits in octal, as in `"0640"`.
    mode: Option<Mode>,
    /// Whether it gets 0755 and not 0644, whatever it is in the workspace.
    executable: Option<bool>,
}

impl TryFrom<FileForm> for FileSpec {
    type Error = String;

    fn try_from(form: FileForm) -> Result<FileSpec, String> {
        let FileTable { from, to, mode, executable } = match form {
            FileForm::Path(from) => FileTable { from, to: None, mode: None, executable: None },
            FileForm::Table(table) => table,
        };
        let from = WorkspacePath::parse(from)?;
        let from = from.trim_start_matches("./").trim_end_matches('/').to_owned();
        Ok(FileSpec { from, to, mode, executable })
    }
}

/// Permission bits, written in octal as `"0640"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(try_from = "String")]
pub(crate) struct Mode(pub(crate) u32);

impl TryFrom<String> for Mode {
    type Error = String;

    fn try_from(text: String) -> Result<Mode, String> {
        let digits = text.strip_prefix("0o").unwrap_or(&text);
        match u32::from_str_radix(digits, 8) {
            Ok(bits) if bits <= 0o7777 => Ok(Mode(bits)),
            _ => Err(format!("`{text}` is no file mode; write it in octal, as in \"0640\"")),
        }
    }
}

/// A port that the image listens on, as in `8080` or `"53/udp"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(try_from = "PortForm")]
pub(crate) struct Port(pub(crate) String);

#[derive(Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(untagged, expecting = "a port, as in 8080 or \"53/udp\"")]
enum PortForm {
    Number(u16),
    Text(String),
}

impl TryFrom<PortForm> for Port {
    type Error = String;

    fn try_from(form: PortForm) -> Result<Port, String> {
        let text = match form {
            PortForm::Number(number) => return Ok(Port(format!("{number}/tcp"))),
            PortForm::Text(text) => text,
        };
        let (number, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
        match (number.parse::<u16>(), protocol) {
            (Ok(number), "tcp" | "udp" | "sctp") => Ok(Port(format!("{number}/{protocol}"))),
            _ => Err(format!("`{text}` is no port; write 8080 or \"53/udp\"")),
        }
    }
}

/// `created`: a fixed moment, so that the same files give the same image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[schemars(with = "String")]
#[serde(try_from = "String")]
pub(crate) struct Created(pub(crate) jiff::Timestamp);

impl Default for Created {
    fn default() -> Created {
        Created(jiff::Timestamp::UNIX_EPOCH)
    }
}

impl TryFrom<String> for Created {
    type Error = String;

    fn try_from(text: String) -> Result<Created, String> {
        if text == "epoch" {
            return Ok(Created::default());
        }
        let help = "write \"epoch\" or a moment as in \"2026-01-31T12:00:00Z\"";
        text.parse().map(Created).map_err(|error| format!("`{text}` is no moment ({error}); {help}"))
    }
}

/// `compression` of the layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Compression {
    #[default]
    Gzip,
    None,
}

/// `platform`, as in `linux/arm64/v8`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(try_from = "String")]
pub(crate) struct Platform {
    pub(crate) os: String,
    pub(crate) architecture: String,
    pub(crate) variant: Option<String>,
}

impl Default for Platform {
    fn default() -> Platform {
        Platform { os: "linux".to_owned(), architecture: "amd64".to_owned(), variant: None }
    }
}

impl TryFrom<String> for Platform {
    type Error = String;

    fn try_from(text: String) -> Result<Platform, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => ("", "", None),
        };
        if os.is_empty() || architecture.is_empty() || variant.is_some_and(str::is_empty) {
            return Err(format!("`{text}` is no platform; write \"linux/amd64\" or \"linux/arm64/v8\""));
        }
        Ok(Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant: variant.map(str::to_owned) })
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

/// What builds a `dockerfile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Builder {
    Docker,
    Buildah,
}

fn default_base() -> String {
    SCRATCH.to_owned()
}

fn default_layout() -> WorkspacePath {
    WorkspacePath::fixed("target/image")
}

fn default_dest() -> String {
    "/".to_owned()
}

fn default_context() -> WorkspacePath {
    WorkspacePath::fixed(".")
}

/// Whether a user, as in `0:0` or `root`, has every right in the container.
pub(crate) fn is_root(user: &str) -> bool {
    matches!(user.split(':').next(), Some("" | "0" | "root"))
}

/// What parsing alone doesn't find: each mistake's key, and what is wrong with it.
pub(crate) fn mistakes(config: &Config) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let layers = config.all_layers();
    match (&config.dockerfile, config.builder) {
        (None, Some(_)) => found.push(("builder", "needs `dockerfile`, the file to build".to_owned())),
        (Some(_), None) => {
            found.push(("dockerfile", "needs `builder`, which is \"docker\" or \"buildah\"".to_owned()));
        }
        (Some(_), Some(_)) if !layers.is_empty() => {
            found.push(("dockerfile", "excludes `files` and `layers`: the Dockerfile copies them itself".to_owned()));
        }
        (None, None) if layers.is_empty() && config.base_reference().is_none() => {
            found
                .push(("files", "is empty: name at least one file, as in files = [\"target/release/app\"]".to_owned()));
        }
        _ => {}
    }
    if config.dockerfile.is_some() {
        let of_files = [
            ("entrypoint", !config.entrypoint.is_empty()),
            ("cmd", !config.cmd.is_empty()),
            ("env", !config.env.is_empty()),
            ("labels", !config.labels.is_empty()),
            ("user", config.user.is_some()),
            ("workdir", config.workdir.is_some()),
            ("expose", !config.expose.is_empty()),
            ("base", config.base_reference().is_some()),
        ];
        let set = of_files.into_iter().filter(|(_, set)| *set);
        found.extend(set.map(|(key, _)| (key, "belongs in the Dockerfile, when there is one".to_owned())));
    }
    for (key, path) in [("layout", Some(&config.layout)), ("archive", config.archive.as_ref())] {
        let Some(path) = path else { continue };
        if path.is_root() {
            found
                .push((key, format!("`{path}` is the workspace itself; name a path below it, as in \"target/image\"")));
        }
    }
    if let Some(workdir) = config.workdir.as_ref().filter(|workdir| !workdir.starts_with('/')) {
        found.push(("workdir", format!("`{workdir}` isn't absolute; write `/{workdir}`")));
    }
    for tag in config.tags.iter().filter(|tag| tag.trim().is_empty() || tag.contains(char::is_whitespace)) {
        found.push(("tags", format!("`{tag}` is no tag")));
    }
    found
}
