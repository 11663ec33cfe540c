//! Files in memory: the workspace, artifacts, and images.

use std::collections::BTreeMap;

use crate::fake::rules::{self, shown};
use crate::fake::state::{Interface, State};
use crate::workspace::Node;
use crate::{Error, ErrorCode, Permission, Result};

/// The errors of Linux, as the host's messages have them.
const MISSING: &str = "No such file or directory (os error 2)";
const NO_FOLDER: &str = "Not a directory (os error 20)";
const IS_FOLDER: &str = "Is a directory (os error 21)";
const NO_FILE: &str = "it isn't a plain file";

fn digest_of(content: &[u8]) -> String {
    use sha2::Digest;
    let hash = sha2::Sha256::digest(content);
    hash.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn failed(code: ErrorCode, doing: &str, path: &str, why: &str) -> Error {
    Error::new(code, format!("could not {doing} `{}`: {why}", shown(path)))
}

/// What a normalised path is; none if it doesn't exist.
fn node(host: &State, path: &str) -> Option<Node> {
    let is_within = |other: &String| other.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
    match host.nodes.get(path) {
        Some(node) => Some(node.clone()),
        None if host.files.contains_key(path) => Some(Node::File),
        None if path.is_empty() || host.files.keys().chain(host.nodes.keys()).any(is_within) => Some(Node::Folder),
        None => None,
    }
}

/// Parses a path that is going to be read.
fn readable(host: &State, path: &str) -> Result<String> {
    let path = rules::path(path)?;
    host.grant(Permission::Read, &rules::lineage(&path), &format!("read `{}`", shown(&path)))?;
    host.fault(Interface::Workspace, &path)?;
    Ok(path)
}

/// What an existing path is. All links are dangling here.
fn found(host: &State, path: &str) -> Result<Node> {
    match node(host, path) {
        Some(Node::Link(_)) => Err(failed(ErrorCode::NotFound, "find", path, MISSING)),
        Some(node) => Ok(node),
        None if has_file_above(host, path) => Err(failed(ErrorCode::InvalidArgument, "find", path, NO_FOLDER)),
        None => Err(failed(ErrorCode::NotFound, "find", path, MISSING)),
    }
}

fn has_file_above(host: &State, path: &str) -> bool {
    path.match_indices('/').any(|(slash, _)| host.files.contains_key(&path[..slash]))
}

/// The content of a file that may be read.
pub(super) fn file<'a>(host: &'a State, path: &str) -> Result<&'a [u8]> {
    let path = readable(host, path)?;
    match found(host, &path)? {
        Node::Folder => Err(Error::invalid(format!("`{}` is a folder, not a file", shown(&path)))),
        Node::Special(_) => Err(failed(ErrorCode::InvalidArgument, "open", &path, NO_FILE)),
        Node::File | Node::Link(_) => Ok(&host.files[&path]),
    }
}

/// Parses a path that is going to be created, replaced or removed.
fn writable(host: &State, path: &str) -> Result<String> {
    let path = rules::path(path)?;
    if path.is_empty() {
        return Err(Error::invalid("the workspace's root itself can't be replaced or removed"));
    }
    host.grant(Permission::Write, &rules::lineage(&path), &format!("write `{path}`"))?;
    host.fault(Interface::Workspace, &path)?;
    Ok(path)
}

/// Replaces a file, as every call that writes a whole file does.
pub(super) fn replace(host: &mut State, path: &str, content: Vec<u8>) -> Result<()> {
    let path = writable(host, path)?;
    if has_file_above(host, &path) {
        return Err(failed(ErrorCode::InvalidArgument, "create the folder of", &path, NO_FOLDER));
    }
    if matches!(node(host, &path), Some(Node::Folder)) {
        return Err(failed(ErrorCode::InvalidArgument, "write", &path, IS_FOLDER));
    }
    host.nodes.remove(&path);
    host.files.insert(path, content);
    Ok(())
}

/// Checks the working folder of a program, which need not be readable.
pub(super) fn check_folder(host: &State, path: &str) -> Result<()> {
    let path = rules::path(path)?;
    match found(host, &path)? {
        Node::Folder => Ok(()),
        _ => Err(Error::invalid(format!("`{path}` is not a folder"))),
    }
}

/// The files below a folder, by path relative to it.
fn below(host: &State, folder: &str) -> BTreeMap<String, Vec<u8>> {
    let start = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let relative = |path: &str| path.strip_prefix(&start).map(str::to_owned);
    host.files.iter().filter_map(|(path, content)| Some((relative(path)?, content.clone()))).collect()
}

