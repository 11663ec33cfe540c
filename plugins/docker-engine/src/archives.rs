//! Files in containers, as archives of tar.

use stagewright_sdk::http::Request;
use stagewright_sdk::{Error, Result};

use crate::{ANSWER, Engine, accepted, encoded};

/// The size of a header, and what the content of a file is padded to.
const BLOCK: usize = 512;

/// A file of a container as the engine returned it, with its owner and its mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive(Vec<u8>);

impl Archive {
    /// A regular file that root owns and everyone may read. At most 100 bytes of the name are kept, which is what the
    /// header has room for.
    pub fn of_file(name: &str, content: &str) -> Archive {
        Archive::of_files([(name, content)])
    }

    /// Like [`Archive::of_file`], for several files: their names and contents.
    pub fn of_files<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Archive {
        let mut archive = Vec::new();
        for (name, content) in files {
            archive.extend_from_slice(&header(name, content.len()));
            archive.extend_from_slice(content.as_bytes());
            archive.resize(archive.len().next_multiple_of(BLOCK), 0);
        }
        // Two empty blocks are the end of an archive.
        archive.resize(archive.len() + 2 * BLOCK, 0);
        Archive(archive)
    }

    /// The archive itself.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The content of the first regular file; none for a folder or a link.
    pub fn content(&self) -> Option<&[u8]> {
        let mut rest = self.0.as_slice();
        loop {
            let header = rest.get(..BLOCK)?;
            let size = std::str::from_utf8(&header[124..136]).ok()?.trim_end_matches(['\0', ' ']);
            let size = usize::from_str_radix(size, 8).ok()?;
            let content = rest.get(BLOCK..BLOCK.checked_add(size)?)?;
            match header[156] {
                b'0' | 0 => return Some(content),
                // What has no room in the header precedes it.
                b'x' | b'g' => rest = rest.get(BLOCK + size.next_multiple_of(BLOCK)..)?,
                _ => return None,
            }
        }
    }
}

/// A header in the format of POSIX.1-1988; see <https://www.gnu.org/software/tar/manual/html_node/Standard.html>.
fn header(name: &str, size: usize) -> Vec<u8> {
    let mut header = vec![0; BLOCK];
    let mut set = |at: usize, field: &[u8]| header[at..at + field.len()].copy_from_slice(field);
    set(0, &name.as_bytes()[..name.len().min(100)]);
    set(100, b"0000644\0");
    set(108, b"0000000\0");
    set(116, b"0000000\0");
    set(124, format!("{size:011o}\0").as_bytes());
    set(136, b"00000000000\0");
    // The checksum counts itself as spaces.
    set(148, b"        ");
    set(156, b"0");
    set(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

impl Engine {
    /// A file of a container.
    ///
    /// # Errors
    /// If the engine refuses it: with [`stagewright_sdk::ErrorCode::NotFound`] if it doesn't have the container or the file.
    pub fn read_archive(&self, container: &str, path: &str) -> Result<Archive> {
        let path = format!("/containers/{container}/archive?path={}", encoded(path));
        Ok(Archive(self.send("GET", &path, None)?.bytes(ANSWER)?))
    }

    /// Replaces files in a folder of a container, which may be in a volume.
    ///
    /// # Errors
    /// If the engine refuses it, as when the folder doesn't exist, or is read-only.
    pub fn write_archive(&self, container: &str, folder: &str, archive: &Archive) -> Result<()> {
        let path = format!("/containers/{container}/archive?path={}&noOverwriteDirNonDir=1", encoded(folder));
        let mut request = Request::new("PUT", &self.url(&path));
        request.header("content-type", "application/x-tar").body(archive.as_bytes());
        accepted(request.send()?, "PUT", &path)
            .map(drop)
            .map_err(|error: Error| error.context(format!("can't write to {folder} in the container {container}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_a_header_its_padded_content_and_two_empty_blocks() {
        let Archive(archive) = Archive::of_file("app.servers", "server a:1;\n");
        assert_eq!(archive.len(), 4 * BLOCK);
        assert_eq!(&archive[..12], b"app.servers\0");
        assert_eq!(&archive[124..136], b"00000000014\0");
        // As GNU tar computes it for this header.
        assert_eq!(&archive[148..156], b"010133\0 ");
        assert_eq!(&archive[BLOCK..BLOCK + 12], b"server a:1;\n");
        assert!(archive[BLOCK + 12..].iter().all(|byte| *byte == 0));
        assert_eq!(Archive::of_file("app", "a:1").content(), Some(&b"a:1"[..]));
        assert_eq!(Archive::of_file("full", &"x".repeat(BLOCK)).0.len(), 4 * BLOCK);
    }

    #[test]
    fn only_regular_files_have_a_content() {
        let typed = |kind: u8| {
            let Archive(mut archive) = Archive::of_file("app", "a:1");
            archive[156] = kind;
            archive
        };
        assert_eq!(Archive(typed(b'5')).content(), None);
        let extended = [&typed(b'x')[..2 * BLOCK], &Archive::of_file("app", "b:1").0].concat();
        assert_eq!(Archive(extended).content(), Some(&b"b:1"[..]));
        for length in 0..2 * BLOCK {
            // Cut off anywhere, it isn't read beyond its end.
            let _ = Archive(typed(b'0')[..length].to_vec()).content();
        }
        assert_eq!(Archive(typed(b'0')[..BLOCK].to_vec()).content(), None);
    }
}
