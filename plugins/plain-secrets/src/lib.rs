//! Recognizes secrets that files have as plain text, such as the password of a variable or of a URL.

/// How names of secrets end, without the characters that separate words.
const ENDINGS: [&str; 11] = [
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "SECRET",
    "TOKEN",
    "APIKEY",
    "ACCESSKEY",
    "SECRETKEY",
    // The one of Rails.
    "SECRETKEYBASE",
    "PRIVATEKEY",
    "CREDENTIALS",
];
/// What a setting has that switches something on or off, as in `ALLOW_EMPTY_PASSWORD=yes`.
const SWITCHES: [&str; 9] = ["", "true", "false", "yes", "no", "on", "off", "0", "1"];

/// Whether a variable or a key of this name with this value is a secret as plain text, as far as that can be known.
///
/// Either the name ends like one of a secret, in whatever spelling (`API_KEY`, `apiKey`, `api-key`), or the value is a URL
/// with a password. The path of a file, as in `POSTGRES_PASSWORD_FILE`, a switch, and a reference to a variable, as in
/// `${PASSWORD}`, aren't secrets.
pub fn is_plain_secret(name: &str, value: &str) -> bool {
    let letters = name.chars().filter(|letter| letter.is_ascii_alphanumeric());
    let name: String = letters.map(|letter| letter.to_ascii_uppercase()).collect();
    let is_switch = SWITCHES.contains(&value.to_ascii_lowercase().as_str());
    let is_named = ENDINGS.iter().any(|ending| name.ends_with(ending));
    (is_named && !is_switch && !is_reference(value)) || has_password(value)
}

/// Whether a value stands for that of a variable, which is filled in elsewhere.
fn is_reference(value: &str) -> bool {
    value.starts_with("${") || value.starts_with("$(") || value.starts_with("{{")
}

/// Whether a URL has a user and a password, as in `postgresql://app:password@db/app`.
fn has_password(value: &str) -> bool {
    let Some((scheme, rest)) = value.split_once("://") else { return false };
    let is_scheme = !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let login = authority.rsplit_once('@').and_then(|(login, _)| login.split_once(':'));
    is_scheme && login.is_some_and(|(_, password)| !password.is_empty() && !is_reference(password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names_and_by_urls() {
        for (name, value) in [
            ("POSTGRES_PASSWORD", "password"),
            ("github_token", "abc"),
            ("OPENAI_API_KEY", "sk-1"),
            ("apiKey", "sk-1"),
            ("api-key", "sk-1"),
            ("SECRET_KEY_BASE", "abc"),
            ("DATABASE_URL", "postgresql://postgres:password@postgres:5432/glsp"),
        ] {
            assert!(is_plain_secret(name, value), "{name}");
        }
        for (name, value) in [
            ("POSTGRES_PASSWORD_FILE", "/run/secrets/password"),
            ("ALLOW_EMPTY_PASSWORD", "yes"),
            ("TOKEN_TTL", "3600"),
            ("POSTGRES_PASSWORD", ""),
            ("password", "${DATABASE_PASSWORD}"),
            ("REDIS_URL", "redis://redis:6379"),
            ("URL", "http://user@host/a:b@c"),
            ("URL", "postgresql://app:${PASSWORD}@db/app"),
        ] {
            assert!(!is_plain_secret(name, value), "{name}");
        }
    }
}
