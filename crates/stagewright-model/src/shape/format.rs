//! The form of single strings in a file.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::cron::check_cron;
use super::name::{check_name, check_variable};
use crate::credential::{CredentialOrigin, OriginTarget, SshAddress, SshHostKey};
use crate::expression::MARKER;
use crate::format_error::{FormatError, refuse};
use crate::freeze::{WeeklyWindow, nearest_zone, zone};
use crate::grants::{
    CredentialRule, HostPattern, NetRule, Origin, PathRule, ProcessRule, RepositoryRule, SecretName, SecretRule,
    ServiceRule, SocketRule,
};
use crate::pattern::bad_pattern;
use crate::range::{Range, SizeRange};
use crate::secret::{SOURCES, SecretFrom};

/// The form of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Any text.
    Plain,
    /// Text with `${{ }}`; its expressions are checked where it is read.
    Template,
    /// A CEL expression; checked where it is read.
    Condition,
    /// Letters, digits, `_` and `-`.
    Name,
    /// A stage's name; whether the stage exists is checked where it is read.
    StageName,
    /// An environment variable's name.
    Variable,
    Duration(Range<std::time::Duration>),
    Size(SizeRange),
    Cron,
    Digest,
    /// `uses`.
    Plugin,
    /// `environments.NAME.target`: a plugin, or the end of a name.
    Target,
    Glob,
    /// A glob below the workspace's root.
    WorkspacePath,
    Program,
    /// `permissions.net`.
    Origin,
    Host,
    /// `permissions.socket`.
    Socket,
    /// `permissions.registry`.
    Repository,
    /// `permissions.secrets`.
    SecretGrant,
    /// `permissions.reveal`.
    SecretName,
    /// `permissions.credentials`.
    CredentialRule,
    /// `credentials.NAME.origins`.
    CredentialOrigin,
    /// `credentials.NAME.authority`: the same, but a host.
    Authority,
    /// `credentials.NAME.registry`: the host of a registry, as image names have it.
    Registry,
    /// `credentials.NAME.tenant`: a name of a URL's path.
    Tenant,
    /// `credentials.NAME.hosts.HOST.address`.
    SshAddress,
    /// `credentials.NAME.hosts.HOST.host-keys`.
    SshHostKey,
    /// `permissions.service`.
    Service,
    /// `secrets.NAME.from`.
    SecretSource,
    /// A user, or `team:NAME`.
    Approver,
    /// A user in `[teams]`.
    Member,
    /// A period of the week, as in `Fri 16:00 - Mon 08:00`.
    Weekly,
    /// A share of something, `1%` to `100%`.
    Percentage,
    TimeZone,
    Choice(&'static [&'static str]),
}

impl Format {
    /// Whether `text` has the form.
    pub(crate) fn check(self, text: &str) -> Result<(), FormatError> {
        if !matches!(self, Format::Plain | Format::Template | Format::Condition) && text.contains(MARKER) {
            let message = "can't contain an expression: this value is reviewed and locked before a run starts";
            return refuse("stagewright::no-expression-here", message, "write the value itself");
        }
        match self {
            Format::Plain | Format::Template | Format::Condition | Format::StageName => Ok(()),
            Format::Name => check_name(text),
            Format::Variable => check_variable(text),
            Format::Duration(range) => check_duration(text, range),
            Format::Size(range) => check_size(text, range),
            Format::Cron => check_cron(text),
            Format::Digest => check_digest(text),
            Format::Plugin => check_plugin(text),
            Format::Target => check_target(text),
            Format::Glob => globset::Glob::new(text).map(drop).map_err(|error| bad_pattern(error.kind())),
            Format::WorkspacePath => PathRule::parse(text).map(drop),
            Format::Program => ProcessRule::parse(text).map(drop),
            Format::Origin => NetRule::parse(text).map(drop),
            Format::Host => HostPattern::parse(text).map(drop),
            Format::Socket => SocketRule::parse(text).map(drop),
            Format::Repository => RepositoryRule::parse(text).map(drop),
            Format::SecretGrant => SecretRule::parse(text).map(drop),
            Format::SecretName => SecretName::parse(text).map(drop),
            Format::CredentialRule => CredentialRule::parse(text).map(drop),
            Format::CredentialOrigin => CredentialOrigin::parse(text).map(drop),
            Format::Authority => check_authority(text),
            Format::Registry => check_registry(text),
            Format::Tenant => check_tenant(text),
            Format::Service => ServiceRule::parse(text).map(drop),
            Format::SshAddress => SshAddress::parse(text).map(drop),
            Format::SshHostKey => SshHostKey::parse(text).map(drop),
            Format::SecretSource => SecretFrom::parse(text).map(drop),
            Format::Approver => check_user(text.strip_prefix("team:").unwrap_or(text)),
            Format::Member => check_member(text),
            Format::Weekly => WeeklyWindow::parse(text, jiff::tz::TimeZone::UTC).map(drop),
            Format::TimeZone => check_zone(text),
            Format::Percentage => check_percentage(text),
            Format::Choice(options) => check_choice(text, options),
        }
    }

