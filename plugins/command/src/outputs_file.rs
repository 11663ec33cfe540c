//! Reads outputs from a file that the program wrote.

use serde_json::Value as Json;
use stagewright_sdk::{Error, Result, workspace};

/// Reads the outputs. Each line is `name=value`, a JSON object, or blank. Of several values for a name, the last one wins.
pub(crate) fn read(path: &str) -> Result<Vec<(String, Json)>> {
    let text = workspace::read_text(path).map_err(|error| {
        error
            .context(format!("the program wrote no outputs to `{path}`"))
            .help("make the program write the file, or remove `outputs-file`")
    })?;
    let mut outputs = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = || format!("{path}:{}", index + 1);
        if line.trim_start().starts_with('{') {
            let object: serde_json::Map<String, Json> = serde_json::from_str(line)
                .map_err(|error| Error::invalid(format!("{}: not a JSON object: {error}", place())))?;
            outputs.extend(object);
        } else if let Some((name, value)) = line.split_once('=') {
            outputs.push((name.trim().to_owned(), Json::from(value)));
        } else {
            return Err(Error::invalid(format!("{}: neither `name=value` nor a JSON object", place())));
        }
    }
    Ok(outputs)
}
