//! Unpacks the layers of an image into a folder.
//!
//! The image is not trusted: every path is resolved relative to the folder's handle, and neither `..` nor a symbolic link
//! of an earlier entry can lead out of it. Set-user-id bits are not restored, owners only on request, and devices are refused.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{self, BufReader, Read};
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _, Permissions, PermissionsExt as _};
use flate2::read::MultiGzDecoder;
use rustix::fs::{AtFlags, Gid, Uid};
use stagewright_files::remove_tree_at;
use tar::{Archive, Entry, EntryType};

use crate::content::MANIFEST_BYTES;
use crate::error::{OciError, OciErrorKind};
use crate::layout::Layout;

/// The most bytes of all layers together, uncompressed. The limit stops decompression bombs.
const LARGEST_IMAGE: u64 = 8 * 1024 * 1024 * 1024;

/// The least that an entry counts for, in bytes: an inode and a block. Without it a small archive of empty files could fill
/// the disk's inodes.
const ENTRY_BYTES: u64 = 8 * 1024;

/// The limit in bytes for an entry's header with its long names and its list of holes. The `tar` crate reads all of it into
/// memory, whatever size it states.
const HEADER_BYTES: u64 = 1024 * 1024;

/// The permissions of a folder that no layer describes.
const FOLDER_MODE: u32 = 0o755;

/// An entry `.wh.NAME` removes NAME of lower layers; `.wh..wh..opq` removes all content of its folder from lower layers.
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// An image that was unpacked into a folder, with its configuration.
pub struct UnpackedImage {
    config: Vec<u8>,
    root: Dir,
}

/// Whom the unpacked files belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// The user of this process.
    Own,
    /// The users and groups that the image names, by their numbers. Only root can give files away.
    OfImage,
}

impl Layout {
    /// Unpacks all layers of the image whose manifest has this digest into the folder `root`, which is created if it does
    /// not exist. Blocks.
    ///
    /// # Errors
    /// When the image is not in the layout or is an index of several images, when a layer would write outside of `root` or
    /// the image exceeds the limit of 8 GiB, and when a file can't be written.
    pub fn unpack(&self, digest: &str, root: &Path, owners: Owners) -> Result<UnpackedImage, OciError> {
        let manifest = self.by_digest(digest)?;
        let Some(config) = &manifest.parsed.config else {
            let words = format!("{digest} is an index of several images");
            return Err(OciError::new(OciErrorKind::UnusableContent, words)
                .with_help("deploy the digest of the image for this machine's platform"));
        };
        std::fs::create_dir_all(root).map_err(|error| unusable(root, error))?;
        let folder = Dir::open_ambient_dir(root, ambient_authority()).map_err(|error| unusable(root, error))?;
        // Whatever the umask is: a user of the image may not be its owner.
        let root_mode = folder.set_permissions(".", Permissions::from_mode(FOLDER_MODE));
        root_mode.map_err(|error| unusable(root, error))?;
        let mut unpacker = Unpacker::new(&folder, owners);
        for layer in &manifest.parsed.layers {
            unpacker.layer(&self.blob(layer)?, &layer.digest)?;
        }
        let path = self.blob(config)?;
        let config = stagewright_files::read_unlinked(&path, MANIFEST_BYTES).map_err(|error| unusable(&path, error))?;
        Ok(UnpackedImage { config, root: folder })
    }
}

impl UnpackedImage {
    /// The image's configuration, JSON as defined by the image-spec. It has not been validated.
    pub fn config(&self) -> &[u8] {
        &self.config
    }

    /// Creates a folder of the image, and the folders above it, if they do not exist.
    ///
    /// # Errors
    /// When the path leads out of the image, directly or through a link, or is a file.
    pub fn create_folder(&self, path: &Path) -> io::Result<()> {
        create_folders(&self.root, path)
    }
}

/// Creates the folders of a path that don't exist, whatever the umask is.
fn create_folders(root: &Dir, path: &Path) -> io::Result<()> {
    let mut folder = PathBuf::new();
    for name in path.components() {
        folder.push(name);
        if !root.is_dir(&folder) {
            root.create_dir(&folder)?;
            root.open_dir(&folder)?.set_permissions(".", Permissions::from_mode(FOLDER_MODE))?;
        }
    }
    Ok(())
}

