//! From the configuration's files to the tar of a layer.

use std::io::{self, Write};

use stagewright_sdk::workspace::{self, Entry as Found};
use stagewright_sdk::{Diagnostic, Error, ErrorCode, Result};

use crate::config::{FileSpec, Layer, Platform};
use crate::elf;
use crate::stream::FileReader;
use crate::tree::{Entry, Form, Tree, file_mode, target};

/// How many neighbours an error names.
const NEIGHBOURS: usize = 6;

/// Finds a layer's files in the workspace.
pub(crate) fn collect(layer: &Layer, on_base: bool) -> Result<Tree> {
    let mut tree = Tree::default();
    for spec in &layer.files {
        add(&mut tree, spec, &layer.dest)?;
    }
    if !on_base {
        tree.add_parents().map_err(Error::invalid)?;
    }
    Ok(tree)
}

fn add(tree: &mut Tree, spec: &FileSpec, dest: &str) -> Result<()> {
    let from = spec.from.as_str();
    if from.contains(['*', '?', '[', '{']) {
        let found: Vec<Found> = workspace::glob(from)?.into_iter().filter(|found| !found.directory).collect();
        return add_all(tree, spec, dest, Form::Glob, &found);
    }
    let here = matches!(from, "" | ".");
    let named = if here { None } else { workspace::glob(from)?.into_iter().next() };
    match named {
        Some(file) if !file.directory => add_all(tree, spec, dest, Form::File, &[file]),
        Some(_) => add_all(tree, spec, dest, Form::Folder, &workspace::glob(&format!("{from}/**"))?),
        None if here => add_all(tree, spec, dest, Form::Folder, &workspace::glob("**")?),
        None => Err(missing(from)?),
    }
}

fn add_all(tree: &mut Tree, spec: &FileSpec, dest: &str, form: Form, found: &[Found]) -> Result<()> {
    if found.iter().all(|found| found.directory) {
        let what = if form == Form::Glob { "matches no file" } else { "is a folder without files" };
        return Err(Error::new(ErrorCode::NotFound, format!("`{}` {what}", spec.from))
            .help("correct the path, or make the files in an earlier stage and name it in `needs`"));
    }
    for found in found {
        let to = target(spec, dest, &found.path, form);
        if found.directory {
            tree.add_folder(&to).map_err(Error::invalid)?;
        } else {
            let mode = file_mode(spec, workspace::executable(&found.path)?);
            tree.add_file(&to, &found.path, found.size, mode).map_err(Error::invalid)?;
        }
    }
    Ok(())
}

/// What is near a path that isn't there: what the nearest folder that is there holds.
fn missing(path: &str) -> Result<Error> {
    // A listing passes over what isn't granted; a read says so.
    if let Err(error) = workspace::read_at(path, 0, 1)
        && error.is_denied()
    {
        return Ok(error);
    }
    let error = Error::new(ErrorCode::NotFound, format!("there is no `{path}` in the workspace"));
    let mut folder = path;
    while let Some((parent, _)) = folder.rsplit_once('/') {
        folder = parent;
        let names: Vec<String> =
            workspace::glob(&format!("{parent}/*"))?.into_iter().map(|found| found.path).take(NEIGHBOURS).collect();
        if !names.is_empty() {
            return Ok(error.help(format!("`{parent}` holds {}; build it in an earlier stage", names.join(", "))));
        }
    }
    Ok(error.help("build it in an earlier stage, and grant `read` on it"))
}

/// Writes the tar. Everything that could differ between two builds of the same files is fixed.
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
        }
    }
    tar.finish()
}

/// Programs that can't start: linked dynamically in an image that has no loader, or made for another machine.
pub(crate) fn inspect_programs(tree: &Tree, platform: &Platform, on_base: bool) -> Result<Vec<Diagnostic>> {
    let mut problems = Vec::new();
    for (path, entry) in &tree.entries {
        let Entry::File { source, .. } = entry else { continue };
        if !entry.is_program() {
            continue;
        }
        let Some(program) = elf::inspect(&workspace::read_at(source, 0, elf::HEAD)?) else { continue };
        if let Some(architecture) = program.architecture.filter(|it| *it != platform.architecture) {
            let message = format!("/{path} is a program for {architecture}, and the image is for {platform}");
            let help = format!("build it for {}, or set `platform`", platform.architecture);
            problems.push(Diagnostic::warning("foreign-architecture", message).at(source).help(help));
        }
        let Some(loader) = program.interpreter else { continue };
        let in_layer = tree.entries.contains_key(loader.trim_start_matches('/'));
        if !on_base && !in_layer {
            let message = format!("/{path} is linked dynamically and can't start: the image has no {loader}");
            let help = "link it statically (for Rust: target x86_64-unknown-linux-musl, or -C target-feature=+crt-static), \
                        or choose a `base` that has the loader";
            problems.push(Diagnostic::warning("dynamic-program", message).at(source).help(help));
        }
    }
    Ok(problems)
}
