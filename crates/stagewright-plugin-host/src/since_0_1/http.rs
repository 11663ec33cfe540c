//! `http`.

use std::time::Duration;

use wasmtime::component::Resource;

use super::stagewright::stage::http::{Host, HostRequest, HostResponse};
use crate::attempt::Attempt;
use crate::call::CallResult;
use crate::capability::http::{RequestBuilder, ResponseHandle, SecretHeader};
use crate::capability::secrets::SecretHandle;

impl HostRequest for Attempt {
    async fn new(&mut self, method: String, url: String) -> wasmtime::Result<Resource<RequestBuilder>> {
        Ok(self.handles.push(self.http.request(method, url))?)
    }

    async fn header(&mut self, request: Resource<RequestBuilder>, name: String, value: String) -> wasmtime::Result<()> {
        self.handles.get_mut(&request)?.header(&self.http.quota, name, value);
        Ok(())
    }

    async fn secret_header(
        &mut self,
        request: Resource<RequestBuilder>,
        name: String,
        prefix: String,
        value: Resource<SecretHandle>,
    ) -> wasmtime::Result<()> {
        let secret = self.handles.get(&value)?.clone();
        let header = SecretHeader { name, prefix, secret };
        self.handles.get_mut(&request)?.secret_header(&self.http.quota, header);
        Ok(())
    }

    async fn body(&mut self, request: Resource<RequestBuilder>, data: Vec<u8>) -> wasmtime::Result<()> {
        self.handles.get_mut(&request)?.bytes(&self.http.quota, data);
        Ok(())
    }

    async fn body_file(&mut self, request: Resource<RequestBuilder>, path: String) -> wasmtime::Result<()> {
        self.handles.get_mut(&request)?.file(&self.http.quota, path);
        Ok(())
    }

    async fn timeout_ms(&mut self, request: Resource<RequestBuilder>, timeout: u32) -> wasmtime::Result<()> {
        self.handles.get_mut(&request)?.timeout = Some(Duration::from_millis(timeout.into()));
        Ok(())
    }

    async fn max_redirects(&mut self, request: Resource<RequestBuilder>, count: u32) -> wasmtime::Result<()> {
        self.handles.get_mut(&request)?.max_redirects = count;
        Ok(())
    }

    async fn send(&mut self, request: Resource<RequestBuilder>) -> CallResult<Resource<ResponseHandle>> {
        let response = self.http.send(self.handles.get(&request)?).await?;
        Ok(self.handles.push(response)?)
    }

    async fn drop(&mut self, request: Resource<RequestBuilder>) -> wasmtime::Result<()> {
        self.handles.delete(request)?;
        Ok(())
    }
}

impl HostResponse for Attempt {
    async fn status(&mut self, response: Resource<ResponseHandle>) -> wasmtime::Result<u16> {
        Ok(self.handles.get(&response)?.status)
    }

    async fn header(&mut self, response: Resource<ResponseHandle>, name: String) -> wasmtime::Result<Option<String>> {
        Ok(self.handles.get(&response)?.header(&name, self.log.masker()).into_iter().next())
    }

    async fn read(&mut self, response: Resource<ResponseHandle>, max_bytes: u32) -> CallResult<Vec<u8>> {
        Ok(self.handles.get_mut(&response)?.read(max_bytes as usize).await?)
    }

    async fn save(&mut self, response: Resource<ResponseHandle>, path: String) -> CallResult<u64> {
        let workspace = self.workspace.clone();
        Ok(self.handles.get_mut(&response)?.save(&workspace, path).await?)
    }

    async fn drop(&mut self, response: Resource<ResponseHandle>) -> wasmtime::Result<()> {
        self.handles.delete(response)?;
        Ok(())
    }
}

impl Host for Attempt {}