fn unusable(path: &Path, error: io::Error) -> OciError {
    OciError::new(OciErrorKind::Disk, format!("`{}` can't be used", path.display())).caused_by(error)
}

/// Applies layers in order.
struct Unpacker<'a> {
    root: &'a Dir,
    owners: Owners,
    /// The bytes that the image may still unpack to.
    left: u64,
}

impl<'a> Unpacker<'a> {
    fn new(root: &'a Dir, owners: Owners) -> Unpacker<'a> {
        Unpacker { root, owners, left: LARGEST_IMAGE }
    }

    /// Applies one layer, a tar archive, plain or compressed with gzip.
    fn layer(&mut self, path: &Path, digest: &str) -> Result<(), OciError> {
        let failed = |error: io::Error| {
            OciError::new(OciErrorKind::UnusableContent, format!("layer {digest} can't be unpacked")).caused_by(error)
        };
        let mut file = BufReader::new(stagewright_files::open(path).map_err(failed)?);
        let mut magic = [0; 4];
        let known = io::Read::by_ref(&mut file).take(4).read(&mut magic).map_err(failed)?;
        let whole = io::Cursor::new(magic[..known].to_vec()).chain(file);
        match magic {
            [0x1f, 0x8b, ..] => self.entries(MultiGzDecoder::new(whole)).map_err(failed),
            [0x28, 0xb5, 0x2f, 0xfd] => {
                Err(OciError::new(OciErrorKind::UnusableContent, format!("layer {digest} is compressed with zstd"))
                    .with_help("rebuild the image with uncompressed or gzip-compressed layers"))
            }
            _ => self.entries(whole).map_err(failed),
        }
    }

    fn entries(&mut self, layer: impl Read) -> io::Result<()> {
        let mut fresh = BTreeSet::new();
        let allowance = Rc::new(Cell::new(HEADER_BYTES));
        let mut archive = Archive::new(LimitedLayer { layer, allowance: allowance.clone() });
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = relative(&entry.path()?)?;
            let size = entry.size().max(ENTRY_BYTES);
            self.left = self.left.checked_sub(size).ok_or_else(|| invalid("the image unpacks to over 8 GiB"))?;
            allowance.set(size);
            self.entry(&path, &mut entry, &mut fresh)
                .and_then(|()| io::copy(&mut entry, &mut io::sink()))
                .map_err(|error| io::Error::new(error.kind(), format!("`{}`: {error}", path.display())))?;
            allowance.set(HEADER_BYTES);
        }
        Ok(())
    }

