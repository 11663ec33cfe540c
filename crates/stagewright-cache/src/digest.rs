//! SHA-256 digests of text, files and structured values.

use std::fmt;
use std::io::{self, Read as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Files of up to this many bytes are read with a single call.
const SMALL: u64 = 64 << 10;

/// A SHA-256 digest, shown as `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    /// The digest of content in memory.
    pub(crate) fn of(content: impl AsRef<[u8]>) -> Digest {
        Digest(Sha256::digest(content).into())
    }

    /// The digest of a file's content.
    pub(crate) fn of_file(path: &Path) -> io::Result<Digest> {
        let mut file = stagewright_files::open(path)?;
        let size = file.metadata()?.len();
        Digest::of_reader(&mut file, size)
    }

    /// The digest of everything that `source` returns, which should be about `size` bytes.
    pub(crate) fn of_reader(source: &mut impl io::Read, size: u64) -> io::Result<Digest> {
        if size > SMALL {
            return copy(source, &mut io::sink());
        }
        let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
        source.take(SMALL + 1).read_to_end(&mut content)?;
        if content.len() as u64 > SMALL {
            return copy(&mut io::Cursor::new(content).chain(source), &mut io::sink());
        }
        Ok(Digest::of(content))
    }

    /// Parses `sha256:…`; none for any other text.
    pub(crate) fn parse(text: &str) -> Option<Digest> {
        let digits = text.strip_prefix("sha256:").filter(|digits| digits.len() == 64)?.as_bytes();
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let value = |digit: u8| char::from(digit).to_digit(16).filter(|_| !digit.is_ascii_uppercase());
            *byte = u8::try_from(value(pair[0])? * 16 + value(pair[1])?).ok()?;
        }
        Some(Digest(bytes))
    }

    /// The hexadecimal digits without the prefix.
    pub(crate) fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digits = self.0.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        digits.map(char::from).collect()
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A digest that is being computed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hashing(Sha256);

impl Hashing {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds a field, preceded by its length, so that two different lists of fields never hash the same bytes.
    pub(crate) fn field(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// Copies `source` to its end and returns the digest of the content.
pub(crate) fn copy(source: &mut impl io::Read, target: &mut impl io::Write) -> io::Result<Digest> {
    let (mut hashing, mut buffer) = (Hashing::default(), vec![0; 128 * 1024]);
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(hashing.finish()),
            Ok(read) => {
                hashing.update(&buffer[..read]);
                target.write_all(&buffer[..read])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_parses_from_its_displayed_form() {
        let digest = Digest::of("");
        assert_eq!(digest.to_string(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        for bad in ["", "sha256:", "sha512:00", &digest.to_string().to_uppercase(), &format!("{digest}0")] {
            assert_eq!(Digest::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn content_of_any_size_has_the_digest_of_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        for size in [0, 1, SMALL as usize - 1, SMALL as usize, SMALL as usize + 1, 300_000] {
            let content = vec![b'x'; size];
            std::fs::write(&file, &content).unwrap();
            assert_eq!(Digest::of_file(&file).unwrap(), Digest::of(&content));
            // The file may have grown since its size was determined.
            assert_eq!(Digest::of_reader(&mut content.as_slice(), 0).unwrap(), Digest::of(&content));
        }
    }

    #[test]
    fn different_lists_of_fields_have_different_digests() {
        let of = |fields: &[&str]| {
            let mut hashing = Hashing::default();
            fields.iter().for_each(|field| hashing.field(field.as_bytes()));
            hashing.finish()
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["a"]), of(&["a", ""]));
    }
}
