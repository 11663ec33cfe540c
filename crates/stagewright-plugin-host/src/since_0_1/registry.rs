//! `registry`.

use super::stagewright::stage::registry::{self as wit, Host};
use crate::attempt::Attempt;
use crate::call::CallResult;
use crate::registry::Descriptor;

impl From<Descriptor> for wit::Descriptor {
    fn from(descriptor: Descriptor) -> wit::Descriptor {
        let Descriptor { media_type, digest, size } = descriptor;
        wit::Descriptor { media_type, digest, size }
    }
}

impl Host for Attempt {
    async fn push(&mut self, layout: String, reference: String) -> CallResult<wit::Descriptor> {
        Ok(self.images.push(&layout, &reference).await?.into())
    }

    async fn resolve(&mut self, reference: String) -> CallResult<wit::Descriptor> {
        Ok(self.images.resolve(&reference).await?.into())
    }

    async fn copy(&mut self, source: String, destination: String) -> CallResult<wit::Descriptor> {
        Ok(self.images.copy(&source, &destination).await?.into())
    }

    async fn pull(&mut self, reference: String, layout: String) -> CallResult<wit::Descriptor> {
        Ok(self.images.pull(&reference, &layout).await?.into())
    }
}
