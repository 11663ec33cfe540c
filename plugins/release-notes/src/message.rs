//! What a commit's message says: by the specification of conventional commits, and in its trailers.

use stagewright_sdk::source::Commit;

/// The types that have a section of their own, with its heading, in the order of the sections.
pub(crate) const TYPES: [(&str, &str); 11] = [
    ("feat", "Features"),
    ("fix", "Fixes"),
    ("perf", "Performance"),
    ("revert", "Reverts"),
    ("refactor", "Refactoring"),
    ("docs", "Documentation"),
    ("test", "Tests"),
    ("build", "Build"),
    ("ci", "Continuous integration"),
    ("style", "Style"),
    ("chore", "Chores"),
];

/// A commit's message, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The heading of its section; none for a type without one, and for a message that isn't a conventional one.
    pub(crate) section: Option<&'static str>,
    /// The scope, as in `fix(api): …`.
    pub(crate) scope: Option<String>,
    /// The first line, without type and scope if it has a section.
    pub(crate) subject: String,
    /// What breaks, if the message says so: the footer's text, or the subject.
    pub(crate) breaking: Option<String>,
    /// Author and co-authors.
    pub(crate) people: Vec<String>,
    pub(crate) is_merge: bool,
}

impl Message {
    pub(crate) fn of(commit: &Commit) -> Message {
        let is_merge = commit.parents.len() > 1;
        let (first, body) = commit.message.split_once('\n').unwrap_or((&commit.message, ""));
        let first = first.trim();
        let people = people(&commit.author, body);
        if is_merge {
            // Hosting services have the title of the request in the body.
            let title = body.lines().map(str::trim).find(|line| !line.is_empty() && trailer(line).is_none());
            let subject = title.map_or_else(|| first.to_owned(), |title| format!("{first}: {title}"));
            return Message { section: None, scope: None, subject, breaking: None, people, is_merge };
        }
        let header = Header::parse(first);
        let subject = header.as_ref().filter(|header| header.section.is_some()).map_or(first, |header| header.subject);
        let is_marked = header.as_ref().is_some_and(|header| header.is_breaking);
        let breaking = breaking(body).or_else(|| is_marked.then(|| subject.to_owned()));
        let section = header.as_ref().and_then(|header| header.section);
        let scope = header.filter(|header| header.section.is_some()).and_then(|header| header.scope.map(str::to_owned));
        Message { section, scope, subject: subject.to_owned(), breaking, people, is_merge }
    }
}

/// `type(scope)!: subject`.
struct Header<'a> {
    section: Option<&'static str>,
    scope: Option<&'a str>,
    is_breaking: bool,
    subject: &'a str,
}

impl Header<'_> {
    fn parse(line: &str) -> Option<Header<'_>> {
        let (head, subject) = line.split_once(": ")?;
        let (head, is_breaking) = head.strip_suffix('!').map_or((head, false), |head| (head, true));
        let (kind, scope) = match head.split_once('(') {
            Some((kind, scope)) => (kind, Some(scope.strip_suffix(')').filter(|scope| !scope.is_empty())?)),
            None => (head, None),
        };
        let is_word = !kind.is_empty() && kind.chars().all(|c| c.is_ascii_alphabetic());
        if !is_word || subject.trim().is_empty() {
            return None;
        }
        let section = TYPES.iter().find(|(name, _)| kind.eq_ignore_ascii_case(name)).map(|(_, heading)| *heading);
        Some(Header { section, scope, is_breaking, subject: subject.trim() })
    }
}

/// The text of the footer `BREAKING CHANGE: …`, which ends with its paragraph or the next footer.
fn breaking(body: &str) -> Option<String> {
    let mut lines = body.lines().map(str::trim);
    let first = lines
        .find_map(|line| line.strip_prefix("BREAKING CHANGE:").or_else(|| line.strip_prefix("BREAKING-CHANGE:")))?;
    let further = lines.take_while(|line| !line.is_empty() && trailer(line).is_none());
    Some([first.trim()].into_iter().chain(further).collect::<Vec<_>>().join(" ")).filter(|text| !text.is_empty())
}

