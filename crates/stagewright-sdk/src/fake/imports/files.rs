//! Files in memory: the workspace, artifacts, and images.

use crate::bindings::stage::stagewright::stage::types as wire;
use crate::fake::state::State;
use crate::{Error, ErrorCode};

fn digest_of(content: &[u8]) -> String {
    use sha2::Digest;
    let hash = sha2::Sha256::digest(content);
    hash.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn file<'a>(host: &'a State, path: &str) -> Result<&'a [u8], wire::Error> {
    host.check("workspace", path)?;
    let missing = || Error::new(ErrorCode::NotFound, format!("`{path}` does not exist in the workspace")).into();
    host.files.get(path).map(Vec::as_slice).ok_or_else(missing)
}

pub(crate) mod workspace {
    use std::collections::BTreeMap;

    use super::{digest_of, file, wire};
    use crate::fake::glob::matches;
    use crate::fake::state::{State, on};
    use crate::workspace::{Entry, Located, Node};

    pub(crate) fn read(path: &str) -> Result<Vec<u8>, wire::Error> {
        on(|host| Ok(file(host, path)?.to_vec()))
    }

    pub(crate) fn read_at(path: &str, offset: u64, length: u32) -> Result<Vec<u8>, wire::Error> {
        on(|host| {
            let content = file(host, path)?;
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
            let end = start.saturating_add(length as usize).min(content.len());
            Ok(content[start..end].to_vec())
        })
    }

    pub(crate) fn write(path: &str, data: &[u8]) -> Result<(), wire::Error> {
        on(|host| {
            host.check("workspace", path)?;
            host.files.insert(path.to_owned(), data.to_vec());
            Ok(())
        })
    }

    pub(crate) fn append(path: &str, data: &[u8]) -> Result<(), wire::Error> {
        on(|host| {
            host.check("workspace", path)?;
            host.files.entry(path.to_owned()).or_default().extend_from_slice(data);
            Ok(())
        })
    }

    /// All files and nodes by path, with their parent folders.
    fn tree(host: &State) -> BTreeMap<&str, (Node, u64)> {
        let files = host.files.iter().map(|(path, content)| (path, Node::File, content.len() as u64));
        let nodes = host.nodes.iter().map(|(path, node)| (path, node.clone(), 0));
        let mut tree = BTreeMap::new();
        for (path, node, size) in files.chain(nodes) {
            for (slash, _) in path.match_indices('/') {
                tree.insert(&path[..slash], (Node::Folder, 0));
            }
            tree.insert(path, (node, size));
        }
        tree
    }

    /// All links are dangling here, and left out as the real host leaves out dangling links.
    pub(crate) fn glob(pattern: &str) -> Result<Vec<Entry>, wire::Error> {
        on(|host| {
            host.check("workspace", pattern)?;
            let found = tree(host).into_iter().filter(|(path, _)| matches(pattern, path));
            let entry = |(path, (node, size)): (&str, (Node, u64))| {
                let directory = matches!(node, Node::Folder);
                (!matches!(node, Node::Link(_))).then(|| Entry { path: path.to_owned(), directory, size })
            };
            Ok(found.filter_map(entry).collect())
        })
    }

    pub(crate) fn locate(pattern: &str) -> Result<Vec<Located>, wire::Error> {
        on(|host| {
            host.check("workspace", pattern)?;
            let found = tree(host).into_iter().filter(|(path, _)| matches(pattern, path));
            Ok(found.map(|(path, (node, size))| Located { path: path.to_owned(), node, size }).collect())
        })
    }

    pub(crate) fn remove(path: &str) -> Result<(), wire::Error> {
        on(|host| {
            host.check("workspace", path)?;
            let below = format!("{path}/");
            host.files.retain(|name, _| name != path && !name.starts_with(&below));
            Ok(())
        })
    }

    pub(crate) fn digest(path: &str) -> Result<String, wire::Error> {
        on(|host| Ok(digest_of(file(host, path)?)))
    }