    /// The keywords of the JSON Schema in addition to `type`.
    pub(crate) fn schema(self) -> Json {
        match self {
            Format::Plain | Format::Template | Format::Condition | Format::Glob | Format::WorkspacePath => json!({}),
            Format::Program
            | Format::Origin
            | Format::Host
            | Format::Repository
            | Format::SecretName
            | Format::CredentialRule
            | Format::Service => json!({ "minLength": 1 }),
            Format::CredentialOrigin | Format::Authority => {
                json!({ "minLength": 1, "examples": ["https://api.example.org"] })
            }
            Format::SecretGrant => json!({ "pattern": "^[^:]+(:(header|env|proxy))?$" }),
            Format::Socket => json!({ "pattern": "^(docker|/.+)$", "examples": ["/run/postgresql/.s.PGSQL.5432"] }),
            Format::Name => json!({ "pattern": "^[A-Za-z_][A-Za-z0-9_-]*$" }),
            Format::StageName => json!({ "pattern": "^[a-z0-9][a-z0-9_-]*$" }),
            Format::Variable => json!({ "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" }),
            Format::Duration(_) => json!({ "pattern": "^([0-9]+(ms|s|m|h|d))+$", "examples": ["20m", "1h30m"] }),
            Format::Size(_) => json!({ "pattern": "^[0-9]+(B|kB|KB|MB|GB|KiB|MiB|GiB)$", "examples": ["256MiB"] }),
            Format::Cron => json!({ "pattern": "^\\S+( +\\S+){4}$", "examples": ["0 2 * * *"] }),
            Format::Digest => json!({ "pattern": "^sha256:[0-9a-f]{64}$" }),
            Format::Plugin => json!({ "examples": ["cargo-test", "path:plugins/mine"] }),
            Format::Target => json!({ "minLength": 1, "examples": ["process", "path:plugins/mine"] }),
            Format::SecretSource => {
                json!({ "pattern": format!("^({}):.+$|^([^:]*/)?[.]env[^:/]*#.+$", SOURCES.join("|")) })
            }
            Format::Registry => json!({ "minLength": 1, "examples": ["ghcr.io"] }),
            Format::Tenant => json!({ "pattern": "^[A-Za-z0-9.-]+$" }),
            Format::SshAddress => json!({ "pattern": "^[^@]+@[^@]+$", "examples": ["deploy@10.0.0.5"] }),
            Format::SshHostKey => json!({ "pattern": "^[a-z0-9@.-]+ AAAA[A-Za-z0-9+/]+=*$" }),
            Format::Approver => json!({ "minLength": 1, "examples": ["ada", "team:release"] }),
            Format::Member => json!({ "minLength": 1, "not": { "pattern": "^team:" } }),
            Format::Weekly => json!({
                "pattern": "^[A-Za-z]+ +[0-9]{1,2}:[0-9]{2} *- *[A-Za-z]+ +[0-9]{1,2}:[0-9]{2}$",
                "examples": ["Fri 16:00 - Mon 08:00"],
            }),
            Format::TimeZone => json!({ "minLength": 1, "examples": ["Europe/Berlin"] }),
            Format::Percentage => json!({ "pattern": "^0*([1-9][0-9]?|100)%$", "examples": ["50%"] }),
            Format::Choice(options) => json!({ "enum": options }),
        }
    }
}

/// Parses a duration of pipeline files: a sum of numbers with units, as in `1h30m` or `1h 30m`. None if it is invalid.
/// The SDK has its own implementation, since plugins are built without this crate; `tests/properties` compares the two.
pub fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = leading_number(rest)?;
        let letters = after.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(after.len());
        let milliseconds: u64 = match &after[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(milliseconds)?))?;
        rest = after[letters..].trim_start();
    }
    Some(total)
}

