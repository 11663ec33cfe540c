//! `age:`: a file that is encrypted to a key which only some machines have.

use std::io::Read as _;

use age::armor::ArmoredReader;
use age::{DecryptError, Decryptor, Identity, IdentityFile};
use zeroize::Zeroizing;

use crate::error::Fault;
use crate::local;
use crate::text::{text, without_last_newline};
use crate::{LARGEST, SourceContext};

/// The key itself, as `AGE-SECRET-KEY-1…`.
const KEY: &str = "STAGEWRIGHT_AGE_IDENTITY";
/// A file of keys, as age-keygen writes it.
const KEY_FILE: &str = "STAGEWRIGHT_AGE_IDENTITY_FILE";
const USUAL_KEY_FILE: &str = ".config/stagewright/age.txt";
/// Of an encrypted file: armour takes a third, and a file can hold many secrets.
const FILE: usize = 1024 * 1024;

/// The text of the file, or one key of the TOML in it.
pub(crate) fn decrypted(path: &str, key: Option<&str>, around: &SourceContext) -> Result<Zeroizing<String>, Fault> {
    let encrypted = local::bytes(path, FILE, around)?;
    let (identities, whence) = identities(around)?;
    let cannot = |error: &DecryptError| {
        let fault = Fault::new(format!("can't be decrypted from {path}: {error}"));
        match error {
            DecryptError::NoMatchingKeys => {
                fault.help(format!("encrypt the file to the recipient of {whence}, or set {KEY_FILE} to the right key"))
            }
            _ => fault.help(format!("encrypt it again: `age -r RECIPIENT -o {path}`")),
        }
    };
    let decryptor =
        Decryptor::new_buffered(ArmoredReader::new(encrypted.as_slice())).map_err(|error| cannot(&error))?;
    if decryptor.is_scrypt() {
        return Err(Fault::new(format!(
            "can't be decrypted from {path}: it takes a passphrase, which can't be typed here"
        ))
        .help(format!("encrypt it to a key: `age -r RECIPIENT -o {path}`")));
    }
    let mut plain = Zeroizing::new(Vec::new());
    decryptor
        .decrypt(identities.iter().map(|identity| &**identity as &dyn Identity))
        .map_err(|error| cannot(&error))?
        .take(FILE as u64)
        .read_to_end(&mut plain)
        .map_err(|error| cannot(&DecryptError::Io(error)))?;
    if key.is_none() && plain.len() > LARGEST + 2 {
        return Err(Fault::new(format!("has more than {LARGEST} bytes, in {path}"))
            .help(format!("name one key of the TOML in it: `age:{path}#KEY`")));
    }
    let text = text(plain.to_vec(), &format!("the content of {path}"))?;
    match key {
        None => Ok(without_last_newline(text)),
        Some(key) => entry(&text, path, key),
    }
}

fn entry(document: &str, path: &str, key: &str) -> Result<Zeroizing<String>, Fault> {
    // The parser's own words quote the line, secret and all.
    let table: toml::Table = document.parse().map_err(|_| {
        Fault::new(format!("can't be picked from {path}: its content is no TOML"))
            .help("write lines like `token = \"value\"` before encrypting it, or leave `#KEY` out")
    })?;
    match table.get(key) {
        Some(toml::Value::String(value)) => Ok(Zeroizing::new(value.clone())),
        Some(other) => Err(Fault::new(format!(
            "can't be picked from {path}: `{key}` is no string but of the type {}",
            other.type_str()
        ))
        .help("put the value in quotes")),
        None => Err(Fault::new(format!("is not in {path}: there is no key `{key}`"))
            .help(format!("add `{key} = \"value\"` to it, or correct `#{key}` in [secrets.*]"))),
    }
}

type Identities = Vec<Box<dyn Identity + Send + Sync>>;

