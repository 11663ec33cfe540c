//! The stage's `with` table.

use std::collections::BTreeMap;

use serde::Deserialize;
use stagewright_sdk::{JsonSchema, Problem, Requirement, WorkspacePath, schemars};

/// What goes into the image, and where the image goes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "files": ["target/release/app"], "entrypoint": ["/app"], "layout": "target/image" }))]
pub struct Config {
    /// The layers, from the lowest to the topmost.
    #[serde(default)]
    pub(crate) layers: Vec<Layer>,
    /// Files, folders and globs of the workspace: short form for one layer.
    #[serde(default)]
    pub(crate) files: Vec<FileSpec>,
    /// The program and its first arguments.
    #[serde(default)]
    pub(crate) entrypoint: Vec<String>,
    /// Default arguments, which `docker run` can override.
    #[serde(default)]
    pub(crate) cmd: Vec<String>,
    /// Variables of the program's environment.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Labels of the image, in addition to those of a Dockerfile.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// The user that the program runs as. Default: 65532:65532, an unprivileged user.
    pub(crate) user: Option<String>,
    /// The program's working folder in the image, an absolute path.
    pub(crate) workdir: Option<String>,
    /// Ports that the program listens on.
    #[serde(default)]
    pub(crate) expose: Vec<Port>,
    /// The image to build on, or `scratch` for none.
    #[serde(default = "default_base")]
    pub(crate) base: String,
    /// Names of the image in the layout, as the annotation `org.opencontainers.image.ref.name`.
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    /// The repository that `docker load` gives the image when it loads `archive`.
    pub(crate) name: Option<String>,
    /// The image's creation time: `epoch`, or as in `2026-01-31T12:00:00Z`.
    #[serde(default)]
    pub(crate) created: Created,
    /// The folder of the OCI image layout. An existing layout is replaced.
    #[serde(default = "default_layout")]
    pub(crate) layout: WorkspacePath,
    /// Also write a tar for `docker load` to this path.
    pub(crate) archive: Option<WorkspacePath>,
    /// The compression of the layers.
    #[serde(default)]
    pub(crate) compression: Compression,
    /// As in `linux/arm64`. Default: the base's platform, or `linux/amd64`.
    pub(crate) platform: Option<Platform>,
    /// Fail the stage on warnings.
    #[serde(default)]
    pub(crate) strict: bool,
    /// A Dockerfile to build, instead of `files` and `layers`.
    pub(crate) dockerfile: Option<WorkspacePath>,
    /// The program that builds the Dockerfile.
    pub(crate) builder: Option<Builder>,
    /// The build context of the Dockerfile.
    #[serde(default = "default_context")]
    pub(crate) context: WorkspacePath,
    /// Build arguments of the Dockerfile.
    #[serde(default)]
    pub(crate) build_args: BTreeMap<String, String>,
}

impl Config {
    /// The layers of both forms: `layers`, then `files`.
    pub(crate) fn all_layers(&self) -> Vec<Layer> {
        let short = Layer { files: self.files.clone(), dest: default_dest() };
        let short = (!self.files.is_empty()).then_some(short);
        self.layers.iter().cloned().chain(short).collect()
    }

    /// The user of the image's program, with the default applied.
    pub(crate) fn user(&self) -> &str {
        self.user.as_deref().unwrap_or(UNPRIVILEGED_USER)
    }

    /// None for `scratch`.
    pub(crate) fn base_reference(&self) -> Option<&str> {
        (self.base != SCRATCH).then_some(self.base.as_str())
    }
}

const SCRATCH: &str = "scratch";

/// `nonroot` of the distroless images: an id that no distribution assigns to a user.
const UNPRIVILEGED_USER: &str = "65532:65532";

/// The files of one layer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Layer {
    /// Its files, folders and globs of the workspace.
    pub(crate) files: Vec<FileSpec>,
    /// The folder in the image that relative targets are joined to.
    #[serde(default = "default_dest")]
    pub(crate) dest: String,
}

