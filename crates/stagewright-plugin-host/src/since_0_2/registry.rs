//! `registry`.

use super::Answer;
use super::stagewright::registry::registry::{self as wit, Host};
use crate::attempt::Attempt;
use crate::registry::Descriptor;

impl From<Descriptor> for wit::Descriptor {
    fn from(descriptor: Descriptor) -> wit::Descriptor {
        let Descriptor { media_type, digest, size } = descriptor;
        wit::Descriptor { media_type, digest, size }
    }
}

impl Host for Attempt {
    async fn push(&mut self, layout: String, reference: String) -> Answer<wit::Descriptor> {
        let done = self.images.push(&layout, &reference).await;
        self.answer(done.map(Into::into))
    }

    async fn resolve(&mut self, reference: String) -> Answer<wit::Descriptor> {
        let done = self.images.resolve(&reference).await;
        self.answer(done.map(Into::into))
    }

    async fn copy(&mut self, source: String, destination: String) -> Answer<wit::Descriptor> {
        let done = self.images.copy(&source, &destination).await;
        self.answer(done.map(Into::into))
    }

    async fn pull(&mut self, reference: String, layout: String) -> Answer<wit::Descriptor> {
        let done = self.images.pull(&reference, &layout).await;
        self.answer(done.map(Into::into))
    }
}
