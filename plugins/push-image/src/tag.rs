//! Converts git refs and versions into valid tags, and checks repository names.

/// The longest tag: the distribution specification has `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
const MAX_LENGTH: usize = 128;

/// Converts a git ref, a version, or any other text into a tag.
///
/// It follows docker/metadata-action: `refs/heads/` and `refs/tags/` are removed, a pull request's ref becomes `pr-N`, and
/// each sequence of other characters becomes one `-`.
pub(crate) fn sanitise(text: &str) -> Result<String, String> {
    let text = text.trim();
    let pull_request = text.strip_prefix("refs/pull/").and_then(|rest| rest.split('/').next());
    if let Some(number) = pull_request {
        return sanitise(&format!("pr-{number}"));
    }
    let short = ["refs/heads/", "refs/tags/"].iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);

    let mut tag = String::with_capacity(short.len());
    for character in short.chars() {
        let fits = character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
        match fits {
            true => tag.push(character),
            false if tag.ends_with('-') => {}
            false => tag.push('-'),
        }
    }
    match tag.chars().next() {
        None => Err(format!("`{text}` has no characters for a tag")),
        Some('.' | '-') => {
            Err(format!("`{text}` becomes the tag `{tag}`, but a tag begins with a letter, a digit or `_`"))
        }
        Some(_) if tag.len() > MAX_LENGTH => {
            Err(format!("`{tag}` has {} characters, and a tag has at most {MAX_LENGTH}", tag.len()))
        }
        Some(_) => Ok(tag),
    }
}

/// What is wrong with a repository's name; none when it is valid.
pub(crate) fn repository_mistake(image: &str) -> Option<String> {
    let (_, last) = image.rsplit_once('/').unwrap_or(("", image));
    if image.contains('@') || last.contains(':') {
        return Some(format!(
            "`{image}` has a tag or a digest; use the repository alone, and put the tags into `tags`"
        ));
    }
    if !image.contains('/') {
        return Some(format!("`{image}` has no registry; write `local/{image}`, or `HOST/{image}`"));
    }
    let (host, path) = image.split_once('/').unwrap_or(("", image));
    let fits = |part: &str| {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
        part.chars().all(allowed) && part.starts_with(|c: char| c.is_ascii_alphanumeric())
    };
    if host.is_empty() || path.split('/').any(|part| !fits(part)) {
        return Some(format!("invalid repository `{image}`; use lower-case letters, digits, `.`, `_` and `-`"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{repository_mistake, sanitise};

    #[test]
    fn refs_become_tags() {
        let cases = [
            ("v1.2.3", "v1.2.3"),
            ("refs/tags/v1.2.3", "v1.2.3"),
            ("refs/heads/feature/new thing", "feature-new-thing"),
            ("refs/pull/17/merge", "pr-17"),
            ("1.0.0+build.5", "1.0.0-build.5"),
            (" main ", "main"),
        ];
        for (text, tag) in cases {
            assert_eq!(sanitise(text).as_deref(), Ok(tag), "{text}");
        }
    }

    #[test]
    fn texts_without_a_valid_tag_are_refused() {
        assert!(sanitise("").is_err());
        assert!(sanitise("refs/heads/").is_err());
        assert!(sanitise(".hidden").is_err());
        assert!(sanitise("/x").unwrap_err().contains("`-x`"));
        assert!(sanitise(&"a".repeat(129)).unwrap_err().contains("129"));
        assert!(sanitise(&"a".repeat(128)).is_ok());
    }

    #[test]
    fn repositories_are_checked() {
        assert_eq!(repository_mistake("local/app"), None);
        assert_eq!(repository_mistake("127.0.0.1:5000/team/app"), None);
        assert!(repository_mistake("app").unwrap().contains("local/app"));
        assert!(repository_mistake("local/app:1.0").unwrap().contains("tag"));
        assert!(repository_mistake("local/app@sha256:00").unwrap().contains("digest"));
        assert!(repository_mistake("local/App").unwrap().contains("lower-case"));
        assert!(repository_mistake("local//app").is_some());
    }
}