/// The number of a percentage, 1 to 100. None if it is invalid.
pub(crate) fn percentage(text: &str) -> Option<u32> {
    let digits = text.strip_suffix('%').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|number| (1..=100).contains(number))
}

fn check_percentage(text: &str) -> Result<(), FormatError> {
    match percentage(text) {
        Some(_) => Ok(()),
        None => refuse("stagewright::bad-percentage", "isn't a percentage", "write `1%` to `100%`"),
    }
}

/// Parses a size to a number of bytes. None if it is invalid.
pub(crate) fn size(text: &str) -> Option<u64> {
    let (number, unit) = leading_number(text)?;
    let bytes: u64 = match unit.trim_start() {
        "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(bytes)
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, &text[digits..]))
}

fn check_duration(text: &str, range: Range<Duration>) -> Result<(), FormatError> {
    match duration(text) {
        None => refuse(
            "stagewright::bad-duration",
            "isn't a duration",
            "write numbers with units, as in `500ms`, `20s`, `1h30m`, `2d`",
        ),
        Some(length) if range.contains(length) => Ok(()),
        Some(_) => refuse("stagewright::out-of-range", "is out of range", format!("write a duration of {range}")),
    }
}

fn check_size(text: &str, range: SizeRange) -> Result<(), FormatError> {
    match size(text) {
        None => refuse(
            "stagewright::bad-size",
            "isn't a size",
            "write an integer with a unit, as in `64KiB`, `256MiB`, `1GiB`, `10MB`",
        ),
        Some(bytes) if range.0.contains(bytes) => Ok(()),
        Some(_) => refuse("stagewright::out-of-range", "is out of range", format!("write a size of {range}")),
    }
}

