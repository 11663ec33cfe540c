//! Messages for incoming webhooks of Slack, in blocks.

use serde_json::{Value as Json, json};
use stagewright_sdk::context;

use crate::config::{Config, Slack};

/// Slack's limits, in characters: of a heading, and of the text of a section.
const HEADING: usize = 150;
const SECTION: usize = 3000;
/// The most sections that a message is divided into. The rest of a longer one is left out.
const SECTIONS: usize = 10;

/// The message, with the text that notifications and old clients show.
pub(crate) fn message(config: &Config, slack: &Slack) -> Json {
    let (title, message) = (config.title(), config.message());
    let kind = if slack.markup { "mrkdwn" } else { "plain_text" };
    let sections =
        sections(message).into_iter().map(|text| json!({ "type": "section", "text": { "type": kind, "text": text } }));
    let origin = format!("{} · {} · {}", context::pipeline(), context::stage_id(), context::run_id());
    let heading = json!({ "type": "header", "text": { "type": "plain_text", "text": shortened(&title, HEADING) } });
    let context =
        json!({ "type": "context", "elements": [{ "type": "plain_text", "text": shortened(&origin, SECTION) }] });
    let blocks: Vec<Json> = [heading].into_iter().chain(sections).chain([context]).collect();
    let text = if slack.markup { message.to_owned() } else { escaped(message) };
    json!({ "text": shortened(&format!("{}: {text}", escaped(&title)), SECTION), "blocks": blocks })
}

/// The message in parts that fit into a section each, divided between lines where that is possible.
fn sections(message: &str) -> Vec<String> {
    let mut sections = vec![String::new()];
    for line in message.trim().split_inclusive('\n') {
        let characters: Vec<char> = line.chars().collect();
        for piece in characters.chunks(SECTION) {
            if sections.last().is_none_or(|last| last.chars().count() + piece.len() > SECTION) {
                sections.push(String::new());
            }
            sections.last_mut().into_iter().for_each(|last| last.extend(piece));
        }
    }
    sections.retain(|section| !section.trim().is_empty());
    if sections.len() > SECTIONS {
        sections.truncate(SECTIONS);
        sections.push("…".to_owned());
    }
    sections
}

/// The characters with a meaning in Slack's markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn shortened(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}
