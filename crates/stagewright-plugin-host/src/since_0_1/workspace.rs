//! `workspace`.

use super::stagewright::stage::workspace::{self as wit, Host};
use crate::attempt::Attempt;
use crate::call::CallResult;
use crate::capability::workspace::{GlobEntry, Located, NodeKind};

impl From<GlobEntry> for wit::Entry {
    fn from(entry: GlobEntry) -> wit::Entry {
        let GlobEntry { path, directory, size } = entry;
        wit::Entry { path, directory, size }
    }
}

impl From<Located> for wit::Located {
    fn from(located: Located) -> wit::Located {
        let Located { path, node, size } = located;
        let node = match node {
            NodeKind::File => wit::Node::File,
            NodeKind::Folder => wit::Node::Folder,
            NodeKind::Link(target) => wit::Node::Link(target),
            NodeKind::Special(what) => wit::Node::Special(what),
        };
        wit::Located { path, node, size }
    }
}

impl Host for Attempt {
    async fn read(&mut self, path: String) -> CallResult<Vec<u8>> {
        Ok(self.workspace.off_thread(move |files| files.read(&path)).await?)
    }

    async fn read_at(&mut self, path: String, offset: u64, length: u32) -> CallResult<Vec<u8>> {
        Ok(self.workspace.off_thread(move |files| files.read_at(&path, offset, length)).await?)
    }

    async fn write(&mut self, path: String, data: Vec<u8>) -> CallResult<()> {
        Ok(self.workspace.off_thread(move |files| files.write(&path, &data)).await?)
    }

    async fn append(&mut self, path: String, data: Vec<u8>) -> CallResult<()> {
        Ok(self.workspace.off_thread(move |files| files.append(&path, &data)).await?)
    }

    async fn glob(&mut self, pattern: String) -> CallResult<Vec<wit::Entry>> {
        let found = self.workspace.off_thread(move |files| files.glob(&pattern)).await?;
        Ok(found.into_iter().map(Into::into).collect())
    }

    async fn locate(&mut self, pattern: String) -> CallResult<Vec<wit::Located>> {
        let found = self.workspace.off_thread(move |files| files.locate(&pattern)).await?;
        Ok(found.into_iter().map(Into::into).collect())
    }

    async fn remove(&mut self, path: String) -> CallResult<()> {
        Ok(self.workspace.off_thread(move |files| files.remove(&path)).await?)
    }

    async fn digest(&mut self, path: String) -> CallResult<String> {
        Ok(self.workspace.off_thread(move |files| files.digest(&path)).await?)
    }

    async fn gzip(&mut self, path: String, to: String) -> CallResult<()> {
        Ok(self.workspace.off_thread(move |files| files.gzip(&path, &to)).await?)
    }

    async fn executable(&mut self, path: String) -> CallResult<bool> {
        Ok(self.workspace.off_thread(move |files| files.executable(&path)).await?)
    }
}
