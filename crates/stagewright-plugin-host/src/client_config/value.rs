//! The kinds of values, and the form in which a value of each kind is copied.

/// The most bytes of a value. Longer ones are certificates and keys.
const LONGEST: usize = 4096;
/// The schemes of URLs that are copied. Others can start programs, as git's `ext::` does.
const SCHEMES: [&str; 7] = ["file", "ftp", "ftps", "git", "http", "https", "ssh"];

/// Booleans, and the other words that clients accept in their place.
const SCALARS: [&str; 9] = ["always", "auto", "false", "never", "no", "off", "on", "true", "yes"];

/// The form that the value of a key must have to be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueKind {
    /// A number, a boolean, or a client's keyword: letters, digits, and `.,_+/*@=-`, without spaces.
    Word,
    /// A number or a boolean, which is never a secret.
    Scalar,
    /// Names of people, paths, refspecs: a line of any text without a URL that has a user.
    Text,
    /// The name or path of a program, without arguments, which could contain a password.
    Program,
    /// A URL or a path.
    Url,
    /// A URL, a path, or `user@host:path` as git accepts it.
    GitUrl,
    /// A certificate, which is public.
    Certificate,
    /// One of these values.
    Known(&'static [&'static str]),
}

/// The copy of a value; none when it isn't of the kind.
pub(super) fn admit(kind: ValueKind, value: &str) -> Option<String> {
    let is_line = value.len() <= LONGEST && !value.contains(char::is_control);
    match kind {
        ValueKind::Certificate => {
            (value.contains("-----BEGIN CERTIFICATE-----") && !value.contains("PRIVATE KEY")).then(|| value.to_owned())
        }
        _ if !is_line => None,
        ValueKind::Word => {
            let is_plain = |letter: char| letter.is_ascii_alphanumeric() || ".,_+/*@=-".contains(letter);
            value.chars().all(is_plain).then(|| value.to_owned())
        }
        ValueKind::Scalar => {
            let number = value.trim_start_matches('-').trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G']);
            let is_number = number.len() <= 10 && number.bytes().all(|byte| byte.is_ascii_digit());
            (is_number || SCALARS.contains(&value.to_ascii_lowercase().as_str())).then(|| value.to_owned())
        }
        ValueKind::Text => (!has_user(value)).then(|| value.to_owned()),
        ValueKind::Program => {
            let is_name = |letter: char| letter.is_ascii_alphanumeric() || "/.-_+".contains(letter);
            value.chars().all(is_name).then(|| value.to_owned())
        }
        ValueKind::Url => web_url(value).or_else(|| path(value)),
        ValueKind::GitUrl => web_url(value).or_else(|| path(value)).or_else(|| scp_like(value)),
        ValueKind::Known(values) => values.contains(&value).then(|| value.to_owned()),
    }
}

/// Whether text could contain a URL with a user and a password, with or without a scheme.
fn has_user(text: &str) -> bool {
    let with_password = |word: &str| word.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
    (text.contains("://") && text.contains('@')) || text.split_whitespace().any(with_password)
}

/// Whether the value is `${NAME}` and nothing else.
pub(crate) fn is_variable(value: &str) -> bool {
    let name = value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    name.is_some_and(|name| !name.is_empty() && name.chars().all(is_of_name))
}

/// Whether a value would be copied unchanged, or can't be a credential under any key.
pub(super) fn is_known(kind: Option<ValueKind>, value: &str) -> bool {
    let admitted = |kind| admit(kind, value).is_some_and(|copied| copied == value);
    kind.is_some_and(admitted) || admitted(ValueKind::Scalar)
}

