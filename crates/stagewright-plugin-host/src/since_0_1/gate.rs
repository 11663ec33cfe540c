//! `gate`.

use stagewright_engine::{Field, FieldKind};
use wasmtime::component::Resource;

use super::stagewright::stage::gate::{FieldKind as WitFieldKind, Host, HostApproval};
use crate::attempt::Attempt;
use crate::call::{CallError, CallResult};
use crate::capability::gate::ApprovalBuilder;

/// Stands for all opened gates in the count of the memory that the host keeps for handles; not the number of a handle.
const OPENED: u32 = u32::MAX;

impl HostApproval for Attempt {
    async fn new(&mut self, message: String) -> wasmtime::Result<Resource<ApprovalBuilder>> {
        let message = self.log.masker().text(&message);
        let size = message.len();
        let approval = self.handles.push(ApprovalBuilder::new(message))?;
        self.handles.keep(&approval, size)?;
        Ok(approval)
    }

    async fn approver(&mut self, approval: Resource<ApprovalBuilder>, who: String) -> wasmtime::Result<()> {
        self.handles.keep(&approval, who.len())?;
        self.handles.get_mut(&approval)?.approvers.push(who);
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
            WitFieldKind::Text => FieldKind::Text,
            WitFieldKind::Number => FieldKind::Number,
            WitFieldKind::Boolean => FieldKind::Boolean,
        };
        self.handles.keep(&approval, name.len() + description.len())?;
        self.handles.get_mut(&approval)?.fields.push(Field { name, kind, description, required });
        Ok(())
    }

    async fn expires_ms(&mut self, approval: Resource<ApprovalBuilder>, duration: u64) -> wasmtime::Result<()> {
        self.handles.get_mut(&approval)?.expires_ms = Some(duration);
        Ok(())
    }

    async fn open(&mut self, approval: Resource<ApprovalBuilder>) -> CallResult<String> {
        // Each opened gate is kept until the attempt ends.
        self.handle_memory
            .take(OPENED, self.handles.get(&approval)?.size())
            .map_err(|error| CallError::Trap(error.into()))?;
        let approval = self.handles.get(&approval)?.clone();
        Ok(self.gates.open(approval, self.context.request())?)
    }

    async fn drop(&mut self, approval: Resource<ApprovalBuilder>) -> wasmtime::Result<()> {
        self.handles.delete(approval)?;
        Ok(())
    }
}

impl Host for Attempt {}
