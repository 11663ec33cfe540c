//! Collects the files of a layer and writes its tar.

use std::io::{self, Write};

use stagewright_sdk::workspace::{self, Located, Node};
use stagewright_sdk::{Error, ErrorCode, Finding, Result};

use crate::config::{FileSpec, Layer, Platform};
use crate::elf;
use crate::stream::FileReader;
use crate::tree::{Entry, Form, Tree, file_mode, target};

/// How many neighbouring files the help of an error lists.
const NEIGHBOURS: usize = 6;

/// Collects a layer's files from the workspace.
pub(crate) fn collect(layer: &Layer, on_base: bool) -> Result<Tree> {
    let mut tree = Tree::default();
    for spec in &layer.files {
        add(&mut tree, spec, &layer.dest)?;
    }
    tree.check_links().map_err(Error::invalid)?;
    if !on_base {
        tree.add_parents().map_err(Error::invalid)?;
    }
    Ok(tree)
}

/// Adds what `from` names. If `from` itself is a link, its target is added; links found below a folder or by a glob are
/// added as links.
fn add(tree: &mut Tree, spec: &FileSpec, dest: &str) -> Result<()> {
    let from = spec.from.as_str();
    if from.contains(['*', '?', '[', '{']) {
        let found = workspace::locate(from)?.into_iter().filter(|found| !matches!(found.node, Node::Folder));
        return add_all(tree, spec, dest, Form::Glob, &found.collect::<Vec<_>>());
    }
    let here = matches!(from, "" | ".");
    let named = if here { None } else { workspace::glob(from)?.into_iter().next() };
    match named {
        Some(file) if !file.folder => {
            let special = workspace::locate(from)?.into_iter().find(|found| matches!(found.node, Node::Special(_)));
            let file = Located { path: file.path, node: Node::File, size: file.size };
            add_all(tree, spec, dest, Form::File, &[special.unwrap_or(file)])
        }
        Some(_) => add_all(tree, spec, dest, Form::Folder, &workspace::locate(&format!("{from}/**"))?),
        None if here => add_all(tree, spec, dest, Form::Folder, &workspace::locate("**")?),
        None => Err(missing(from)?),
    }
}

fn add_all(tree: &mut Tree, spec: &FileSpec, dest: &str, form: Form, found: &[Located]) -> Result<()> {
    if found.iter().all(|found| matches!(found.node, Node::Folder)) {
        let what = if form == Form::Glob { "matches no files" } else { "is a folder without files" };
        return Err(Error::new(ErrorCode::NotFound, format!("`{}` {what}", spec.from))
            .help("correct the path, or create the files in an earlier stage and add it to `needs`"));
    }
    for found in found {
        let to = target(spec, dest, &found.path, form);
        match &found.node {
            Node::Folder => tree.add_folder(&to).map_err(Error::invalid)?,
            Node::File => {
                let mode = file_mode(spec, workspace::executable(&found.path)?);
                tree.add_file(&to, &found.path, found.size, mode).map_err(Error::invalid)?;
            }
            Node::Link(leads_to) => tree.add_link(&to, &found.path, leads_to).map_err(Error::invalid)?,
            Node::Special(kind) => {
                return Err(Error::invalid(format!("`{}` is {kind}, which can't be added to an image", found.path))
                    .help("remove it before this stage, or list the other files in `files`"));
            }
        }
    }
    Ok(())
}

/// The error for a path that doesn't exist. Its help lists files of the nearest folder that exists.
fn missing(path: &str) -> Result<Error> {
    // `glob` leaves out what isn't granted, so such a path looks like a missing one. A read reports the denial.
    if let Err(error) = workspace::read_at(path, 0, 1)
        && error.is_denied()
    {
        return Ok(error);
    }
    if let Some(Located { node: Node::Link(leads_to), .. }) = workspace::locate(path)?.into_iter().next() {
        let message = format!("`{path}` is a link to `{leads_to}`, which doesn't exist or can't be read");
        return Ok(Error::new(ErrorCode::NotFound, message)
            .help("grant `read` on its target, or list its folder, which adds it as a link"));
    }
    let error = Error::new(ErrorCode::NotFound, format!("`{path}` does not exist in the workspace"));
    let mut folder = path;
    while let Some((parent, _)) = folder.rsplit_once('/') {
        folder = parent;
        let names: Vec<String> =
            workspace::glob(&format!("{parent}/*"))?.into_iter().map(|found| found.path).take(NEIGHBOURS).collect();
        if !names.is_empty() {
            return Ok(error.help(format!(
                "`{parent}` contains {}; build the missing file in an earlier stage",
                names.join(", ")
            )));
        }
    }
    Ok(error.help("build it in an earlier stage, and grant `read` on it"))
}

