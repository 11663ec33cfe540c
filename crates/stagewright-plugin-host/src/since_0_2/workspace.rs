//! `workspace`.

use super::Answer;
use super::stagewright::workspace::workspace::{self as wit, Host};
use crate::attempt::Attempt;
use crate::capability::workspace::{GlobEntry, Located, NodeKind};

impl From<GlobEntry> for wit::Entry {
    fn from(entry: GlobEntry) -> wit::Entry {
        let GlobEntry { path, directory, size } = entry;
        wit::Entry { path, folder: directory, size }
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
    async fn read(&mut self, path: String) -> Answer<Vec<u8>> {
        let done = self.workspace.off_thread(move |files| files.read(&path)).await;
        self.answer(done)
    }

    async fn read_at(&mut self, path: String, offset: u64, length: u32) -> Answer<Vec<u8>> {
        let done = self.workspace.off_thread(move |files| files.read_at(&path, offset, length)).await;
        self.answer(done)
    }

    async fn write(&mut self, path: String, data: Vec<u8>) -> Answer<()> {
        let done = self.workspace.off_thread(move |files| files.write(&path, &data)).await;
        self.answer(done)
    }

    async fn append(&mut self, path: String, data: Vec<u8>) -> Answer<()> {
        let done = self.workspace.off_thread(move |files| files.append(&path, &data)).await;
        self.answer(done)
    }

    async fn glob(&mut self, pattern: String) -> Answer<Vec<wit::Entry>> {
        let found = self.workspace.off_thread(move |files| files.glob(&pattern)).await;
        self.answer(found.map(|found| found.into_iter().map(Into::into).collect()))
    }

    async fn locate(&mut self, pattern: String) -> Answer<Vec<wit::Located>> {
        let found = self.workspace.off_thread(move |files| files.locate(&pattern)).await;
        self.answer(found.map(|found| found.into_iter().map(Into::into).collect()))
    }

    async fn remove(&mut self, path: String) -> Answer<()> {
        let done = self.workspace.off_thread(move |files| files.remove(&path)).await;
        self.answer(done)
    }

    async fn digest(&mut self, path: String) -> Answer<String> {
        let done = self.workspace.off_thread(move |files| files.digest(&path)).await;
        self.answer(done)
    }

    async fn gzip(&mut self, path: String, to: String) -> Answer<()> {
        let done = self.workspace.off_thread(move |files| files.gzip(&path, &to)).await;
        self.answer(done)
    }

    async fn executable(&mut self, path: String) -> Answer<bool> {
        let done = self.workspace.off_thread(move |files| files.executable(&path)).await;
        self.answer(done)
    }
}