/// The keys of this machine, and where they were found.
fn identities(around: &SourceContext) -> Result<(Identities, String), Fault> {
    let (content, whence) = if let Some(key) = around.variable(KEY) {
        (Zeroizing::new(key.to_owned()), KEY.to_owned())
    } else {
        let file = match around.variable(KEY_FILE) {
            Some(file) => around.root.join(file),
            None => around.at_home(USUAL_KEY_FILE).ok_or_else(|| {
                Fault::new("can't be decrypted: no age key is set").help(format!("set {KEY_FILE} to a file of keys"))
            })?,
        };
        let content = stagewright_files::read_text(&file, stagewright_files::CONFIGURATION).map_err(|error| {
            Fault::new(format!("can't be decrypted: no age key can be read from {}: {error}", file.display()))
                .help(format!("make one with `age-keygen -o {}`, or set {KEY_FILE} or {KEY}", file.display()))
        })?;
        (Zeroizing::new(content), file.display().to_string())
    };
    let parsed = IdentityFile::from_buffer(content.as_bytes())
        .map_err(|error| error.to_string())
        .and_then(|file| file.into_identities().map_err(|error| error.to_string()));
    match parsed {
        Ok(identities) if !identities.is_empty() => Ok((identities, whence)),
        Ok(_) => Err(Fault::new(format!("can't be decrypted: there is no age key in {whence}"))
            .help("it takes a line that begins with `AGE-SECRET-KEY-1`")),
        Err(why) => Err(Fault::new(format!("can't be decrypted: {whence} holds no age keys: {why}"))
            .help("it takes lines that begin with `AGE-SECRET-KEY-1`; SSH keys and plugins are not read")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use age::secrecy::ExposeSecret as _;
    use age::x25519;

    use super::*;

    fn around(folder: &Path, identity: &x25519::Identity) -> SourceContext {
        let variables = [(KEY.to_owned(), identity.to_string().expose_secret().to_owned())].into();
        SourceContext { variables, root: folder.to_owned(), ..SourceContext::default() }
    }

    fn get(from: &str, around: &SourceContext) -> Result<String, String> {
        let (path, key) = from.split_once('#').map_or((from, None), |(path, key)| (path, Some(key)));
        decrypted(path, key, around).map(|value| value.to_string()).map_err(|fault| fault.of("x").message)
    }

    #[test]
    fn files_are_read_binary_and_armored_whole_and_by_key() {
        let (folder, identity) = (tempfile::tempdir().unwrap(), x25519::Identity::generate());
        let (recipient, around) = (identity.to_public(), around(folder.path(), &identity));
        let document = b"token = \"hunter22\"\nport = 1\n";
        std::fs::write(folder.path().join("a.age"), age::encrypt(&recipient, document).unwrap()).unwrap();
        let armored = age::encrypt_and_armor(&recipient, b"hunter23\n").unwrap();
        std::fs::write(folder.path().join("b.age"), armored).unwrap();
        assert_eq!(get("a.age#token", &around).unwrap(), "hunter22");
        assert_eq!(get("b.age", &around).unwrap(), "hunter23");
        assert!(get("a.age#other", &around).unwrap_err().contains("there is no key `other`"));
        assert!(get("a.age#port", &around).unwrap_err().contains("of the type integer"));
        let no_toml = get("b.age#token", &around).unwrap_err();
        assert!(no_toml.contains("is no TOML") && !no_toml.contains("hunter23"), "{no_toml}");
    }

    #[test]
    fn keys_are_looked_for_where_they_may_be() {
        let (folder, identity) = (tempfile::tempdir().unwrap(), x25519::Identity::generate());
        let sealed = age::encrypt(&identity.to_public(), b"hunter22").unwrap();
        std::fs::write(folder.path().join("a.age"), sealed).unwrap();
        let home = folder.path().join("home");
        let mut around = SourceContext { root: folder.path().to_owned(), home, ..SourceContext::default() };
        assert!(get("a.age", &around).unwrap_err().contains("home/.config/stagewright/age.txt"));
        let keys = format!("# created by hand\n{}\n", identity.to_string().expose_secret());
        std::fs::create_dir_all(around.home.join(".config/stagewright")).unwrap();
        std::fs::write(around.home.join(USUAL_KEY_FILE), &keys).unwrap();
        assert_eq!(get("a.age", &around).unwrap(), "hunter22");
        std::fs::write(folder.path().join("wrong.txt"), x25519::Identity::generate().to_string().expose_secret())
            .unwrap();
        around.variables.insert(KEY_FILE.to_owned(), "wrong.txt".to_owned());
        assert!(get("a.age", &around).unwrap_err().contains("No matching keys"));
        std::fs::write(folder.path().join("wrong.txt"), "hunter24").unwrap();
        let error = get("a.age", &around).unwrap_err();
        assert!(error.contains("holds no age keys") && !error.contains("hunter24"), "{error}");
    }

    #[test]
    fn what_was_tampered_with_is_refused() {
        let (folder, identity) = (tempfile::tempdir().unwrap(), x25519::Identity::generate());
        let mut sealed = age::encrypt(&identity.to_public(), b"hunter22").unwrap();
        *sealed.last_mut().unwrap() ^= 1;
        std::fs::write(folder.path().join("a.age"), sealed).unwrap();
        std::fs::write(folder.path().join("plain.age"), "hunter22").unwrap();
        let around = around(folder.path(), &identity);
        assert!(get("a.age", &around).unwrap_err().contains("can't be decrypted from a.age"));
        let error = get("plain.age", &around).unwrap_err();
        assert!(error.contains("can't be decrypted") && !error.contains("hunter22"), "{error}");
    }
}