/// A file, a folder or a glob of the workspace, with its target in the image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "FileForm")]
pub(crate) struct FileSpec {
    /// The path without a leading `./` and a trailing `/`; empty for the whole workspace.
    pub(crate) from: String,
    /// The path in the image, relative to `dest`. With a trailing `/`, the folder to put it into.
    pub(crate) to: Option<String>,
    pub(crate) mode: Option<Mode>,
    pub(crate) executable: Option<bool>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a path, or a table { from, to, mode, executable }")]
enum FileForm {
    Path(String),
    Table(FileTable),
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct FileTable {
    /// A file, a folder or a glob of the workspace.
    from: String,
    /// The path in the image, relative to `dest`. With a trailing `/`, the folder to put it into.
    to: Option<String>,
    /// Permission bits in octal, as in `"0640"`.
    mode: Option<Mode>,
    /// Whether its mode is 0755 or 0644, regardless of the mode in the workspace.
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

/// Permission bits, in octal as in `"0640"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub(crate) struct Mode(pub(crate) u32);

impl TryFrom<String> for Mode {
    type Error = String;

    fn try_from(text: String) -> Result<Mode, String> {
        let digits = text.strip_prefix("0o").unwrap_or(&text);
        match u32::from_str_radix(digits, 8) {
            Ok(bits) if bits <= 0o7777 => Ok(Mode(bits)),
            _ => Err(format!("invalid file mode `{text}`; write it in octal, as in \"0640\"")),
        }
    }
}

/// A port that the image listens on, as in `8080` or `"53/udp"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(try_from = "PortForm")]
pub(crate) struct Port(pub(crate) String);

#[derive(Deserialize, JsonSchema)]
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
            _ => Err(format!("invalid port `{text}`; write 8080 or \"53/udp\"")),
        }
    }
}

/// The key `created`: a fixed time, so that the same files give the same image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
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
        let help = "write \"epoch\" or a time as in \"2026-01-31T12:00:00Z\"";
        text.parse().map(Created).map_err(|error| format!("invalid time `{text}` ({error}); {help}"))
    }
}

/// The key `compression`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Compression {
    #[default]
    Gzip,
    None,
}

/// The key `platform`, as in `linux/arm64/v8`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
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
            return Err(format!("invalid platform `{text}`; write \"linux/amd64\" or \"linux/arm64/v8\""));
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

/// The key `builder`: the program that builds `dockerfile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
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

/// Whether a user, as in `0:0` or `root`, is root.
pub(crate) fn is_root(user: &str) -> bool {
    matches!(user.split(':').next(), Some("" | "0" | "root"))
}

impl Builder {
    /// Docker's program only passes the build on to its daemon, which usually listens on a socket of this machine.
    pub(crate) fn requirements(self) -> Vec<Requirement> {
        match self {
            Builder::Docker => vec![
                Requirement::process("docker").because("builds the Dockerfile"),
                Requirement::socket("docker").because("connects to the daemon").optional(),
            ],
            Builder::Buildah => vec![Requirement::process("buildah").because("builds the Dockerfile")],
        }
    }
}

/// Mistakes that parsing doesn't catch.
pub(crate) fn problems(config: &Config) -> Vec<Problem> {
    let mut found = Vec::new();
    let layers = config.all_layers();
    let shape = match (&config.dockerfile, config.builder) {
        (None, Some(_)) => Some(("builder", "requires `dockerfile`, the file to build")),
        (Some(_), None) => Some(("dockerfile", "requires `builder`, \"docker\" or \"buildah\"")),
        (Some(_), Some(_)) if !layers.is_empty() => {
            Some(("dockerfile", "can't be combined with `files` and `layers`: copy the files in the Dockerfile"))
        }
        (None, None) if layers.is_empty() && config.base_reference().is_none() => {
            Some(("files", "is empty: add at least one file, as in files = [\"target/release/app\"]"))
        }
        _ => None,
    };
    found.extend(shape.map(|(key, message)| Problem::at(key, message)));
    if config.dockerfile.is_some() {
        let keys_of_files = [
            ("entrypoint", !config.entrypoint.is_empty()),
            ("cmd", !config.cmd.is_empty()),
            ("env", !config.env.is_empty()),
            ("user", config.user.is_some()),
            ("workdir", config.workdir.is_some()),
            ("expose", !config.expose.is_empty()),
            ("base", config.base_reference().is_some()),
        ];
        let set = keys_of_files.into_iter().filter(|(_, set)| *set);
        found.extend(
            set.map(|(key, _)| Problem::at(key, "can't be combined with `dockerfile`: set it in the Dockerfile")),
        );
    }
    for (key, path) in [("layout", Some(&config.layout)), ("archive", config.archive.as_ref())] {
        let Some(path) = path.filter(|path| path.is_root()) else { continue };
        let message = format!("`{path}` is the workspace itself; use a path below it, as in \"target/image\"");
        found.push(Problem::at(key, message));
    }
    if let Some(workdir) = config.workdir.as_ref().filter(|workdir| !workdir.starts_with('/')) {
        found.push(Problem::at("workdir", format!("`{workdir}` isn't an absolute path; write `/{workdir}`")));
    }
    for tag in config.tags.iter().filter(|tag| tag.trim().is_empty() || tag.contains(char::is_whitespace)) {
        found.push(Problem::at("tags", format!("invalid tag `{tag}`: it is empty or has white space")));
    }
    found
}
