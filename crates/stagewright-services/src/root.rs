//! Decides which files the program of a release has.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use object::elf::{FileHeader32, FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader as _};
use object::{Endianness, FileKind};
use stagewright_process::sandbox::{ImageRoot, is_privileged};
use stagewright_process::supervisor::ServiceRoot;

use crate::error::{ServiceError, ServiceErrorKind};
use crate::image::{self, Invocation, RunConfig};
use crate::release::{ReleaseSpec, RootFolder};
use crate::store::ServiceFolder;
use crate::volume;

impl ReleaseSpec {
    /// Checks what doesn't depend on the image.
    pub(crate) fn check_root(&self) -> Result<(), ServiceError> {
        volume::check(&self.volumes)?;
        match self.root {
            Some(RootFolder::Host) if !self.volumes.is_empty() => {
                Err(ServiceError::new(ServiceErrorKind::InvalidArgument, "volumes need the image's root").with_help(
                    "remove `root` or the volumes: a program with this machine's root has all of its folders",
                ))
            }
            _ => Ok(()),
        }
    }

    /// Whether the image's files keep their owners, for a program that runs as one of them.
    pub(crate) fn keeps_owners(&self) -> bool {
        // A stand-in runs in a user namespace with one user.
        self.root != Some(RootFolder::Host) && self.rehearsal.is_none() && is_privileged()
    }
}

/// The root of a release.
pub(crate) enum ChosenRoot {
    Image(ServiceRoot),
    /// With the loader that the image lacks, if that is why.
    Host(Option<String>),
}

/// Chooses the root of a release whose image is unpacked in `rootfs`.
pub(crate) fn choose(
    release: &ReleaseSpec,
    config: &RunConfig,
    rootfs: &Path,
    invocation: &Invocation,
    folder: &ServiceFolder,
) -> Result<ChosenRoot, ServiceError> {
    if release.root == Some(RootFolder::Host) {
        return Ok(ChosenRoot::Host(None));
    }
    if let Some(loader) = missing_loader(rootfs, &invocation.inside) {
        // An image of a program alone that is linked dynamically, as most compilers do, has no libraries for it.
        if release.root.is_none() && release.volumes.is_empty() {
            return Ok(ChosenRoot::Host(Some(loader)));
        }
        let message = format!("`{}` needs `{loader}`, which the image lacks", invocation.inside.display());
        return Err(ServiceError::new(ServiceErrorKind::UnusableImage, message).with_help(
            "link the program statically, build the image with the files that it needs, or give the release this \
             machine's root, without volumes: root = \"host\"",
        ));
    }
    let user = config.user(rootfs)?;
    let volumes = volume::prepare(folder, rootfs, &release.volumes, user.as_ref(), release.keeps_owners())?;
    Ok(ChosenRoot::Image(ServiceRoot { image: ImageRoot { folder: rootfs.to_owned(), user }, volumes }))
}

/// How many interpreters of interpreters are followed, as many as the kernel follows.
const MOST_INTERPRETERS: usize = 5;

/// What the kernel needs to start a program, and an image lacks: the dynamic loader of a program, or the interpreter of a
/// script.
fn missing_loader(rootfs: &Path, program: &Path) -> Option<String> {
    let mut program = program.to_owned();
    for _ in 0..MOST_INTERPRETERS {
        let needed = image::within(rootfs, &program).as_deref().and_then(loader_of)?;
        program = PathBuf::from(&needed);
        if program.is_absolute() && image::within(rootfs, &program).is_none() {
            return Some(needed);
        }
    }
    None
}

/// How many bytes of a program are read: its program headers and the path of its loader are at the beginning.
const HEAD: u64 = 64 * 1024;

/// What a program's file names as its loader or interpreter; none if it needs none, or can't be read.
fn loader_of(program: &Path) -> Option<String> {
    let mut head = Vec::new();
    stagewright_files::open(program).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next()?).into_owned();
        return line.split_ascii_whitespace().next().map(str::to_owned);
    }
    match FileKind::parse(head.as_slice()).ok()? {
        FileKind::Elf32 => loader_in::<FileHeader32<Endianness>>(&head),
        FileKind::Elf64 => loader_in::<FileHeader64<Endianness>>(&head),
        _ => None,
    }
}

fn loader_in<Header: FileHeader<Endian = Endianness>>(head: &[u8]) -> Option<String> {
    let header = Header::parse(head).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, head).ok()?;
    let segment = segments.iter().find(|segment| segment.p_type(endian) == PT_INTERP)?;
    Some(String::from_utf8_lossy(segment.data(endian, head).ok()?).trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_lacks_the_loader_of_its_program_until_it_has_it() {
        let root = tempfile::tempdir().unwrap();
        let add = |name: &str, content: &[u8]| std::fs::write(root.path().join(name), content).unwrap();
        std::fs::copy("/bin/sh", root.path().join("dynamic")).unwrap();
        let missing = |name: &str| missing_loader(root.path(), Path::new(name));
        let loader = missing("/dynamic").unwrap();
        assert!(loader.contains("/ld-"), "{loader}");
        add("script", b"#! /dynamic -e\necho\n");
        add("lost", b"#!/nowhere\n");
        add("text", b"echo\n");
        add("short", b"\x7fELF\x02\x01");
        assert_eq!(missing("/script"), Some(loader.clone()));
        assert_eq!(missing("/lost").as_deref(), Some("/nowhere"));
        assert_eq!((missing("/text"), missing("/short"), missing("/absent")), (None, None, None));
        let inside = root.path().join(&loader[1..]);
        std::fs::create_dir_all(inside.parent().unwrap()).unwrap();
        // The loader of a loader is none.
        std::fs::copy(&loader, &inside).unwrap();
        assert_eq!((missing("/dynamic"), missing("/script")), (None, None));
        add("loop", b"#!/loop\n");
        assert_eq!(missing("/loop"), None);
    }
}
