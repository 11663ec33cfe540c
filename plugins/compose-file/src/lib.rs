//! Compose files as releases.
//!
//! [`resolve`] reads a file, and returns a [`Release`]: one document that says all that is deployed. Its variables are filled
//! in, its images have digests, and the files that it names are part of it. What can't be deployed safely, or not as it is
//! written, is refused, each with its line and key: all mistakes of a file at once.
//!
//! It calls no host: what is read comes from the caller, and the result depends on nothing else.

mod checker;
mod inputs;
mod interpolation;
mod mistake;
mod parts;
mod power;
mod release;
mod service;
mod sizes;
#[cfg(test)]
mod tests;
mod top_level;

use located_yaml::{Booleans, Node, Place, Value, documents};

pub use inputs::{Inputs, Runtime};
pub use mistake::Mistake;
pub use power::Power;
pub use release::Release;
pub use sizes::{parse_bytes, parse_duration};

/// Turns the text of a Compose file into a release. `path` names the file. `read` returns the text of a file that it names, by
/// the path that is written there.
///
/// # Errors
/// All mistakes of the file, in the order of their lines.
pub fn resolve(
    path: &str,
    text: &str,
    inputs: &Inputs,
    read: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Release, Vec<Mistake>> {
    let root = parse(text).map_err(|mistake| vec![mistake])?;
    let mut checker = checker::Checker::new(inputs, read);
    let document = top_level::document(&mut checker, &root);
    let secrets = checker.finish()?;
    Ok(Release::new(path, inputs.runtime, secrets, document))
}

/// The only document of a file.
fn parse(text: &str) -> Result<Node, Mistake> {
    let mistake = |place: Place, message: String| Mistake {
        line: place.line,
        column: place.column,
        key: String::new(),
        message,
        help: "correct the syntax; `docker compose config` shows how Compose reads the file".to_owned(),
    };
    let documents = documents(text, Booleans::TrueFalse)
        .map_err(|error| mistake(error.place, format!("invalid YAML: {}", error.message)))?;
    let mut documents = documents.into_iter();
    let empty = Node { place: Place { line: 1, column: 1 }, value: Value::Null };
    match (documents.next(), documents.next()) {
        (first, None) => Ok(first.unwrap_or(empty)),
        (_, Some(second)) => Err(mistake(second.place, "a Compose file is one document".to_owned())),
    }
}
