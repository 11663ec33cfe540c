//! A real registry on loopback: the program `docker-registry` of Debian's package of that name.

use std::path::{Path, PathBuf};

use stagewright_process::{Child, Command, Group, which};
use tokio::time::timeout;

use crate::PATIENCE;

/// A running registry, which is killed when this is dropped.
pub(crate) struct Distribution {
    /// Its address, with the port.
    pub(crate) host: String,
    folder: tempfile::TempDir,
    group: Group,
}

/// The only account of a closed registry. The password file is a constant, since bcrypt hashes are slow to compute by design.
pub(crate) const ACCOUNT: (&str, &str) = ("ada", "open sesame");
const HTPASSWD: &str = "ada:$2y$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy\n";

impl Distribution {
    /// A registry that anyone may write to.
    pub(crate) async fn open() -> Distribution {
        Distribution::start(|_| String::new()).await
    }

    /// A registry that requires [`ACCOUNT`].
    pub(crate) async fn closed() -> Distribution {
        Distribution::start(|folder| {
            let path = folder.join("htpasswd");
            std::fs::write(&path, HTPASSWD).unwrap();
            format!("auth: {{ htpasswd: {{ realm: test, path: {} }} }}\n", path.display())
        })
        .await
    }

    async fn start(auth: impl FnOnce(&Path) -> String) -> Distribution {
        let program = which("docker-registry", "/usr/local/bin:/usr/bin")
            .expect("the tests need a registry: install Debian's package `docker-registry`");
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let data = root.join("data");
        let config = format!(
            "version: 0.1\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: \"127.0.0.1:0\" }}\n{}",
            data.display(),
            auth(root)
        );
        let config_path = root.join("config.yml");
        std::fs::write(&config_path, config).unwrap();
        let command = Command {
            program,
            args: vec!["serve".to_owned(), config_path.display().to_string()],
            current_dir: root.to_owned(),
            ..Command::default()
        };
        let mut child = command.spawn().unwrap();
        let group = child.group();
        let host = timeout(PATIENCE, address(&mut child)).await.expect("the registry logs its address");
        // The registry would block if its log weren't read.
        tokio::spawn(async move { while child.next_chunk().await.is_some() {} });
        Distribution { host, folder, group }
    }

    /// The digest that the registry itself returns for a tag or a digest.
    pub(crate) async fn digest(&self, repository: &str, reference: &str) -> Option<String> {
        let url = format!("http://{}/v2/{repository}/manifests/{reference}", self.host);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let accepted = [crate::image::MANIFEST, crate::image::INDEX].join(", ");
        let answer = client.head(url).header("accept", accepted).send().await.unwrap();
        let digest = answer.headers().get("docker-content-digest").map(|digest| digest.to_str().unwrap().to_owned());
        digest.filter(|_| answer.status().is_success())
    }

    /// The file in which the registry stores a blob.
    pub(crate) fn blob_path(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let blobs = self.folder.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        self.group.kill();
    }
}

/// Reads the log up to the line with the port that the system chose.
async fn address(child: &mut Child) -> String {
    let mut log = String::new();
    while let Some((_, chunk)) = child.next_chunk().await {
        log.push_str(&String::from_utf8_lossy(&chunk));
        let found = log.split_once("listening on ").and_then(|(_, rest)| rest.split_once(['"', '\n', ' ']));
        if let Some((address, _)) = found {
            return address.to_owned();
        }
    }
    panic!("the registry ended: {log}");
}