/// `scheme://user:password@host/path?query` as `scheme://host/path`. A user without a password is kept for ssh, as in
/// `ssh://git@host`, where it isn't a secret. None for a URL that its client might parse differently.
fn web_url(text: &str) -> Option<String> {
    let (prefix, rest) = match text.strip_prefix("sparse+") {
        Some(rest) => ("sparse+", rest),
        None => ("", text),
    };
    let (scheme, rest) = rest.split_once("://")?;
    if !SCHEMES.contains(&scheme) || text.contains(['\\', ' ', '"', '<', '>', '`']) {
        return None;
    }
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (user, host),
        None => ("", authority),
    };
    let keeps_user = scheme == "ssh" && !user.is_empty() && user.chars().all(is_of_name);
    let is_host = |host: &str| host.chars().all(|letter| is_of_name(letter) || "[]:".contains(letter));
    // A second URL in the path would be copied with its user and password.
    if !is_host(host) || (host.is_empty() && scheme != "file") || path.contains("://") {
        return None;
    }
    let user = if keeps_user { format!("{user}@") } else { String::new() };
    Some(format!("{prefix}{scheme}://{user}{host}{path}"))
}

/// A path without `@` and `:`, so that nothing in it can be a user.
fn path(text: &str) -> Option<String> {
    (!text.is_empty() && !text.contains(['@', ':'])).then(|| text.to_owned())
}

/// `user@host:path`, the syntax of scp, which has no password.
fn scp_like(text: &str) -> Option<String> {
    let (place, path) = text.split_once(':')?;
    let (user, host) = place.split_once('@').unwrap_or(("", place));
    let is_name = |name: &str| name.chars().all(is_of_name);
    (is_name(user) && is_name(host) && !host.is_empty() && !path.contains(['@', ':'])).then(|| text.to_owned())
}

fn is_of_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || ".-_".contains(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_copied_without_user_password_and_query() {
        for (given, copied) in [
            ("https://u:p@host:8443/a/@scope/b?token=x#y", Some("https://host:8443/a/@scope/b")),
            ("https://TOKEN@host/x.git", Some("https://host/x.git")),
            ("https://u:p@ss@host/x", Some("https://host/x")),
            ("sparse+https://u:p@host/i/", Some("sparse+https://host/i/")),
            ("ssh://git@host:22/x", Some("ssh://git@host:22/x")),
            ("ssh://git:pw@host/x", Some("ssh://host/x")),
            ("git@host:a/b.git", Some("git@host:a/b.git")),
            ("host:a/b.git", Some("host:a/b.git")),
            ("../sub.git", Some("../sub.git")),
            ("file:///srv/x.git", Some("file:///srv/x.git")),
            ("user:pass@host:a/b", None),
            ("https:///u:p@host/x", None),
            ("https://u:p@host/https://v:q@other/", None),
            ("https:\\\\u:p@host", None),
            ("ext::sh -c 'curl -u u:p host'", None),
            ("https://u:p\n@host/x", None),
            ("https://u:p@ho%40st/", None),
        ] {
            assert_eq!(admit(ValueKind::GitUrl, given).as_deref(), copied, "{given}");
        }
        assert_eq!(admit(ValueKind::Url, "git@host:a"), None);
    }

    #[test]
    fn a_value_that_is_not_of_its_kind_is_left_out() {
        assert!(admit(ValueKind::Word, "verbose").is_some() && admit(ValueKind::Word, "a b").is_none());
        assert!(admit(ValueKind::Text, "me:pw@host").is_none() && admit(ValueKind::Text, "git@host:a/b").is_some());
        assert!(
            admit(ValueKind::Program, "/usr/bin/lld-18").is_some()
                && admit(ValueKind::Program, "sshpass -pPW x").is_none()
        );
        assert!(admit(ValueKind::Text, "Ada L.").is_some() && admit(ValueKind::Text, "see https://u:p@h").is_none());
        let (public, private) =
            ("-----BEGIN CERTIFICATE-----\nMII", "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY");
        assert!(admit(ValueKind::Certificate, public).is_some() && admit(ValueKind::Certificate, private).is_none());
        assert!(admit(ValueKind::Certificate, "secret").is_none());
        assert!(admit(ValueKind::Scalar, "256m").is_some() && admit(ValueKind::Scalar, "True").is_some());
        assert!(admit(ValueKind::Scalar, "hunter2").is_none());
        assert!(
            admit(ValueKind::Known(&["a b"]), "a b").is_some() && admit(ValueKind::Known(&["a b"]), "a c").is_none()
        );
    }
}
