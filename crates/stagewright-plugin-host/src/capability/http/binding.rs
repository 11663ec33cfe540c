//! The bindings of `http`.

use std::time::Duration;

use wasmtime::component::Resource;

use super::super::secrets::SecretHandle;
use super::{Body, RequestBuilder, ResponseHandle, SecretHeader};
use crate::attempt::Attempt;
use crate::call::CallResult;
use crate::since_0_1::stagewright::stage::http::{Host, HostRequest, HostResponse};

impl HostRequest for Attempt {
    async fn new(&mut self, method: String, url: String) -> wasmtime::Result<Resource<RequestBuilder>> {
        Ok(self.table.push(RequestBuilder::new(method, url))?)
    }

    async fn header(&mut self, request: Resource<RequestBuilder>, name: String, value: String) -> wasmtime::Result<()> {
        self.table.get_mut(&request)?.headers.push((name, value));
        Ok(())
    }

    async fn secret_header(
        &mut self,
        request: Resource<RequestBuilder>,
        name: String,
        prefix: String,
        value: Resource<SecretHandle>,
    ) -> wasmtime::Result<()> {
        let secret = self.table.get(&value)?.clone();
        self.table.get_mut(&request)?.secret_headers.push(SecretHeader { name, prefix, secret });
        Ok(())
    }

    async fn body(&mut self, request: Resource<RequestBuilder>, data: Vec<u8>) -> wasmtime::Result<()> {
        self.table.get_mut(&request)?.body = Body::Bytes(data);
        Ok(())
    }

    async fn body_file(&mut self, request: Resource<RequestBuilder>, path: String) -> wasmtime::Result<()> {
        self.table.get_mut(&request)?.body = Body::File(path);
        Ok(())
    }

    async fn timeout_ms(&mut self, request: Resource<RequestBuilder>, timeout: u32) -> wasmtime::Result<()> {
        self.table.get_mut(&request)?.timeout = Some(Duration::from_millis(timeout.into()));
        Ok(())
    }

    async fn max_redirects(&mut self, request: Resource<RequestBuilder>, count: u32) -> wasmtime::Result<()> {
        self.table.get_mut(&request)?.max_redirects = count;
        Ok(())
    }

    async fn send(&mut self, request: Resource<RequestBuilder>) -> CallResult<Resource<ResponseHandle>> {
        let response = self.http.send(self.table.get(&request)?).await?;
        Ok(self.table.push(response)?)
    }

    async fn drop(&mut self, request: Resource<RequestBuilder>) -> wasmtime::Result<()> {
        self.table.delete(request)?;
        Ok(())
    }
}

impl HostResponse for Attempt {
    async fn status(&mut self, response: Resource<ResponseHandle>) -> wasmtime::Result<u16> {
        Ok(self.table.get(&response)?.status)
    }

    async fn header(&mut self, response: Resource<ResponseHandle>, name: String) -> wasmtime::Result<Option<String>> {
        let value = self.table.get(&response)?.headers.get(name);
        let text = value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        Ok(text.map(|text| self.log.masker().text(&text)))
    }

    async fn read(&mut self, response: Resource<ResponseHandle>, max_bytes: u32) -> CallResult<Vec<u8>> {
        Ok(self.table.get_mut(&response)?.read(max_bytes as usize).await?)
    }

    async fn save(&mut self, response: Resource<ResponseHandle>, path: String) -> CallResult<u64> {
        let workspace = self.workspace.clone();
        Ok(self.table.get_mut(&response)?.save(&workspace, path).await?)
    }

    async fn drop(&mut self, response: Resource<ResponseHandle>) -> wasmtime::Result<()> {
        self.table.delete(response)?;
        Ok(())
    }
}

impl Host for Attempt {}