pub(crate) mod workspace {
    use super::{
        IS_FOLDER, NO_FOLDER, State, digest_of, failed, file, has_file_above, node, readable, replace, writable,
    };
    use crate::fake::glob::Glob;
    use crate::fake::imports::types;
    use crate::fake::rules;
    use crate::fake::state::on;
    use crate::workspace::{Entry, Located, Node};
    use crate::{Error, ErrorCode};

    type Answer<T> = std::result::Result<T, types::Error>;

    pub(crate) fn read(path: &str) -> Answer<Vec<u8>> {
        on(|host| Ok(file(host, path)?.to_vec()))
    }

    pub(crate) fn read_at(path: &str, offset: u64, length: u32) -> Answer<Vec<u8>> {
        on(|host| {
            let content = file(host, path)?;
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
            let end = start.saturating_add(length as usize).min(content.len());
            Ok(content[start..end].to_vec())
        })
    }

    pub(crate) fn write(path: &str, data: &[u8]) -> Answer<()> {
        on(|host| Ok(replace(host, path, data.to_vec())?))
    }

    pub(crate) fn append(path: &str, data: &[u8]) -> Answer<()> {
        on(|host| {
            let own = writable(host, path)?;
            if has_file_above(host, &own) {
                return Err(failed(ErrorCode::InvalidArgument, "find", &own, NO_FOLDER).into());
            }
            if matches!(node(host, &own), Some(Node::Folder)) {
                return Err(failed(ErrorCode::InvalidArgument, "append to", &own, IS_FOLDER).into());
            }
            let content = [host.files.get(&own).map_or(&[][..], Vec::as_slice), data].concat();
            Ok(replace(host, path, content)?)
        })
    }

    /// The readable paths that a pattern matches, with what they are and their size.
    fn matching(host: &State, pattern: &str) -> Result<Vec<(String, Node, u64)>, Error> {
        let normal = rules::path(pattern)?;
        let glob = Glob::parse(&normal).map_err(|problem| Error::invalid(format!("pattern `{pattern}`: {problem}")))?;
        host.fault(super::Interface::Workspace, pattern)?;
        let own = host.files.keys().chain(host.nodes.keys());
        let folders = own.clone().flat_map(|path| path.match_indices('/').map(|(slash, _)| path[..slash].to_owned()));
        let mut paths: Vec<String> = own.cloned().chain(folders).filter(|path| glob.matches(path)).collect();
        paths.sort_unstable();
        paths.dedup();
        let readable = paths.into_iter().filter(|path| readable(host, path).is_ok());
        let found = readable.filter_map(|path| {
            let size = host.files.get(&path).map_or(0, |content| content.len() as u64);
            Some((path.clone(), node(host, &path)?, size))
        });
        Ok(found.collect())
    }

    pub(crate) fn glob(pattern: &str) -> Answer<Vec<Entry>> {
        on(|host| {
            let found = matching(host, pattern)?.into_iter().filter(|(_, node, _)| !matches!(node, Node::Link(_)));
            Ok(found.map(|(path, node, size)| Entry { path, folder: matches!(node, Node::Folder), size }).collect())
        })
    }

    pub(crate) fn locate(pattern: &str) -> Answer<Vec<Located>> {
        let located = |(path, node, size)| Located { path, node, size };
        on(|host| Ok(matching(host, pattern)?.into_iter().map(located).collect()))
    }

    pub(crate) fn remove(path: &str) -> Answer<()> {
        on(|host| {
            let path = writable(host, path)?;
            // The folder that contains it stays, even if it is empty now.
            if let Some((folder, _)) = path.rsplit_once('/').filter(|_| node(host, &path).is_some()) {
                host.nodes.insert(folder.to_owned(), Node::Folder);
            }
            let below = format!("{path}/");
            let stays = |name: &String| *name != path && !name.starts_with(&below);
            host.files.retain(|name, _| stays(name));
            host.nodes.retain(|name, _| stays(name));
            Ok(())
        })
    }

    pub(crate) fn digest(path: &str) -> Answer<String> {
        on(|host| Ok(digest_of(file(host, path)?)))
    }

    pub(crate) fn gzip(path: &str, to: &str) -> Answer<()> {
        use std::io::Write as _;
        on(|host| {
            let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            let zipped = zipped.write_all(file(host, path)?).and_then(|()| zipped.finish());
            let zipped = zipped.unwrap_or_else(|error| unreachable!("writing to memory can't fail: {error}"));
            Ok(replace(host, to, zipped)?)
        })
    }

    pub(crate) fn executable(path: &str) -> Answer<bool> {
        on(|host| {
            file(host, path)?;
            Ok(host.executables.contains(&rules::normal(path)))
        })
    }
}

pub(crate) mod artifacts {
    use std::cell::RefCell;