/// The author, and those of the trailers `Co-authored-by: NAME <ADDRESS>`, each once.
fn people(author: &str, body: &str) -> Vec<String> {
    let mut people = vec![author.trim().to_owned()];
    for line in body.lines() {
        let Some((name, value)) = trailer(line.trim()) else { continue };
        let person = value.split('<').next().unwrap_or_default().trim();
        let is_new = !person.is_empty() && !people.iter().any(|known| known == person);
        if name.eq_ignore_ascii_case("co-authored-by") && is_new {
            people.push(person.to_owned());
        }
    }
    people.retain(|person| !person.is_empty());
    people
}

/// `Name-of-trailer: value`.
fn trailer(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(": ")?;
    let is_name = name.contains('-') && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    is_name.then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        let commit = Commit { author: "Ada".to_owned(), message: text.to_owned(), ..Commit::default() };
        Message::of(&commit)
    }

    #[test]
    fn headers_are_those_of_conventional_commits() {
        let cases = [
            ("feat: add x", (Some("Features"), None, "add x", false)),
            ("fix(api): y", (Some("Fixes"), Some("api"), "y", false)),
            ("FIX: y", (Some("Fixes"), None, "y", false)),
            ("feat!: z", (Some("Features"), None, "z", true)),
            ("refactor(a b)!: z", (Some("Refactoring"), Some("a b"), "z", true)),
            ("update: z", (None, None, "update: z", false)),
            ("Fix the parser: a colon", (None, None, "Fix the parser: a colon", false)),
            ("fix:no space", (None, None, "fix:no space", false)),
            ("fix(: x", (None, None, "fix(: x", false)),
            ("fix(): x", (None, None, "fix(): x", false)),
            ("fix: ", (None, None, "fix:", false)),
            ("", (None, None, "", false)),
        ];
        for (text, (section, scope, subject, is_breaking)) in cases {
            let found = message(text);
            let found = (found.section, found.scope.as_deref(), found.subject.as_str(), found.breaking.is_some());
            assert_eq!(found, (section, scope, subject, is_breaking), "{text}");
        }
    }

    #[test]
    fn a_footer_says_what_breaks() {
        let text = "feat: x\n\nbody\n\nBREAKING CHANGE: the old\nway is gone\nReviewed-by: Z\n";
        assert_eq!(message(text).breaking.as_deref(), Some("the old way is gone"));
        assert_eq!(message("any text\n\nBREAKING-CHANGE: y").breaking.as_deref(), Some("y"));
        assert_eq!(message("feat!: x").breaking.as_deref(), Some("x"));
        assert_eq!(message("feat: x\n\nnot a BREAKING CHANGE: y").breaking, None);
    }

    #[test]
    fn trailers_name_the_co_authors() {
        let text = "x\n\nCo-authored-by: Bob <b@example.org>\nco-authored-by: Eve <e@example.org>\nCo-authored-by: Ada <a@x>\n";
        assert_eq!(message(text).people, ["Ada", "Bob", "Eve"]);
        assert_eq!(message("x\n\nSigned-off-by: Bob <b@example.org>").people, ["Ada"]);
    }

    #[test]
    fn a_merge_is_one_line_with_the_title_of_its_request() {
        let merge = |text: &str| {
            let parents = vec!["a".to_owned(), "b".to_owned()];
            Message::of(&Commit { parents, message: text.to_owned(), ..Commit::default() })
        };
        let found = merge("Merge pull request #7 from acme/x\n\nfeat!: Add x\n\nBREAKING CHANGE: y");
        assert_eq!(found.subject, "Merge pull request #7 from acme/x: feat!: Add x");
        assert!(found.is_merge && found.breaking.is_none() && found.section.is_none());
        assert_eq!(merge("Merge branch 'x'\n\nCo-authored-by: Bob <b@x>").subject, "Merge branch 'x'");
    }
}
