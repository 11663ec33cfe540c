//! The body of the notification.

use serde_json::{Value as Json, json};
use stagewright_sdk::context;

use crate::config::{Config, Format};

pub(crate) struct Payload {
    pub(crate) media_type: &'static str,
    pub(crate) body: String,
}

pub(crate) fn make(config: &Config) -> Payload {
    let message = config.message.as_deref().unwrap_or_default();
    match (&config.body, config.format) {
        (Some(Json::String(text)), Format::Text) => plain(text),
        (Some(body), _) => object(body),
        (None, Format::Text) => plain(message),
        (None, Format::Slack) => object(&json!({ "text": message })),
        (None, Format::Json) => object(&json!({
            "pipeline": context::pipeline(),
            "stage": context::stage_id(),
            "run": context::run_id(),
            "environment": context::environment(),
            "rehearsal": context::rehearsal(),
            "message": message,
        })),
    }
}

fn plain(text: &str) -> Payload {
    Payload { media_type: "text/plain; charset=utf-8", body: text.to_owned() }
}

fn object(body: &Json) -> Payload {
    Payload { media_type: "application/json", body: body.to_string() }
}