    use super::{State, below, digest_of, file, found, readable, replace, writable};
    use crate::fake::imports::types;
    use crate::fake::report::Published;
    use crate::fake::rules::{self, exhausted};
    use crate::fake::state::{Interface, on};
    use crate::workspace::Node;
    use crate::{Error, ErrorCode, Result};

    /// The most artifacts that an attempt may publish.
    const MOST: usize = 10_000;

    /// The media type of a folder.
    const FOLDER: &str = "application/vnd.stagewright.folder.v1.tar";

    /// The stage that runs, and the one whose artifacts the test has set up.
    const OWN: &str = "stage";
    const EARLIER: &str = "earlier";

    type Answer<T> = std::result::Result<T, types::Error>;

    /// An artifact that was published, by this stage or an earlier one.
    #[derive(Clone, Debug)]
    pub(crate) struct Artifact {
        published: Published,
        stage_id: &'static str,
    }

    impl Artifact {
        /// The content; of a folder, what stands for the host's archive, which isn't made here.
        fn bytes(&self) -> Vec<u8> {
            let Published { files, folder, .. } = &self.published;
            match folder {
                false => self.published.content().to_vec(),
                true => files.iter().flat_map(|(path, data)| [path.as_bytes(), b"\0", data].concat()).collect(),
            }
        }

        pub(crate) fn name(&self) -> String {
            self.published.name.clone()
        }

        pub(crate) fn digest(&self) -> String {
            digest_of(&self.bytes())
        }

        pub(crate) fn media_type(&self) -> String {
            self.published.media_type.clone()
        }

        pub(crate) fn size(&self) -> u64 {
            self.bytes().len() as u64
        }

        pub(crate) fn stage_id(&self) -> String {
            self.stage_id.to_owned()
        }

        pub(crate) fn folder(&self) -> bool {
            self.published.folder
        }
    }

    #[derive(Debug)]
    pub(crate) struct Publication {
        name: String,
        path: String,
        media_type: RefCell<Option<String>>,
    }

    impl Publication {
        pub(crate) fn new(name: &str, path: &str) -> Publication {
            Publication { name: name.to_owned(), path: path.to_owned(), media_type: RefCell::new(None) }
        }

        pub(crate) fn media_type(&self, media_type: &str) {
            *self.media_type.borrow_mut() = Some(media_type.to_owned());
        }

        pub(crate) fn publish(&self) -> Answer<Artifact> {
            on(|host| Ok(self.keep(host)?))
        }

        fn keep(&self, host: &mut State) -> Result<Artifact> {
            let Publication { name, path, media_type } = self;
            rules::artifact_name(name)?;
            host.fault(Interface::Artifacts, name)?;
            if host.artifacts.contains_key(name) {
                let message = format!("the stage `{EARLIER}` has already published an artifact `{name}`");
                return Err(Error::new(ErrorCode::AlreadyExists, message).help("choose another name"));
            }
            let own = readable(host, path)?;
            let (folder, files) = match found(host, &own)? {
                Node::Folder => (true, below(host, &own)),
                _ => (false, [(String::new(), file(host, path)?.to_vec())].into()),
            };
            if host.published.len() >= MOST && !host.published.iter().any(|published| published.name == *name) {
                let message = format!("could not publish the artifact `{name}`: a stage may publish at most {MOST}");
                return Err(exhausted(message).help("pack files that belong together into one archive"));
            }
            let own_type = if folder { FOLDER } else { "application/octet-stream" };
            let media_type = media_type.borrow().clone().unwrap_or_else(|| own_type.to_owned());
            if folder && media_type != FOLDER {
                let message = format!("`{path}` is a folder, which has a media type of its own");
                return Err(Error::invalid(message).help("publish it without a media type"));
            }
            let published = Published { name: name.clone(), path: own, media_type, folder, files };
            host.published.retain(|other| other.name != *name);
            host.published.push(published.clone());
            Ok(Artifact { published, stage_id: OWN })
        }
    }

    pub(crate) fn published() -> Answer<Vec<Artifact>> {
        let artifact = |published: &Published| Artifact { published: published.clone(), stage_id: EARLIER };
        on(|host| Ok(host.artifacts.values().map(artifact).collect()))
    }

