//! `http`.

use std::time::Duration;

use wasmtime::component::Resource;

use super::Answer;
use super::stagewright::http::http::{Host, HostPendingResponse, HostRequest, HostResponse};
use crate::attempt::Attempt;
use crate::capability::http::{PendingResponse, RequestBuilder, ResponseHandle, SecretHeader};
use crate::capability::poll::{Pollable, wait_any};
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

    async fn url_secret(
        &mut self,
        request: Resource<RequestBuilder>,
        value: Resource<SecretHandle>,
    ) -> wasmtime::Result<()> {
        let secret = self.handles.get(&value)?.clone();
        self.handles.get_mut(&request)?.url_secret(&self.http.quota, secret);
        Ok(())
    }

    async fn body(&mut self, request: Resource<RequestBuilder>, data: Vec<u8>) -> wasmtime::Result<()> {
        self.handles.get_mut(&request)?.bytes(&self.http.quota, data);
        Ok(())
    }

    async fn append(&mut self, request: Resource<RequestBuilder>, data: Vec<u8>) -> wasmtime::Result<()> {
        self.handles.get_mut(&request)?.append(&self.http.quota, data);
        Ok(())
    }

    async fn append_secret(
        &mut self,
        request: Resource<RequestBuilder>,
        value: Resource<SecretHandle>,
        encoding: String,
    ) -> wasmtime::Result<()> {
        let secret = self.handles.get(&value)?.clone();
        self.handles.get_mut(&request)?.append_secret(&self.http.quota, secret, &encoding);
        Ok(())
    }

    async fn body_file(&mut self, request: Resource<RequestBuilder>, path: String) -> wasmtime::Result<()> {
        self.handles.get_mut(&request)?.file(&self.http.quota, path);
        Ok(())
    }

    async fn timeout_ms(&mut self, request: Resource<RequestBuilder>, timeout: u64) -> wasmtime::Result<()> {
        self.handles.get_mut(&request)?.timeout = Some(Duration::from_millis(timeout));
        Ok(())
    }

    async fn max_redirects(&mut self, request: Resource<RequestBuilder>, count: u32) -> wasmtime::Result<()> {
        self.handles.get_mut(&request)?.max_redirects = count;
        Ok(())
    }

    async fn send(&mut self, request: Resource<RequestBuilder>) -> Answer<Resource<ResponseHandle>> {
        let sent = self.http.send(self.handles.get(&request)?).await;
        self.answer_with_handle(sent)
    }

    async fn start(&mut self, request: Resource<RequestBuilder>) -> wasmtime::Result<Resource<PendingResponse>> {
        let pending = self.http.start(self.handles.get(&request)?.clone());
        Ok(self.handles.push(pending)?)
    }

    async fn drop(&mut self, request: Resource<RequestBuilder>) -> wasmtime::Result<()> {
        self.handles.delete(request)?;
        Ok(())
    }
}

impl HostPendingResponse for Attempt {
    async fn ready(&mut self, pending: Resource<PendingResponse>) -> wasmtime::Result<Resource<Pollable>> {
        let ready = self.handles.get(&pending)?.ready();
        Ok(self.handles.push(ready)?)
    }

    async fn response(&mut self, pending: Resource<PendingResponse>) -> Answer<Resource<ResponseHandle>> {
        let ready = self.handles.get(&pending)?.ready();
        let response = match wait_any(&[ready], &self.cancel).await {
            Ok(_) => self.handles.get(&pending)?.take(),
            Err(cancelled) => Err(cancelled),
        };
        self.answer_with_handle(response)
    }

    async fn drop(&mut self, pending: Resource<PendingResponse>) -> wasmtime::Result<()> {
        self.handles.delete(pending)?;
        Ok(())
    }
}

impl HostResponse for Attempt {
    async fn status(&mut self, response: Resource<ResponseHandle>) -> wasmtime::Result<u16> {
        Ok(self.handles.get(&response)?.status)
    }

    async fn header(&mut self, response: Resource<ResponseHandle>, name: String) -> wasmtime::Result<Vec<String>> {
        Ok(self.handles.get(&response)?.header(&name, self.log.masker()))
    }

    async fn headers(&mut self, response: Resource<ResponseHandle>) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.handles.get(&response)?.headers(self.log.masker()))
    }

    async fn url(&mut self, response: Resource<ResponseHandle>) -> wasmtime::Result<String> {
        Ok(self.handles.get(&response)?.url(self.log.masker()))
    }

    async fn read(&mut self, response: Resource<ResponseHandle>, max_bytes: u32) -> Answer<Vec<u8>> {
        let data = self.handles.get_mut(&response)?.read(max_bytes as usize).await;
        self.answer(data)
    }

    async fn readable(&mut self, response: Resource<ResponseHandle>) -> wasmtime::Result<Resource<Pollable>> {
        let readable = self.handles.get(&response)?.readable();
        Ok(self.handles.push(readable)?)
    }

    async fn save(&mut self, response: Resource<ResponseHandle>, path: String) -> Answer<u64> {
        let workspace = self.workspace.clone();
        let saved = self.handles.get_mut(&response)?.save(&workspace, path).await;
        self.answer(saved)
    }

    async fn drop(&mut self, response: Resource<ResponseHandle>) -> wasmtime::Result<()> {
        self.handles.delete(response)?;
        Ok(())
    }
}

impl Host for Attempt {
    async fn endpoint(&mut self, credential: String) -> Answer<String> {
        let endpoint = self.http.endpoint(&credential).await;
        self.answer(endpoint)
    }
}
