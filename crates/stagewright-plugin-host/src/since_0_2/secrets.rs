//! `secrets` and `reveal`.

use wasmtime::component::Resource;

use super::Answer;
use super::stagewright::secrets::{reveal, secrets};
use crate::attempt::Attempt;
use crate::capability::secrets::SecretHandle;

impl secrets::HostSecret for Attempt {
    async fn name(&mut self, secret: Resource<SecretHandle>) -> wasmtime::Result<String> {
        Ok(self.handles.get(&secret)?.name().to_owned())
    }

    async fn drop(&mut self, secret: Resource<SecretHandle>) -> wasmtime::Result<()> {
        self.handles.delete(secret)?;
        Ok(())
    }
}

impl secrets::Host for Attempt {
    async fn get(&mut self, name: String) -> Answer<Resource<SecretHandle>> {
        let found = self.secrets.get(&name).await;
        self.answer_with_handle(found)
    }
}

impl reveal::Host for Attempt {
    async fn reveal(&mut self, secret: Resource<SecretHandle>) -> Answer<String> {
        let revealed = self.secrets.reveal(self.handles.get(&secret)?);
        self.answer(revealed)
    }
}
