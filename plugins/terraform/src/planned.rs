//! What a plan would do.

use serde::Deserialize;
use stagewright_sdk::text::count;
use stagewright_sdk::{Error, Result};

/// How many resources the summary names.
const SHOWN: usize = 200;

/// The changes of a plan.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) added: usize,
    pub(crate) changed: usize,
    pub(crate) destroyed: usize,
    /// The address of each resource, with what happens to it.
    lines: Vec<String>,
}

/// The part of `show -json` that says what changes.
#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    resource_changes: Vec<ResourceChange>,
}

#[derive(Deserialize)]
struct ResourceChange {
    address: String,
    change: Change,
}

#[derive(Deserialize)]
struct Change {
    actions: Vec<String>,
}

impl Planned {
    pub(crate) fn parse(text: &[u8]) -> Result<Planned> {
        let shown: Shown =
            serde_json::from_slice(text).map_err(|error| Error::failed(format!("can't read the plan: {error}")))?;
        let mut planned = Planned::default();
        for ResourceChange { address, change } in shown.resource_changes {
            let has = |action: &str| change.actions.iter().any(|own| own == action);
            let what = match (has("create"), has("update"), has("delete")) {
                (true, _, true) => "replace",
                (true, ..) => "add",
                (_, true, _) => "change",
                (.., true) => "destroy",
                _ => continue,
            };
            planned.added += usize::from(has("create"));
            planned.changed += usize::from(has("update"));
            planned.destroyed += usize::from(has("delete"));
            planned.lines.push(format!("{what} `{}`", address.replace('`', "'")));
        }
        Ok(planned)
    }

    /// As in `1 resource to add, 0 to change, 2 to destroy`.
    pub(crate) fn described(&self) -> String {
        let Planned { added, changed, destroyed, .. } = self;
        format!("{} to add, {changed} to change, {destroyed} to destroy", count(*added, "resource"))
    }

    pub(crate) fn to_markdown(&self) -> String {
        let mut text = format!("{}\n", self.described());
        if !self.lines.is_empty() {
            text.push('\n');
        }
        for line in self.lines.iter().take(SHOWN) {
            text.push_str(&format!("- {line}\n"));
        }
        if self.lines.len() > SHOWN {
            text.push_str(&format!("- and {} more\n", self.lines.len() - SHOWN));
        }
        text
    }
}
