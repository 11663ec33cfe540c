//! `env:` and `file:`.

use std::io::Read as _;

use zeroize::Zeroizing;

use crate::error::Fault;
use crate::text::{text, without_last_newline};
use crate::{LARGEST, Surroundings};

pub(crate) fn variable(name: &str, around: &Surroundings) -> Result<Zeroizing<String>, Fault> {
    match around.variables.get(name) {
        Some(value) if !value.is_empty() => Ok(Zeroizing::new(value.clone())),
        Some(_) => Err(Fault::new(format!("is empty: so is the environment variable {name}"))
            .help(format!("set {name} to the secret's value"))),
        None => Err(Fault::new(format!("is not set: there is no environment variable {name}"))
            .help(format!("export {name}, or change `from` in [secrets.*]"))),
    }
}

pub(crate) fn file(path: &str, around: &Surroundings) -> Result<Zeroizing<String>, Fault> {
    let shown = around.root.join(path).display().to_string();
    let bytes = bytes(path, LARGEST + 1, around)?;
    let value = without_last_newline(text(bytes, &shown)?);
    if value.is_empty() {
        return Err(Fault::new(format!("is empty: so is {shown}")).help("write the secret's value into the file"));
    }
    Ok(value)
}

/// All of a file of at most `most` bytes, the last newline included.
pub(crate) fn bytes(path: &str, most: usize, around: &Surroundings) -> Result<Vec<u8>, Fault> {
    let path = around.root.join(path);
    let mut bytes = Vec::new();
    let read = std::fs::File::open(&path).and_then(|file| file.take(most as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| {
        Fault::new(format!("can't be read from {}: {error}", path.display()))
            .help("write the file, or change `from` in [secrets.*]")
    })?;
    if bytes.len() > most {
        drop(Zeroizing::new(bytes));
        // A newline at the end isn't counted.
        let most = if most == LARGEST + 1 { LARGEST } else { most };
        return Err(Fault::new(format!("has more than {most} bytes, in {}", path.display()))
            .help("keep the document as a file, and make its one confidential part the secret"));
    }
    Ok(bytes)
}
