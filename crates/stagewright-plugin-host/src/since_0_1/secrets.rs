//! `secrets`.

use wasmtime::component::Resource;

use super::stagewright::stage::secrets::{Host, HostSecret};
use crate::attempt::Attempt;
use crate::call::CallResult;
use crate::capability::secrets::SecretHandle;

impl HostSecret for Attempt {
    async fn reveal(&mut self, secret: Resource<SecretHandle>) -> CallResult<String> {
        Ok(self.secrets.reveal(self.handles.get(&secret)?)?)
    }

    async fn drop(&mut self, secret: Resource<SecretHandle>) -> wasmtime::Result<()> {
        self.handles.delete(secret)?;
        Ok(())
    }
}

impl Host for Attempt {
    async fn get(&mut self, name: String) -> CallResult<Resource<SecretHandle>> {
        let handle = self.secrets.get(&name).await?;
        Ok(self.handles.push(handle)?)
    }
}
