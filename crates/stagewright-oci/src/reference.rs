//! Image references: the names by which guests refer to images.

use std::fmt;
use std::str::FromStr;

use crate::error::{OciError, OciErrorKind};

/// The name of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageReference {
    /// The repository or layout that contains it.
    pub location: ImageLocation,
    /// The tag, without its colon.
    pub tag: Option<String>,
    /// The digest as `sha256:…`; takes precedence over the tag.
    pub digest: Option<String>,
}

/// A repository or layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageLocation {
    /// `local/NAME`: the embedded registry.
    Embedded {
        /// NAME, which may contain slashes.
        name: String,
    },
    /// `HOST[:PORT]/REPOSITORY`: behind the distribution API.
    Remote {
        /// The host, with the port if there is one.
        host: String,
        /// The path after the host.
        repository: String,
    },
    /// `oci:PATH`: an image layout in the workspace.
    Layout {
        /// The path as written, relative to the workspace.
        path: String,
    },
}

impl ImageReference {
    /// The name without tag and digest, in the form of `registry` permissions.
    pub fn repository(&self) -> String {
        match &self.location {
            ImageLocation::Embedded { name } => format!("local/{name}"),
            ImageLocation::Remote { host, repository } => format!("{host}/{repository}"),
            ImageLocation::Layout { path } => format!("oci:{path}"),
        }
    }

    /// The tag, or the customary `latest` if there is none.
    pub(crate) fn tag_or_default(&self) -> &str {
        self.tag.as_deref().unwrap_or("latest")
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for ImageReference {
    type Err = OciError;

    fn from_str(text: &str) -> Result<ImageReference, OciError> {
        let refuse = |why: &str| {
            OciError::new(OciErrorKind::InvalidReference, format!("image reference `{text}` {why}")).with_help(
                "write `local/NAME:TAG`, `HOST[:PORT]/NAME:TAG` or `oci:PATH:TAG`, each with `@sha256:…` if need be",
            )
        };
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) if is_digest(digest) => (name, Some(digest.to_owned())),
            Some(_) => return Err(refuse("has a digest that isn't `sha256:` and 64 lower-case hexadecimal digits")),
            None => (text, None),
        };
        // A colon before the last slash belongs to a port or to `oci:`.
        let start_of_last = name.rfind('/').map_or_else(|| name.strip_prefix("oci:").map_or(0, |_| 4), |at| at + 1);
        let (name, tag) = match name[start_of_last..].split_once(':') {
            Some((last, tag)) if is_tag(tag) => (&name[..start_of_last + last.len()], Some(tag.to_owned())),
            Some(_) => return Err(refuse("has a tag with characters other than letters, digits, `.`, `_` and `-`")),
            None => (name, None),
        };
        let location = if let Some(path) = name.strip_prefix("oci:") {
            if path.is_empty() {
                return Err(refuse("names no folder after `oci:`"));
            }
            ImageLocation::Layout { path: path.to_owned() }
        } else {
            let Some((host, repository)) = name.split_once('/') else {
                return Err(refuse("names no registry"));
            };
            if !is_repository(repository) {
                return Err(refuse("has a name that isn't lower-case letters, digits, `.`, `_`, `-` and `/`"));
            }
            if host == "local" {
                ImageLocation::Embedded { name: repository.to_owned() }
            } else if is_host(host) {
                ImageLocation::Remote { host: host.to_owned(), repository: repository.to_owned() }
            } else {
                return Err(refuse("doesn't begin with `local`, nor with a host that has a dot or a port"));
            }
        };
        Ok(ImageReference { location, tag, digest })
    }
}

pub(crate) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

/// Distribution spec: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
fn is_tag(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    first && text.len() <= 128 && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// The distribution spec's grammar, except that separators may repeat. `blobs` is refused below the first level: the
/// embedded registry stores repositories as nested layouts, in which `blobs` is a folder with content.
fn is_repository(text: &str) -> bool {
    text.split('/').enumerate().all(|(position, part)| {
        let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        edge(part.bytes().next())
            && edge(part.bytes().last())
            && part.bytes().all(inner)
            && !(position > 0 && part == "blobs")
    })
}

fn is_host(text: &str) -> bool {
    let (name, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let named = name == "localhost" || name.contains('.') || !port.is_empty();
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
    let port_fits = port.is_empty() && !text.ends_with(':') || port.parse::<u16>().is_ok();
    named && plain && port_fits && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(text: &str) -> ImageReference {
        text.parse().unwrap()
    }

    #[test]
    fn a_reference_is_displayed_as_it_was_written() {
        for text in [
            "local/app",
            "local/team/app:1.0",
            "ghcr.io/acme/app:v1",
            "127.0.0.1:5000/app",
            "localhost/app:x",
            "registry:5000/app:x",
            "oci:target/image",
            "oci:image:1.0",
            "oci:./out/image:1.0",
        ] {
            assert_eq!(parse(text).to_string(), text);
            let pinned = format!("{text}@{DIGEST}");
            assert_eq!(parse(&pinned).to_string(), pinned);
            assert_eq!(parse(&pinned).digest.as_deref(), Some(DIGEST));
        }
    }

    #[test]
    fn a_port_is_not_a_tag() {
        let reference = parse("localhost:5000/app");
        assert_eq!(
            reference.location,
            ImageLocation::Remote { host: "localhost:5000".into(), repository: "app".into() }
        );
        assert_eq!((reference.tag, parse("oci:image").tag), (None, None));
    }

    #[test]
    fn invalid_references_are_refused_with_the_reason() {
        for (text, reason) in [
            ("alpine:3", "names no registry"),
            ("library/alpine", "doesn't begin with `local`"),
            ("local/../../etc", "has a name"),
            ("local/", "has a name"),
            ("local/a/blobs", "has a name"),
            ("local/App", "has a name"),
            ("ghcr.io/app:a b", "has a tag"),
            ("ghcr.io/app:", "has a tag"),
            ("local/app@sha256:12", "has a digest"),
            ("ghcr.io:http/app", "doesn't begin"),
            ("../x.y/app", "doesn't begin"),
            ("oci:", "names no folder"),
        ] {
            let error = text.parse::<ImageReference>().unwrap_err();
            assert!(error.message.contains(reason), "{text}: {error}");
        }
    }
}
