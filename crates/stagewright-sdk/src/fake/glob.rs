//! Globs for the fake workspace.

/// Whether a path matches. `*` and `?` don't cross folders, `**` does, `{a,b}` matches either.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    if let Some((before, alternatives, after)) = braces(pattern) {
        return alternatives.split(',').any(|alternative| matches(&format!("{before}{alternative}{after}"), path));
    }
    let pattern: Vec<&str> = pattern.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    segments(&pattern, &path)
}

fn braces(pattern: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = pattern.split_once('{')?;
    let (alternatives, after) = rest.split_once('}')?;
    Some((before, alternatives, after))
}

fn segments(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern, path) {
        ([], []) => true,
        (["**"], [_, ..]) => true,
        (["**", rest @ ..], _) => {
            segments(rest, path) || path.split_first().is_some_and(|(_, tail)| segments(pattern, tail))
        }
        ([first, rest @ ..], [name, tail @ ..]) => segment(first.as_bytes(), name.as_bytes()) && segments(rest, tail),
        _ => false,
    }
}

fn segment(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            segment(rest, name) || name.split_first().is_some_and(|(_, tail)| segment(pattern, tail))
        }
        ([b'?', rest @ ..], [_, tail @ ..]) => segment(rest, tail),
        ([byte, rest @ ..], [other, tail @ ..]) => byte == other && segment(rest, tail),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn only_double_stars_cross_folders() {
        assert!(matches("src/*.rs", "src/lib.rs"));
        assert!(!matches("src/*.rs", "src/a/lib.rs"));
        assert!(matches("src/**/*.rs", "src/lib.rs"));
        assert!(matches("src/**/*.rs", "src/a/b/lib.rs"));
        assert!(matches("src/**", "src/a/b"));
        assert!(!matches("src/**", "lib/a"));
        assert!(matches("{a,b}.txt", "b.txt"));
        assert!(!matches("?.txt", "ab.txt"));
    }
}