fn is_sha256(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|digits| {
        digits.len() == 64 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn check_digest(text: &str) -> Result<(), FormatError> {
    if is_sha256(text) {
        return Ok(());
    }
    refuse("stagewright::bad-digest", "isn't a digest", "write `sha256:` and 64 lower-case hexadecimal digits")
}

fn check_target(text: &str) -> Result<(), FormatError> {
    match text {
        "" => refuse("stagewright::bad-target", "is empty", "write `process`, or `path:` and the folder of a plugin"),
        _ => check_plugin(text),
    }
}

fn check_plugin(text: &str) -> Result<(), FormatError> {
    const CODE: &str = "stagewright::bad-plugin";
    match text.split_once(':') {
        None if text.is_empty() => {
            refuse(CODE, "doesn't name a plugin", "name a built-in plugin, or write `path:plugins/mine`")
        }
        None => Ok(()),
        Some(("path", "")) => {
            refuse(CODE, "doesn't name a path", "name the plugin's folder or file, as in `path:plugins/mine`")
        }
        Some(("path", _)) => Ok(()),
        Some(("oci", reference)) => match reference.split_once('@') {
            Some((repository, digest)) if !repository.is_empty() && is_sha256(digest) => Ok(()),
            _ => refuse(
                CODE,
                "isn't pinned by digest",
                "write `oci:HOST/NAME@sha256:` and 64 hexadecimal digits, since a tag can be moved to other code",
            ),
        },
        Some((scheme, _)) => {
            let help = "write the name of a built-in plugin, `path:PATH` or `oci:REFERENCE@sha256:DIGEST`";
            refuse(CODE, format!("has the unknown scheme `{scheme}:`"), help)
        }
    }
}

fn check_authority(text: &str) -> Result<(), FormatError> {
    match CredentialOrigin::parse(text)?.target() {
        OriginTarget::Host(_) => Ok(()),
        OriginTarget::Socket(_) => {
            refuse("stagewright::bad-origin", "isn't a host", "write `https://HOST`, where tokens are requested")
        }
    }
}

/// In image names, the first part is a registry if it has a dot or a port, or is `localhost`.
fn check_registry(text: &str) -> Result<(), FormatError> {
    let is_written_so =
        text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]".contains(&byte));
    let names_host = text.contains(['.', ':']) || text == "localhost";
    if is_written_so && names_host && Origin::parse(text).is_some() {
        return Ok(());
    }
    refuse("stagewright::bad-registry", "doesn't name a registry", "write its host, as in `ghcr.io` or `docker.io`")
}

/// A tenant becomes a part of a URL's path.
fn check_tenant(text: &str) -> Result<(), FormatError> {
    let is_name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
    match is_name && text.bytes().any(|byte| byte != b'.') {
        true => Ok(()),
        false => refuse("stagewright::bad-tenant", "isn't a tenant", "write its ID, or a domain as in `example.org`"),
    }
}

fn check_user(text: &str) -> Result<(), FormatError> {
    if !text.trim().is_empty() {
        return Ok(());
    }
    refuse(
        "stagewright::bad-approver",
        "doesn't name a user",
        "name a user, as in `ada`, or a team, as in `team:release`",
    )
}

fn check_member(text: &str) -> Result<(), FormatError> {
    if text.starts_with("team:") {
        let help = "write the names of that team's users: a team can't contain other teams";
        return refuse("stagewright::bad-approver", "is a team, not a user", help);
    }
    check_user(text)
}

fn check_zone(text: &str) -> Result<(), FormatError> {
    if zone(text).is_some() {
        return Ok(());
    }
    let help = match nearest_zone(text) {
        Some(name) => format!("did you mean `{name}`?"),
        None => "write a name from the IANA database, as in `Europe/Berlin` or `UTC`".to_owned(),
    };
    refuse("stagewright::unknown-time-zone", "isn't a known time zone", help)
}

fn check_choice(text: &str, options: &[&str]) -> Result<(), FormatError> {
    if options.contains(&text) {
        return Ok(());
    }
    let help = match crate::nearest::nearest(text, options.iter().copied()) {
        Some(option) => format!("did you mean `{option}`?"),
        None => format!(
            "choose one of {}",
            options.iter().map(|option| format!("`{option}`")).collect::<Vec<_>>().join(", ")
        ),
    };
    refuse("stagewright::bad-choice", "isn't a valid value for this key", help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_is_a_sum_of_numbers_with_units() {
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("2d"), Some(Duration::from_secs(172_800)));
        assert_eq!(duration(" 1h 30m "), Some(Duration::from_secs(5400)));
        for text in ["", "20", "m", "20 m", "-1s", "1.5h", "1w", "99999999999999999999d", "20min", "é"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn size_is_an_integer_with_a_unit() {
        assert_eq!(size("256MiB"), Some(256 << 20));
        assert_eq!(size("10 MB"), Some(10_000_000));
        for text in ["", "256", "MiB", "1.5GiB", "18446744073709551615GiB", "-1B"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn entries_of_permissions_are_checked() {
        #[track_caller]
        fn check(format: Format, good: &[&str], bad: &[&str]) {
            for text in good {
                assert_eq!(format.check(text), Ok(()), "{text}");
            }
            for text in bad {
                assert!(format.check(text).is_err(), "{text}");
            }
        }
        check(
            Format::WorkspacePath,
            &[".", "target", "crates/**/*.rs", "a..b"],
            &["/", "/etc", "../x", "a/../../b", "~/x", "", "C:\\x", "a[", "${{ inputs.a }}"],
        );
        check(
            Format::Origin,
            &[
                "cargo",
                "ghcr.io",
                "https://a.example:8443",
                "http://127.0.0.1:*",
                "https://[::1]:80",
                "*.example.org",
                "localhost:5000",
                "tcp://db.example:5432",
                "tcp://db.example:*",
            ],
            &[
                "",
                "tcp://db.example",
                "tcp://a:1/b",
                "https://a/b",
                "ftp://a",
                "a b",
                "https://u@h",
                "a:0",
                "a:99999",
                "https://:80",
                "https://host//",
                "https://999.1.1.1",
                "http://0x7f.1",
                "https://bücher.example",
            ],
        );
        check(
            Format::Socket,
            &["docker", "/run/a.sock"],
            &["", "run/a.sock", "/", "/run/../a", "/run//a", "/run/a/", "~/a", "podman", "/run/a\0"],
        );
        check(
            Format::Repository,
            &["local/app", "ghcr.io/acme/*", "localhost:5000/app"],
            &["app", "local/app:1", "local/app@sha256:0", "https://a/b", "a//b", ""],
        );
        check(
            Format::SecretSource,
            &["env:TOKEN", "file:/run/secrets/token"],
            &["TOKEN", "env:", "file:", "vault:x", "env:A-B"],
        );
        check(
            Format::Plugin,
            &["noop", "path:plugins/mine"],
            &["", "path:", "oci:ghcr.io/a/b:1", "oci:a@sha256:12", "docker:x"],
        );
        check(Format::Program, &["cargo", "*", "'/opt/My Tools/x' *", "cargo test **"], &["", "* test", "ca*"]);
    }
}