    pub(crate) fn gzip(path: &str, to: &str) -> Result<(), wire::Error> {
        use std::io::Write as _;
        on(|host| {
            host.check("workspace", to)?;
            let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            let zipped = zipped.write_all(file(host, path)?).and_then(|()| zipped.finish());
            let zipped = zipped.unwrap_or_else(|error| unreachable!("writing to memory can't fail: {error}"));
            host.files.insert(to.to_owned(), zipped);
            Ok(())
        })
    }

    pub(crate) fn executable(path: &str) -> Result<bool, wire::Error> {
        on(|host| {
            file(host, path)?;
            Ok(host.executables.contains(path))
        })
    }
}

pub(crate) mod artifacts {
    use super::{digest_of, file, wire};
    use crate::artifacts::Artifact;
    use crate::fake::report::Published;
    use crate::fake::state::on;
    use crate::{Error, ErrorCode};

    pub(crate) fn publish(name: &str, path: &str, media_type: &str) -> Result<Artifact, wire::Error> {
        on(|host| {
            host.check("artifacts", name)?;
            let content = file(host, path)?.to_vec();
            let artifact = describe(name, &content, media_type);
            host.artifacts.insert(name.to_owned(), content.clone());
            let (name, path, media_type) = (name.to_owned(), path.to_owned(), media_type.to_owned());
            host.published.push(Published { name, path, media_type, content });
            Ok(artifact)
        })
    }

    pub(crate) fn fetch(name: &str, path: &str) -> Result<Artifact, wire::Error> {
        on(|host| {
            host.check("artifacts", name)?;
            host.check("workspace", path)?;
            let missing = || Error::new(ErrorCode::NotFound, format!("no stage published an artifact `{name}`"));
            let content = host.artifacts.get(name).cloned().ok_or_else(missing)?;
            let artifact = describe(name, &content, "application/octet-stream");
            host.files.insert(path.to_owned(), content);
            Ok(artifact)
        })
    }

    fn describe(name: &str, content: &[u8], media_type: &str) -> Artifact {
        Artifact {
            name: name.to_owned(),
            digest: digest_of(content),
            media_type: media_type.to_owned(),
            size: content.len() as u64,
        }
    }
}

pub(crate) mod registry {
    use serde_json::{Value as Json, json};

    use super::{file, wire};
    use crate::fake::state::{State, image_descriptor, on};
    use crate::registry::Descriptor;
    use crate::{Error, ErrorCode};

    pub(crate) fn push(layout: &str, reference: &str) -> Result<Descriptor, wire::Error> {
        on(|host| {
            host.check("registry", reference)?;
            let index: Json = serde_json::from_slice(file(host, &format!("{layout}/index.json"))?)
                .map_err(|error| Error::from(error).context(format!("`{layout}` isn't an OCI image layout")))?;
            let manifest = &index["manifests"][0];
            let (Some(digest), Some(size)) = (manifest["digest"].as_str(), manifest["size"].as_u64()) else {
                return Err(Error::invalid(format!("`{layout}/index.json` lists no manifest")).into());
            };
            let descriptor = image_descriptor(digest, size);
            host.images.insert(reference.to_owned(), descriptor.clone());
            Ok(descriptor)
        })
    }

    pub(crate) fn resolve(reference: &str) -> Result<Descriptor, wire::Error> {
        on(|host| find(host, reference))
    }

    pub(crate) fn copy(source: &str, destination: &str) -> Result<Descriptor, wire::Error> {
        on(|host| {
            host.check("registry", destination)?;
            let descriptor = find(host, source)?;
            host.images.insert(destination.to_owned(), descriptor.clone());
            Ok(descriptor)
        })
    }

    pub(crate) fn pull(reference: &str, layout: &str) -> Result<Descriptor, wire::Error> {
        on(|host| {
            let found = find(host, reference)?;
            let manifest = json!({ "mediaType": found.media_type, "digest": found.digest, "size": found.size });
            let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
            host.files.insert(format!("{layout}/index.json"), index.to_string().into_bytes());
            Ok(found)
        })
    }

    fn find(host: &State, reference: &str) -> Result<Descriptor, wire::Error> {
        host.check("registry", reference)?;
        let missing = || Error::new(ErrorCode::NotFound, format!("the registry has no `{reference}`")).into();
        host.images.get(reference).cloned().ok_or_else(missing)
    }
}
