use std::sync::Arc;
use crate::attempt::Attempt;
use crate::call::CallResult;
use crate::capability::http::OwnOrigins;
use crate::policy::Policy;
use crate::since_0_1::stagewright::stage::service::*;
use wasmtime::component::Resource;
use crate::capability::secrets::SecretHandle;
use crate::error::*;
pub struct ServiceManager;
pub(crate) struct Services;
pub struct ReleaseBuilder; pub(crate) struct InstanceHandle;
impl Services { pub(crate) fn new(_: Arc<ServiceManager>, _: Arc<Policy>, _: OwnOrigins, _: Option<String>, _: bool) -> Services { Services } }
fn no<T>() -> CallResult<T> { Err(CapabilityError::new(ErrorCode::Unavailable, "not yet").into()) }
impl HostRelease for Attempt {
 async fn new(&mut self, _: String, _: String) -> wasmtime::Result<Resource<ReleaseBuilder>> { Ok(self.table.push(ReleaseBuilder)?) }
 async fn args(&mut self, _: Resource<ReleaseBuilder>, _: Vec<String>) -> wasmtime::Result<()> { Ok(()) }
 async fn env(&mut self, _: Resource<ReleaseBuilder>, _: String, _: String) -> wasmtime::Result<()> { Ok(()) }
 async fn secret_env(&mut self, _: Resource<ReleaseBuilder>, _: String, _: Resource<SecretHandle>) -> wasmtime::Result<()> { Ok(()) }
 async fn port(&mut self, _: Resource<ReleaseBuilder>, _: u16) -> wasmtime::Result<()> { Ok(()) }
 async fn keep(&mut self, _: Resource<ReleaseBuilder>, _: u32) -> wasmtime::Result<()> { Ok(()) }
 async fn stop_grace_ms(&mut self, _: Resource<ReleaseBuilder>, _: u32) -> wasmtime::Result<()> { Ok(()) }
 async fn start(&mut self, _: Resource<ReleaseBuilder>) -> CallResult<Resource<InstanceHandle>> { no() }
 async fn drop(&mut self, r: Resource<ReleaseBuilder>) -> wasmtime::Result<()> { self.table.delete(r)?; Ok(()) }
}
impl HostInstance for Attempt {
 async fn release(&mut self, _: Resource<InstanceHandle>) -> wasmtime::Result<String> { Ok(String::new()) }
 async fn address(&mut self, _: Resource<InstanceHandle>) -> wasmtime::Result<String> { Ok(String::new()) }
 async fn state(&mut self, _: Resource<InstanceHandle>) -> CallResult<State> { no() }
 async fn log_tail(&mut self, _: Resource<InstanceHandle>, _: u32) -> CallResult<String> { no() }
 async fn promote(&mut self, _: Resource<InstanceHandle>) -> CallResult<()> { no() }
 async fn discard(&mut self, _: Resource<InstanceHandle>) -> CallResult<()> { no() }
 async fn drop(&mut self, r: Resource<InstanceHandle>) -> wasmtime::Result<()> { self.table.delete(r)?; Ok(()) }
}
impl Host for Attempt { async fn current(&mut self, _: String) -> CallResult<Option<String>> { no() } }
