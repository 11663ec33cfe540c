//! The host's rules for names, paths and sizes. The SDK can't depend on the host's crates, so they are repeated here.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fake::report::Sent;
use crate::url::Url;
use crate::workspace_path::path_problem;
use crate::{Error, ErrorCode};

/// The longest wait for people: 366 days.
const MAX_WAIT: Duration = Duration::from_secs(366 * 86_400);

/// The most replicas of a release.
pub(super) const MOST_REPLICAS: u32 = 64;

/// Where the proxy of a release accepts requests that the fake host has as unfinished.
pub(super) const PROXY: &str = "127.0.0.1:8080";

/// The most bytes of all parts of a release.
const PARTS: usize = 256 << 10;

/// The most bytes of a suspension's token.
const TOKEN: usize = 256;

/// Parses and normalises a path of the workspace. The root is empty.
pub(super) fn path(path: &str) -> Result<String, Error> {
    match path_problem(path) {
        None => Ok(normal(path)),
        Some(problem) => Err(Error::invalid(format!("path `{path}` {problem}"))
            .help("give a path relative to the workspace's root, as in `target/report.xml`")),
    }
}

/// A path of the workspace that a test names, normalised.
///
/// # Panics
/// When it isn't one.
pub(super) fn inside(text: &str) -> String {
    path(text).unwrap_or_else(|error| panic!("{error}"))
}

/// A path without `./`, doubled and trailing `/`.
pub(super) fn normal(path: &str) -> String {
    path.split('/').filter(|name| !matches!(*name, "" | ".")).collect::<Vec<_>>().join("/")
}

/// A path for messages; `.` for the root.
pub(super) fn shown(path: &str) -> &str {
    if path.is_empty() { "." } else { path }
}

/// The path, and the folders that contain it: a grant of any of them would include it.
pub(super) fn lineage(path: &str) -> Vec<&str> {
    let folders = path.rmatch_indices('/').map(|(slash, _)| &path[..slash]);
    std::iter::once(shown(path)).chain(folders).chain(["."]).collect()
}

/// The name of an output or a metric.
pub(super) fn name(what: &str, name: &str) -> Result<(), Error> {
    if !name.is_empty() && name.chars().all(is_name_letter) {
        return Ok(());
    }
    Err(Error::invalid(format!("invalid {what} name `{name}`")).help("use letters, digits, `-`, `_` and `.` only"))
}

/// The name of an artifact.
pub(super) fn artifact_name(name: &str) -> Result<(), Error> {
    const MOST: usize = 128;
    if (1..=MOST).contains(&name.len()) && !name.starts_with('.') && name.chars().all(is_name_letter) {
        return Ok(());
    }
    Err(Error::invalid(format!("invalid artifact name `{name}`"))
        .help(format!("use at most {MOST} letters, digits, `-`, `_` and `.`, not beginning with a dot")))
}

fn is_name_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "-_.".contains(letter)
}

/// A size as the host writes it, as in `16MiB`.
pub(super) fn byte_size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

/// How long a gate may stay open.
pub(super) fn gate_expiry(millis: u64) -> Result<(), Error> {
    if (1..=MAX_WAIT.as_millis()).contains(&millis.into()) {
        return Ok(());
    }
    Err(Error::invalid(format!("a gate must expire after 1ms to 366d, not after {millis} ms")))
}

/// The token of a wait.
pub(super) fn wait_token(token: &str) -> Result<(), Error> {
    if (1..=TOKEN).contains(&token.len()) && !token.contains(char::is_control) {
        return Ok(());
    }
    Err(Error::invalid("the plugin waits with an invalid token")
        .help(format!("use 1 to {TOKEN} bytes without control characters")))
}

/// The full id of a commit.
pub(super) fn commit(text: &str) -> Result<&str, Error> {
    if matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(text);
    }
    Err(Error::invalid(format!("`{text}` is not the full id of a commit"))
        .help("names of branches and tags can change their meaning: pass what `git rev-parse` prints"))
}

/// Method and header names are tokens of RFC 9110.
pub(super) fn is_http_token(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(fits)
}

/// Headers of the connection, which only the host sets.
const OF_THE_CONNECTION: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether a request only reads: by its method, or by the operation of a JSON protocol of AWS that it names.
pub(super) fn is_read(sent: &Sent) -> bool {
    let mut targets = sent.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-amz-target"));
    let target = match (targets.next(), targets.next()) {
        (Some((_, target)), None) if sent.secret_headers.is_empty() => target.as_str(),
        _ => "",
    };
    let operation = target.rsplit_once('.').map(|(_, operation)| operation).unwrap_or_default();
    match sent.method.as_str() {
        "GET" | "HEAD" | "OPTIONS" | "TRACE" => true,
        "POST" if sent.credential.is_some() => ["BatchGet", "Describe", "Get", "List"].iter().any(|verb| {
            operation.strip_prefix(verb).is_some_and(|noun| noun.starts_with(|c: char| c.is_ascii_uppercase()))
        }),
        _ => false,
    }
}

/// A header of a request.
pub(super) fn header(name: &str, value: &str) -> Result<(), Error> {
    if !is_http_token(name) {
        return Err(Error::invalid(format!("invalid header name `{name}`")));
    }
    if OF_THE_CONNECTION.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(Error::invalid(format!("the header `{name}` is set by the host")));
    }
    if value.bytes().any(|byte| (byte < 32 && byte != b'\t') || byte == 127) {
        return Err(Error::invalid(format!("the value of header `{name}` contains invalid characters")));
    }
    Ok(())
}

