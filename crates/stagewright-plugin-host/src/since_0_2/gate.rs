//! `gate`.

use stagewright_engine::{Field, FieldKind};
use wasmtime::component::Resource;

use super::stagewright::gate::gate::{FieldKind as WitFieldKind, Host, HostApproval};
use super::{Answer, size_of};
use crate::attempt::Attempt;
use crate::capability::gate::ApprovalBuilder;
use crate::guest::Suspension;

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
            WitFieldKind::Text => FieldKind::Text,
            WitFieldKind::Number => FieldKind::Number,
            WitFieldKind::Boolean => FieldKind::Boolean,
        };
        let approval = self.handles.grow(&approval, name.len() + description.len())?;
        approval.fields.push(Field { name, kind, description, required, choices: Vec::new() });
        Ok(())
    }

    async fn choice(
        &mut self,
        approval: Resource<ApprovalBuilder>,
        name: String,
        choices: Vec<String>,
        description: String,
        required: bool,
    ) -> wasmtime::Result<()> {
        let size = name.len() + size_of(&choices) + description.len();
        self.handles.grow(&approval, size)?.choice(name, choices, description, required);
        Ok(())
    }

    async fn expires_ms(&mut self, approval: Resource<ApprovalBuilder>, duration: u64) -> wasmtime::Result<()> {
        self.handles.get_mut(&approval)?.expires_ms = Some(duration);
        Ok(())
    }

    async fn open(&mut self, approval: Resource<ApprovalBuilder>) -> Answer<Resource<Suspension>> {
        let approval = self.handles.get(&approval)?.clone();
        self.handles.keep_always(approval.size())?;
        let opened = self.gates.open(approval, self.context.request());
        self.answer_with_handle(opened.map(|gate| Suspension::Gate(Box::new(gate))))
    }

    async fn drop(&mut self, approval: Resource<ApprovalBuilder>) -> wasmtime::Result<()> {
        self.handles.delete(approval)?;
        Ok(())
    }
}

impl Host for Attempt {}