    /// An artifact that the stage itself or an earlier one has published, and the stage.
    fn find<'a>(host: &'a State, name: &str) -> Result<(&'a Published, &'static str)> {
        rules::artifact_name(name)?;
        host.fault(Interface::Artifacts, name)?;
        let own = host.published.iter().find(|published| published.name == name).map(|own| (own, OWN));
        let earlier = || host.artifacts.get(name).map(|published| (published, EARLIER));
        own.or_else(earlier).ok_or_else(|| {
            Error::new(ErrorCode::NotFound, format!("no stage of this run has published an artifact `{name}`"))
                .help("add the stage that publishes it to this stage's `needs`")
        })
    }

    /// The content of an artifact; of a folder, what stands for its archive.
    pub(in crate::fake::imports) fn content(host: &State, name: &str) -> Result<Vec<u8>> {
        let (published, stage_id) = find(host, name)?;
        Ok(Artifact { published: published.clone(), stage_id }.bytes())
    }

    pub(crate) fn fetch(name: &str, path: &str) -> Answer<Artifact> {
        on(|host| {
            let (published, stage_id) = find(host, name)?;
            let artifact = Artifact { published: published.clone(), stage_id };
            let path = writable(host, path)?;
            for (below, content) in &artifact.published.files {
                let path = if below.is_empty() { path.clone() } else { format!("{path}/{below}") };
                replace(host, &path, content.clone())?;
            }
            Ok(artifact)
        })
    }
}

pub(crate) mod registry {
    use serde_json::{Value as Json, json};

    use super::{State, file, found, readable, replace, writable};
    use crate::descriptor::Descriptor as Plain;
    use crate::fake::imports::types;
    use crate::fake::rules::{self, Image};
    use crate::fake::state::{Interface, image_descriptor, on};
    use crate::workspace::Node;
    use crate::{Error, ErrorCode, Permission, Result};

    type Answer = std::result::Result<Descriptor, types::Error>;

    #[derive(Debug)]
    pub(crate) struct Descriptor(Plain);

    impl Descriptor {
        pub(crate) fn media_type(&self) -> String {
            self.0.media_type.clone()
        }

        pub(crate) fn digest(&self) -> String {
            self.0.digest.clone()
        }

        pub(crate) fn size(&self) -> u64 {
            self.0.size
        }
    }

    fn check(host: &State, reference: &str) -> Result<()> {
        match rules::image(reference)? {
            Image::Layout(path) => drop(readable(host, path)?),
            Image::Repository(repository) => {
                let doing = format!("use the image repository `{repository}`");
                host.grant_as(Permission::Registry, &[reference, repository], repository, &doing)?;
            }
        }
        host.fault(Interface::Registry, reference)
    }

    fn index_of(layout: &str) -> String {
        format!("{layout}/index.json")
    }

    pub(crate) fn push(layout: &str, reference: &str) -> Answer {
        on(|host| {
            let layout = readable(host, layout)?;
            if !matches!(found(host, &layout)?, Node::Folder) {
                return Err(Error::invalid(format!("`{layout}` is not a folder")).into());
            }
            check(host, reference)?;
            host.announce(&format!("push {reference}"))?;
            let index: Json = serde_json::from_slice(file(host, &index_of(&layout))?)
                .map_err(|error| Error::from(error).context(format!("`{layout}` isn't an OCI image layout")))?;
            let manifest = &index["manifests"][0];
            let (Some(digest), Some(size)) = (manifest["digest"].as_str(), manifest["size"].as_u64()) else {
                let message = format!("{layout} holds no image");
                return Err(Error::new(ErrorCode::NotFound, message).into());
            };
            let descriptor = image_descriptor(digest, size);
            host.images.insert(reference.to_owned(), descriptor.clone());
            Ok(Descriptor(descriptor))
        })
    }

    pub(crate) fn resolve(reference: &str) -> Answer {
        on(|host| Ok(Descriptor(find(host, reference)?)))
    }

    pub(crate) fn copy(source: &str, destination: &str) -> Answer {
        on(|host| {
            check(host, source)?;
            check(host, destination)?;
            host.announce(&format!("copy to {destination}"))?;
            let descriptor = find(host, source)?;
            host.images.insert(destination.to_owned(), descriptor.clone());
            Ok(Descriptor(descriptor))
        })
    }

    pub(crate) fn pull(reference: &str, layout: &str) -> Answer {
        on(|host| {
            check(host, reference)?;
            let layout = writable(host, layout)?;
            let found = find(host, reference)?;
            let manifest = json!({ "mediaType": found.media_type, "digest": found.digest, "size": found.size });
            let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
            replace(host, &index_of(&layout), index.to_string().into_bytes())?;
            Ok(Descriptor(found))
        })
    }

    /// A reference with a digest finds any image with that digest.
    fn find(host: &State, reference: &str) -> Result<Plain> {
        check(host, reference)?;
        let by_digest = |digest| host.images.values().find(|image| image.digest == digest);
        let found = host.images.get(reference).or_else(|| by_digest(reference.split_once('@')?.1));
        found.cloned().ok_or_else(|| Error::new(ErrorCode::NotFound, format!("the registry has no `{reference}`")))
    }
}