    /// Unpacks an entry. `fresh` has the paths that this layer has created so far, with the folders above them.
    fn entry(&self, path: &Path, entry: &mut Entry<'_, impl Read>, fresh: &mut BTreeSet<PathBuf>) -> io::Result<()> {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
        let parent = path.parent().unwrap_or(Path::new(""));
        if name == OPAQUE {
            return self.hide_content(parent, fresh);
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            if matches!(hidden, "" | "." | "..") {
                return Err(invalid("is a whiteout without a name"));
            }
            return self.hide(&parent.join(hidden), fresh);
        }
        fresh.extend(path.ancestors().map(Path::to_owned));
        if !parent.as_os_str().is_empty() {
            create_folders(self.root, parent)?;
        }
        let kind = entry.header().entry_type();
        if kind == EntryType::Directory {
            if !self.root.symlink_metadata(path).is_ok_and(|there| there.is_dir()) {
                self.remove(path)?;
                self.root.create_dir(path)?;
            }
            let folder = self.root.open_dir(path)?;
            // With the sticky bit of `/tmp`. The owner keeps all rights, so that the image can be unpacked and removed.
            let mode = entry.header().mode()? & 0o1777 | 0o700;
            self.give(&folder, entry)?;
            return folder.set_permissions(".", Permissions::from_mode(mode));
        }
        self.remove(path)?;
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let mode = entry.header().mode()? & 0o755 | 0o600;
                let mut options = OpenOptions::new();
                let mut file = self.root.open_with(path, options.write(true).create_new(true).mode(mode))?;
                io::copy(entry, &mut file)?;
                self.give(&file, entry)?;
                // The umask may have removed permissions when the file was created.
                file.set_permissions(Permissions::from_mode(mode))
            }
            EntryType::Symlink => {
                let target = entry.link_name()?.ok_or_else(|| invalid("is a link to nothing"))?;
                self.root.symlink(below(path, &target), path)
            }
            EntryType::Link => {
                let target = entry.link_name()?.ok_or_else(|| invalid("is a link to nothing"))?;
                self.root.hard_link(relative(&target)?, self.root, path)
            }
            _ => Err(invalid("isn't a file, folder or link")),
        }
    }

    /// Makes an open file or folder belong to the owner of the entry.
    fn give(&self, file: impl AsFd, entry: &Entry<'_, impl Read>) -> io::Result<()> {
        if self.owners == Owners::Own {
            return Ok(());
        }
        // Some archives leave the fields empty, which means root, as it does for tar.
        let number = |id: io::Result<u64>| u32::try_from(id.unwrap_or(0));
        let owner = number(entry.header().uid()).and_then(|user| Ok((user, number(entry.header().gid())?)));
        let (user, group) = owner.map_err(|_| invalid("belongs to a user that doesn't exist"))?;
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        Ok(rustix::fs::chownat(file, "", Some(user), Some(group), AtFlags::EMPTY_PATH)?)
    }

    /// Applies a whiteout. By the image-spec, a whiteout hides files of lower layers and never files of its own layer,
    /// whatever the order of the entries. So a path that this layer has created is kept, and in a folder only the entries
    /// that this layer has not created are removed.
    fn hide(&self, path: &Path, fresh: &BTreeSet<PathBuf>) -> io::Result<()> {
        if !fresh.contains(path) {
            return self.remove(path);
        }
        if self.root.symlink_metadata(path)?.is_dir() { self.hide_content(path, fresh) } else { Ok(()) }
    }

    fn hide_content(&self, path: &Path, fresh: &BTreeSet<PathBuf>) -> io::Result<()> {
        let folder = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let Ok(entries) = self.root.read_dir(folder) else { return Ok(()) };
        for entry in entries {
            self.hide(&path.join(entry?.file_name()), fresh)?;
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match self.root.symlink_metadata(path) {
            Ok(there) if there.is_dir() => match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) if parent.as_os_str().is_empty() => remove_tree_at(self.root, name),
                (Some(parent), Some(name)) => remove_tree_at(self.root.open_dir(parent)?, name),
                _ => Err(invalid("has no name")),
            },
            Ok(_) => self.root.remove_file(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// A reader that fails when the part of the layer that is being read exceeds its allowance: an entry's header or content.
struct LimitedLayer<R> {
    layer: R,
    allowance: Rc<Cell<u64>>,
}

impl<R: Read> Read for LimitedLayer<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.allowance.get().min(buffer.len() as u64);
        if most == 0 && !buffer.is_empty() {
            return Err(invalid("an entry's header is longer than 1 MiB"));
        }
        let read = self.layer.read(&mut buffer[..most as usize])?;
        self.allowance.set(self.allowance.get() - read as u64);
        Ok(read)
    }
}

/// The path relative to the root: `..` is refused, a leading `/` or `./` is ignored.
fn relative(path: &Path) -> io::Result<PathBuf> {
    let mut relative = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => relative.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(invalid("leads out of the image")),
        }
    }
    Ok(relative)
}

/// The relative target of a link at `path` that leads to `target`, which is relative to the image's root if it is absolute.
fn below(path: &Path, target: &Path) -> PathBuf {
    let Ok(from_root) = target.strip_prefix("/") else { return target.to_owned() };
    let up = path.parent().map_or(0, |parent| parent.components().count());
    std::iter::repeat_n("..", up).collect::<PathBuf>().join(from_root)
}