/// Writes the tar. Owners, times and the order of entries are fixed, so that two builds of the same files are equal.
pub(crate) fn write_tar(tree: &Tree, into: &mut dyn Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(into);
    for (path, entry) in &tree.entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(entry.mode());
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        match entry {
            Entry::Folder => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
                tar.append_data(&mut header, format!("{path}/"), io::empty())?;
            }
            Entry::File { source, size, .. } => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_size(*size);
                tar.append_data(&mut header, path, FileReader::part(source, 0, *size))?;
            }
            Entry::Link { leads_to, .. } => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                set_target(&mut tar, &mut header, leads_to)?;
                tar.append_data(&mut header, path, io::empty())?;
            }
        }
    }
    tar.finish()
}

/// Sets a link's target byte for byte, where the library's function would normalise it. A target that doesn't fit into the
/// header's field is written in an entry before it, the GNU extension that all readers of layers support.
fn set_target<W: Write>(tar: &mut tar::Builder<W>, header: &mut tar::Header, leads_to: &str) -> io::Result<()> {
    const FIELD: usize = 100;
    const LONG_LINK: &[u8] = b"././@LongLink";
    if leads_to.len() <= FIELD {
        return header.set_link_name_literal(leads_to);
    }
    let content = [leads_to.as_bytes(), b"\0"].concat();
    let mut long = tar::Header::new_gnu();
    long.set_entry_type(tar::EntryType::GNULongLink);
    long.as_mut_bytes()[..LONG_LINK.len()].copy_from_slice(LONG_LINK);
    long.set_mode(0o644);
    long.set_uid(0);
    long.set_gid(0);
    long.set_mtime(0);
    long.set_size(content.len() as u64);
    long.set_cksum();
    tar.append(&long, content.as_slice())?;
    header.set_link_name_literal(&leads_to.as_bytes()[..FIELD])
}

/// Warns of links whose target isn't in the image. With a base, the target may be in one of its layers.
pub(crate) fn inspect_links(tree: &Tree, on_base: bool) -> Vec<Finding> {
    let dangling = tree.dangling().into_iter().filter(|_| !on_base).map(|(path, source, leads_to)| {
        let message = format!("/{path} is a link to `{leads_to}`, which isn't in the image");
        let help = format!("add its target, or leave `{source}` out");
        Finding::warning("dangling-link", message).file(source, None).help(help)
    });
    dangling.collect()
}

/// Warns of programs that can't start: built for another architecture, or linked dynamically in an image without the
/// loader.
pub(crate) fn inspect_programs(tree: &Tree, platform: &Platform, on_base: bool) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (path, entry) in &tree.entries {
        let Entry::File { source, .. } = entry else { continue };
        if !entry.is_program() {
            continue;
        }
        let Some(program) = elf::inspect(&workspace::read_at(source, 0, elf::HEAD)?) else { continue };
        if let Some(architecture) = program.architecture.filter(|it| *it != platform.architecture) {
            let message = format!("/{path} is a program for {architecture}, but the image is for {platform}");
            let help = format!("build it for {}, or set `platform`", platform.architecture);
            findings.push(Finding::warning("foreign-architecture", message).file(source, None).help(help));
        }
        let Some(loader) = program.interpreter else { continue };
        let in_layer = tree.entries.contains_key(loader.trim_start_matches('/'));
        if !on_base && !in_layer {
            let message = format!("/{path} is linked dynamically and can't start: the image has no {loader}");
            let help = "link it statically (for Rust: target x86_64-unknown-linux-musl, or -C target-feature=+crt-static), \
                        or use a `base` with the loader";
            findings.push(Finding::warning("dynamic-program", message).file(source, None).help(help));
        }
    }
    Ok(findings)
}
