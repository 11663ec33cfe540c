//! `gate`.

use wasmtime::component::Resource;

use super::stagewright::stage::gate::{FieldKind as WitFieldKind, Host, HostApproval};
use crate::attempt::Attempt;
use crate::call::{CallError, CallResult};
use crate::capability::gate::{ApprovalBuilder, FieldBuilder};

impl HostApproval for Attempt {
    async fn new(&mut self, message: String) -> wasmtime::Result<Resource<ApprovalBuilder>> {
        let message = self.log.masker().text(&message);
        let size = message.len();
        self.handles.push_sized(ApprovalBuilder::new(message), size)
    }

    async fn approver(&mut self, approval: Resource<ApprovalBuilder>, who: String) -> wasmtime::Result<()> {
        self.handles.grow(&approval, who.len())?.approvers.push(who);
        Ok(())
    }

    async fn approvals(&mut self, approval: Resource<ApprovalBuilder>, count: u32) -> wasmtime::Result<()> {
        self.handles.get_mut(&approval)?.approvals = count;
        Ok(())
    }

    async fn field(
        &mut self,
        approval: Resource<ApprovalBuilder>,
        name: String,
        kind: WitFieldKind,
        description: String,
        required: bool,
    ) -> wasmtime::Result<()> {
        let kind = match kind {
            WitFieldKind::Text => "text",
            WitFieldKind::Number => "number",
            WitFieldKind::Boolean => "boolean",
        };
        let size = name.len() + description.len();
        let field = FieldBuilder { name, kind: kind.to_owned(), description, required, choices: None };
        self.handles.grow(&approval, size)?.fields.push(field);
        Ok(())
    }

    async fn expires_ms(&mut self, approval: Resource<ApprovalBuilder>, duration: u64) -> wasmtime::Result<()> {
        self.handles.get_mut(&approval)?.expires_ms = Some(duration);
        Ok(())
    }

    async fn open(&mut self, approval: Resource<ApprovalBuilder>) -> CallResult<String> {
        // Each opened gate is kept until the attempt ends.
        let size = self.handles.get(&approval)?.size();
        self.handles.keep_always(size).map_err(CallError::Trap)?;
        let approval = self.handles.get(&approval)?.clone();
        Ok(self.gates.open(approval, self.context.request())?.token)
    }

    async fn drop(&mut self, approval: Resource<ApprovalBuilder>) -> wasmtime::Result<()> {
        self.handles.delete(approval)?;
        Ok(())
    }
}

impl Host for Attempt {}