fn invalid(words: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests read what they made themselves")]
mod tests {
    use super::*;
    use tar::{Builder, Header};

    fn entry(kind: EntryType, path: &str, link: &str, data: &[u8]) -> Vec<u8> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        header.set_size(data.len() as u64);
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        if !link.is_empty() {
            header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        }
        header.set_cksum();
        let mut builder = Builder::new(Vec::new());
        builder.append(&header, data).unwrap();
        let mut bytes = builder.into_inner().unwrap();
        bytes.truncate(bytes.len() - 1024);
        bytes
    }

    fn unpack(entries: &[Vec<u8>]) -> (tempfile::TempDir, Result<(), OciError>) {
        unpack_layers(&[entries], LARGEST_IMAGE)
    }

    fn unpack_layers(layers: &[&[Vec<u8>]], left: u64) -> (tempfile::TempDir, Result<(), OciError>) {
        unpack_as(Owners::Own, layers, left)
    }

    fn unpack_as(owners: Owners, layers: &[&[Vec<u8>]], left: u64) -> (tempfile::TempDir, Result<(), OciError>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("outside"), "precious").unwrap();
        std::fs::create_dir(folder.path().join("root")).unwrap();
        let root = Dir::open_ambient_dir(folder.path().join("root"), ambient_authority()).unwrap();
        let mut unpacker = Unpacker { root: &root, owners, left };
        let result = layers.iter().try_for_each(|entries| {
            let layer = folder.path().join("layer");
            std::fs::write(&layer, [entries.concat(), vec![0; 1024]].concat()).unwrap();
            unpacker.layer(&layer, "sha256:test")
        });
        (folder, result)
    }

    #[test]
    fn files_and_links_are_unpacked_without_set_user_id_bits() {
        let (folder, result) = unpack(&[
            entry(EntryType::Regular, "./bin/app", "", b"one"),
            entry(EntryType::Symlink, "bin/sh", "/bin/app", b""),
            entry(EntryType::Link, "hard", "bin/app", b""),
        ]);
        result.unwrap();
        let root = folder.path().join("root");
        for path in ["bin/app", "bin/sh", "hard"] {
            assert_eq!(std::fs::read_to_string(root.join(path)).unwrap(), "one", "{path}");
        }
        let mode = std::os::unix::fs::PermissionsExt::mode(&root.join("bin/app").metadata().unwrap().permissions());
        assert_eq!(mode & 0o7777, 0o755);
    }

    #[test]
    fn folders_have_the_permissions_of_the_image_and_files_its_owners_on_request() {
        let owned = |kind: EntryType, path: &str, mode: u32| {
            let mut header = Header::new_ustar();
            header.set_entry_type(kind);
            header.set_path(path).unwrap();
            header.set_mode(mode);
            header.set_uid(70);
            header.set_gid(71);
            header.set_size(0);
            header.set_cksum();
            header.as_bytes().to_vec()
        };
        let lower = [owned(EntryType::Directory, "tmp", 0o1777), owned(EntryType::Directory, "closed", 0o4050)];
        let mut without_owner = Header::new_ustar();
        without_owner.set_path("unowned").unwrap();
        without_owner.set_mode(0o644);
        without_owner.set_size(0);
        without_owner.set_cksum();
        let upper = [owned(EntryType::Regular, "tmp/new/file", 0o664), without_owner.as_bytes().to_vec()];
        let is_root = rustix::process::geteuid().is_root();
        for owners in [Owners::Own, Owners::OfImage] {
            let (folder, result) = unpack_as(owners, &[&lower, &upper], LARGEST_IMAGE);
            if owners == Owners::OfImage && !is_root {
                assert!(result.is_err());
                continue;
            }
            result.unwrap();
            let found = |path: &str| folder.path().join("root").join(path).metadata().unwrap();
            use std::os::unix::fs::MetadataExt as _;
            let modes = ["tmp", "closed", "tmp/new", "tmp/new/file"].map(|path| found(path).mode() & 0o7777);
            assert_eq!(modes, [0o1777, 0o750, 0o755, 0o644]);
            if owners == Owners::OfImage {
                let owners = ["tmp", "tmp/new", "tmp/new/file", "unowned"];
                let owners = owners.map(|path| (found(path).uid(), found(path).gid()));
                assert_eq!(owners, [(70, 71), (0, 0), (70, 71), (0, 0)]);
            }
        }
    }

    #[test]
    fn whiteouts_hide_files_of_lower_layers_only() {
        let file = |path: &str| entry(EntryType::Regular, path, "", b"x");
        let lower = ["gone", "stays", "full/old", "full/deep/old"].map(file);
        // The whiteouts are both before and after the entries of this layer that they must not remove.
        let upper = ["full/new", ".wh.gone", "full/deep/new", "full/.wh..wh..opq", "again", ".wh.again"].map(file);
        let (folder, result) = unpack_layers(&[&lower, &upper], LARGEST_IMAGE);
        result.unwrap();
        let exists = |path: &&str| folder.path().join("root").join(path).exists();
        let paths = ["gone", "stays", "full/old", "full/deep/old", "full/new", "full/deep/new", "again"];
        let left: Vec<&str> = paths.into_iter().filter(exists).collect();
        assert_eq!(left, ["stays", "full/new", "full/deep/new", "again"]);
    }

    #[test]
    fn a_whiteout_without_a_name_is_refused() {
        for name in ["full/.wh.", "full/.wh..", "full/.wh..."] {
            let file = |path: &str| entry(EntryType::Regular, path, "", b"x");
            let (folder, result) = unpack_layers(&[&[file("full/a")], &[file(name)]], LARGEST_IMAGE);
            assert!(result.is_err(), "{name}");
            assert!(folder.path().join("root/full/a").exists(), "{name}");
        }
    }

    #[test]
    fn images_with_too_many_bytes_or_files_are_refused() {
        let limit = 3 * ENTRY_BYTES;
        let empty = |count: usize| vec![entry(EntryType::Regular, "empty", "", b""); count];
        let large = [entry(EntryType::Regular, "large", "", &vec![0; limit as usize + 512])];
        unpack_layers(&[&empty(3)], limit).1.unwrap();
        for layers in [[&empty(2)[..], &empty(2)], [&empty(0), &large]] {
            let error = unpack_layers(&layers, limit).1.unwrap_err();
            assert!(error.source.as_ref().unwrap().to_string().contains("8 GiB"), "{error:?}");
        }
    }

    #[test]
    fn an_entry_with_an_overlong_header_is_refused() {
        let file = entry(EntryType::Regular, "app", "", b"one");
        for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
            let long = |length: u64| entry(kind, "long", "", &vec![0; length as usize]);
            let error = unpack(&[long(HEADER_BYTES), file.clone()]).1.unwrap_err();
            assert!(error.source.as_ref().unwrap().to_string().contains("header"), "{kind:?}: {error:?}");
        }
        let long = "folder/".repeat(100) + "app";
        let (folder, result) = unpack(&[entry(EntryType::GNULongName, "long", "", long.as_bytes()), file]);
        result.unwrap();
        assert!(folder.path().join("root").join(long).is_file());
    }

    #[test]
    fn holes_of_a_sparse_file_count_towards_the_limit() {
        let (folder, result) = unpack(&[sparse(LARGEST_IMAGE + 512)]);
        let error = result.unwrap_err();
        assert!(error.source.as_ref().unwrap().to_string().contains("8 GiB"), "{error:?}");
        assert!(!folder.path().join("root/sparse").exists());
        let (folder, result) = unpack(&[sparse(1 << 20), entry(EntryType::Regular, "app", "", b"one")]);
        result.unwrap();
        assert_eq!(folder.path().join("root/sparse").metadata().unwrap().len(), 1 << 20);
        assert!(folder.path().join("root/app").is_file());
    }

    /// A file in GNU's sparse format that consists of a single hole.
    fn sparse(size: u64) -> Vec<u8> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNUSparse);
        header.set_mode(0o644);
        header.set_path("sparse").unwrap();
        header.set_size(0);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.sparse[0].set_offset(size);
        gnu.sparse[0].set_length(0);
        gnu.set_real_size(size);
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    #[test]
    fn entries_that_lead_out_of_the_folder_are_refused() {
        let attacks = [
            vec![entry(EntryType::Regular, "../outside", "", b"owned")],
            vec![entry(EntryType::Symlink, "way", "..", b""), entry(EntryType::Regular, "way/outside", "", b"owned")],
            vec![
                entry(EntryType::Symlink, "way", "../outside", b""),
                entry(EntryType::Link, "own", "way", b""),
                entry(EntryType::Regular, "own/x", "", b"owned"),
            ],
            vec![entry(EntryType::Link, "own", "../outside", b"")],
            vec![entry(EntryType::Char, "null", "", b"")],
        ];
        for (number, attack) in attacks.iter().enumerate() {
            let (folder, result) = unpack(attack);
            assert!(result.is_err(), "attack {number}");
            assert_eq!(std::fs::read_to_string(folder.path().join("outside")).unwrap(), "precious", "attack {number}");
        }
    }

    #[test]
    fn a_file_replaces_a_link_and_not_its_target() {
        let (folder, result) = unpack(&[
            entry(EntryType::Symlink, "way", "../outside", b""),
            entry(EntryType::Regular, "way", "", b"mine"),
        ]);
        result.unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("outside")).unwrap(), "precious");
        assert_eq!(std::fs::read_to_string(folder.path().join("root/way")).unwrap(), "mine");
    }
}
