//! Writes the notes.

use stagewright_sdk::source::Commit;
use stagewright_sdk::text::count;

use crate::forge::Links;
use crate::markdown::escaped;
use crate::message::{Message, TYPES};

/// The most characters of a line of a message, and of a name.
const LINE: usize = 300;
const NAME: usize = 60;

/// What the notes are made of.
#[derive(Debug)]
pub(crate) struct Notes<'a> {
    pub(crate) title: Option<&'a str>,
    /// What the commits follow, in Markdown, as in "the last good release of production".
    pub(crate) after: String,
    /// What a reader has to know about the list, in Markdown.
    pub(crate) remarks: Vec<String>,
    pub(crate) commits: &'a [Commit],
    pub(crate) links: Links,
}

/// A commit with what its message says.
struct Entry<'a> {
    commit: &'a Commit,
    message: Message,
}

impl Notes<'_> {
    /// The notes in Markdown.
    pub(crate) fn to_markdown(&self) -> String {
        let mut parts = Vec::new();
        if let Some(title) = self.title {
            parts.push(format!("# {}\n", escaped(title, LINE)));
        }
        parts.push(match self.commits.len() {
            0 => format!("No commits {}.\n", self.after),
            number => format!("{} {}.\n", count(number, "commit"), self.after),
        });
        parts.extend(self.remarks.iter().map(|remark| format!("{remark}\n")));
        parts.extend(self.sections().into_iter().map(|(heading, lines)| match heading {
            Some(heading) => format!("## {heading}\n\n{}\n", lines.join("\n")),
            None => format!("{}\n", lines.join("\n")),
        }));
        parts.join("\n")
    }

    /// The lines of each section. There is one without a heading if no commit has a type.
    fn sections(&self) -> Vec<(Option<&'static str>, Vec<String>)> {
        let entries = self.commits.iter().map(|commit| Entry { commit, message: Message::of(commit) });
        let (breaking, others): (Vec<_>, Vec<_>) = entries.partition(|entry| entry.message.breaking.is_some());
        let is_grouped = breaking.iter().chain(&others).any(|entry| entry.message.section.is_some());
        let breaking = breaking.iter().map(|entry| self.breaking_line(entry)).collect();
        let mut sections = vec![(Some("Breaking changes"), breaking)];
        let lines = |fits: &dyn Fn(&Message) -> bool| -> Vec<String> {
            others.iter().filter(|entry| fits(&entry.message)).map(|entry| self.line(entry)).collect()
        };
        if is_grouped {
            for (_, heading) in TYPES {
                sections.push((Some(heading), lines(&|message| message.section == Some(heading))));
            }
            sections.push((Some("Other changes"), lines(&|message| message.section.is_none() && !message.is_merge)));
            sections.push((Some("Merges"), lines(&|message| message.is_merge)));
        } else {
            let heading = (!sections[0].1.is_empty()).then_some("Other changes");
            sections.push((heading, lines(&|_| true)));
        }
        sections.retain(|(_, lines)| !lines.is_empty());
        sections
    }

    fn line(&self, entry: &Entry<'_>) -> String {
        format!("- {}{} ({})", scope(&entry.message), escaped(&entry.message.subject, LINE), self.origin(entry))
    }

    /// With the subject behind what breaks, unless that is the subject.
    fn breaking_line(&self, entry: &Entry<'_>) -> String {
        let message = &entry.message;
        let text = message.breaking.as_deref().unwrap_or_default();
        let subject = match text == message.subject {
            true => String::new(),
            false => format!("{}; ", escaped(&message.subject, LINE)),
        };
        format!("- {}{} ({subject}{})", scope(message), escaped(text, LINE), self.origin(entry))
    }

    fn origin(&self, entry: &Entry<'_>) -> String {
        let people = entry.message.people.iter().map(|person| escaped(person, NAME));
        [self.links.commit(&entry.commit.id)].into_iter().chain(people).collect::<Vec<_>>().join(", ")
    }
}

fn scope(message: &Message) -> String {
    message.scope.as_ref().map(|scope| format!("**{}:** ", escaped(scope, NAME))).unwrap_or_default()
}