/// The URL of a request.
pub(super) fn url(url: &str) -> Result<Url<'_>, Error> {
    Url::parse(url).map_err(|error| Error::invalid(format!("`{url}` is not a URL: {error}")))
}

/// Checks the URL of a request over a Unix socket, and returns it as it is shown. None if it has another scheme.
pub(super) fn socket_url(url: &str) -> Option<Result<String, Error>> {
    let rest = url.strip_prefix("unix://")?;
    let refuse = |why: &str, help: &str| Some(Err(Error::invalid(format!("`{url}` {why}")).help(help)));
    let Some(colon) = rest.find(":/") else {
        return refuse("names no path after its socket", "write `unix:///SOCKET:/PATH`");
    };
    let (socket, request) = (&rest[..colon], &rest[colon + 1..]);
    let help = "write the absolute path of the socket, as in `/run/postgresql/.s.PGSQL.5432`, or `docker`";
    let Some(names) = socket.strip_prefix('/') else { return refuse("isn't an absolute path", help) };
    if names.contains(char::is_control) || names.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return refuse("isn't a normalised path", help);
    }
    let request = request.split('#').next().unwrap_or(request);
    let path = request.split('?').next().unwrap_or(request);
    let names = path.strip_prefix('/').unwrap_or(path).split('/').collect::<Vec<_>>();
    let is_odd = |(at, name): (usize, &&str)| {
        let lower = name.to_ascii_lowercase();
        let is_end = at > 0 && at + 1 == names.len();
        let is_empty = name.is_empty() && names.len() > 1 && !is_end;
        is_empty || matches!(*name, "." | "..") || ["%2e", "%2f", "%5c", "\\"].iter().any(|odd| lower.contains(odd))
    };
    if !request.bytes().all(|byte| byte.is_ascii_graphic()) || names.iter().enumerate().any(is_odd) {
        let help = "leave out `.`, `..` and empty names, and encode no `/`";
        return refuse("has a path that isn't in normal form", help);
    }
    Some(Ok(format!("unix://{socket}:{path}")))
}

/// An image reference: returns its repository, or the folder of a layout.
pub(super) fn image(text: &str) -> Result<Image<'_>, Error> {
    let refuse = |why: &str| {
        Err(Error::invalid(format!("image reference `{text}` {why}"))
            .help("write `local/NAME:TAG`, `HOST[:PORT]/NAME:TAG` or `oci:PATH:TAG`, each with `@sha256:…` if need be"))
    };
    let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return refuse("has a digest that isn't `sha256:` and 64 lower-case hexadecimal digits");
    }
    let last = name.rfind('/').map_or_else(|| name.strip_prefix("oci:").map_or(0, |_| 4), |slash| slash + 1);
    let (name, tag) = match name[last..].split_once(':') {
        Some((own, tag)) => (&name[..last + own.len()], Some(tag)),
        None => (name, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return refuse("has a tag with characters other than letters, digits, `.`, `_` and `-`");
    }
    if let Some(path) = name.strip_prefix("oci:") {
        return if path.is_empty() { refuse("names no folder after `oci:`") } else { Ok(Image::Layout(path)) };
    }
    let Some((host, repository)) = name.split_once('/') else { return refuse("names no registry") };
    if !is_repository(repository) {
        return refuse("has a name that isn't lower-case letters, digits, `.`, `_`, `-` and `/`");
    }
    if host != "local" && !is_host(host) {
        return refuse("doesn't begin with `local`, nor with a host that has a dot or a port");
    }
    Ok(Image::Repository(name))
}

/// Where an image is.
pub(super) enum Image<'a> {
    /// Without a tag and a digest.
    Repository(&'a str),
    /// The folder of a layout in the workspace.
    Layout(&'a str),
}

pub(super) fn is_digest(text: &str) -> bool {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(is_hex))
}

fn is_tag(text: &str) -> bool {
    let first = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    first && text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn is_repository(text: &str) -> bool {
    text.split('/').enumerate().all(|(position, part)| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let edge = |byte: Option<u8>| byte.is_some_and(plain);
        edge(part.bytes().next())
            && edge(part.bytes().last())
            && part.bytes().all(|byte| plain(byte) || b"._-".contains(&byte))
            && !(position > 0 && part == "blobs")
    })
}

fn is_host(text: &str) -> bool {
    let (name, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let named = name == "localhost" || name.contains('.') || !port.is_empty();
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
    let port_fits = port.is_empty() && !text.ends_with(':') || port.parse::<u16>().is_ok();
    named && plain && port_fits && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// The parts of a release that is recorded.
pub(super) fn parts(parts: &BTreeMap<String, String>) -> Result<(), Error> {
    match parts.iter().map(|(name, text)| name.len() + text.len()).sum::<usize>() {
        size if size > PARTS => {
            Err(exhausted(format!("the parts of a release have {size} bytes, at most {PARTS} are recorded")))
        }
        _ => Ok(()),
    }
}

/// The refusal of a call beyond a limit.
pub(super) fn exhausted(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::ResourceExhausted, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_parsed_as_by_the_host() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for text in ["local/app:1", "ghcr.io/a/b", "127.0.0.1:5000/app:1.0", &format!("localhost/app@{digest}")] {
            assert!(matches!(image(text), Ok(Image::Repository(_))), "{text}");
        }
        assert!(matches!(image("oci:target/image:1"), Ok(Image::Layout("target/image"))));
        for text in ["app", "local/App", "local/app:", "docker/app", "oci:", "local/app@sha256:00", "local/a/blobs"] {
            assert!(image(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_the_largest_unit_that_fits() {
        assert_eq!([1 << 20, 3 << 10, 1025, 0].map(byte_size), ["1MiB", "3KiB", "1025B", "0B"]);
    }
}
